/** Tensors of any name, shape and dtype are read as a request, or refused with a typed error. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { elementCount } from '../../../src/tensor.ts';
import fc from '../../support/properties.ts';
import {
  f32,
  feature,
  i32,
  i64,
  inputsOf,
  readTensors,
  type Tensors,
} from '../../support/request-tensors.ts';

const inputs = inputsOf(
  [
    feature('ads', { missing: { ids: [1, 2] }, weighted: true }),
    feature('b', { ids: { kind: 'vocabulary', values: [0, 1, 2] }, unknown: 'skip', missing: 'empty' }),
    feature('c', { missing: 'empty', longestBag: 2 }),
  ],
  ['x', 'y'],
);

const roles = ['indices', 'values', 'offsets', 'lengths', 'weights', 'dense'];
const ends = ['', '', '.0', '.1', '.2', '.b', '.c', '.x', '.y', '.', '.01'];
const name = fc.oneof(
  fc
    .tuple(fc.constantFrom('', '', 'user.'), fc.constantFrom(...roles), fc.constantFrom(...ends))
    .map((parts) => parts.join('')),
  fc.constantFrom('dense', 'users', 'user.dense', 'x'),
);
const shape = fc.oneof(
  fc.array(fc.nat(3), { maxLength: 3 }),
  fc.constantFrom<number[]>([2], [2, 2], [3], [2, 1], [2 ** 40, 0], [0, 2 ** 40], [2, 2 ** 40, 0]),
);
const tensor = fc
  .tuple(
    fc.constantFrom(f32, i32, i64),
    shape,
    fc.array(fc.integer({ min: -1, max: 3 }), { minLength: 27, maxLength: 27 }),
  )
  .map(([make, extents, values]) => make(extents, values.slice(0, elementCount(extents))));
/** Two samples whose dense features are right, with what else there is. */
const request = fc
  .tuple(fc.dictionary(name, tensor, { maxKeys: 5 }), fc.boolean())
  .map(([tensors, right]): Tensors => (right ? { ...tensors, dense: f32([2, 2]) } : tensors));
const metadata = fc.constantFrom({}, {}, { features: '["c","b"]' }, { 'user.features': '["b"]' });

test('any tensors', async () => {
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(request, metadata, fc.boolean(), async (tensors, keys, known) => {
      const error = await readTensors(tensors, known ? inputs : undefined, keys).then(
        () => undefined,
        (cause: unknown) => cause,
      );
      if (error === undefined) accepted += 1;
      else assert.ok(error instanceof HotrowError, String((error as Error).stack));
    }),
    { numRuns: 1000 },
  );
  assert.ok(accepted > 5, `${accepted} of 1000 were read`);
});
