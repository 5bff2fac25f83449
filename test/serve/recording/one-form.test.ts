import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bags } from '../../../src/embedding/bag.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { copyOf, formOf, inForm } from '../../../src/serve/recording/one-form.ts';
import { smallModel } from '../../support/models.ts';
import fc from '../../support/properties.ts';
import { Random } from '../../support/random.ts';
import { expandUsers, usersProblem } from '../../support/users.ts';

const { tables } = smallModel(new Random(1), 'cat');

function requestOf(seed: number, candidates: readonly number[], form: readonly boolean[]): DlrmRequest {
  const starts = [0];
  for (const count of candidates) starts.push((starts.at(-1) as number) + count);
  const { batch } = usersProblem(new Random(seed), tables, {
    starts,
    perUser: (t) => form[t] === true,
    weighted: (t) => t !== 1,
  });
  const dense = Float32Array.from({ length: batch.batchSize * 2 }, (_, i) => i);
  return { ...batch, dense, denseFeatures: 2 };
}

const forms = fc.tuple(fc.boolean(), fc.boolean(), fc.boolean());
const requests = fc
  .record({
    seed: fc.nat(9999),
    candidates: fc.array(fc.nat(4), { minLength: 1, maxLength: 5 }),
    form: forms,
  })
  .map(({ seed, candidates, form }) => requestOf(seed, candidates, form));

/** What each sample looks up, by table, with weights. */
function lookupsOf(request: DlrmRequest): unknown {
  const { bags, batchSize } = expandUsers(request);
  return bags.map(({ indices, offsets, weights }: Bags) =>
    Array.from({ length: batchSize }, (_, b) => {
      const range = [Number(offsets[b]), b + 1 < offsets.length ? Number(offsets[b + 1]) : indices.length];
      return [Array.from(indices.subarray(...range), Number), [...(weights?.subarray(...range) ?? [])]];
    }),
  );
}

test('in any form, samples look up the same', () => {
  fc.assert(
    fc.property(requests, forms, (request, form) => {
      const made = inForm(request, form);
      assert.deepEqual(formOf(made), form);
      assert.deepEqual(lookupsOf(made), lookupsOf(request));
      assert.equal(made.users !== undefined, form.includes(true));
      if (made.users !== undefined) assert.equal(made.users.at(-1), request.batchSize);
      assert.equal(made.dense, request.dense);
      for (const [t, { indices }] of made.bags.entries())
        assert.equal(indices.constructor, request.bags[t]?.indices.constructor);
    }),
  );
});

test('what has the form already stays as it is', () => {
  const request = requestOf(3, [2, 1], [true, false, true]);
  assert.equal(inForm(request, [true, false, true]), request);
  const plain = requestOf(3, [2, 1], [false, false, false]);
  assert.notEqual(plain.users, undefined);
  const { users: _, ...rest } = plain;
  assert.deepEqual(inForm(plain, [false, false, false]), rest);
});

test('a copy is the same, without what no bag has, and shares nothing', () => {
  fc.assert(
    fc.property(requests, (request) => {
      const own = copyOf(request);
      const before = JSON.stringify(lookupsOf(request));
      assert.deepEqual(lookupsOf(own), lookupsOf(request));
      assert.deepEqual(own.users, request.users);
      assert.deepEqual(own.dense, request.dense);
      for (const { indices, offsets, weights } of request.bags) {
        for (const { buffer, byteOffset, byteLength } of [indices, offsets])
          new Uint8Array(buffer, byteOffset, byteLength).fill(0);
        weights?.fill(0);
      }
      request.dense.fill(-1);
      assert.equal(JSON.stringify(lookupsOf(own)), before);
      assert.ok(own.dense.every((value) => value >= 0));
    }),
  );
  const bags = [
    { indices: Int32Array.of(1, 2, 3, 9), offsets: Int32Array.of(0, 3), weights: new Float32Array(4) },
  ];
  const [own] = copyOf({ batchSize: 1, dense: new Float32Array(1), denseFeatures: 1, bags }).bags;
  assert.deepEqual([...(own?.indices ?? [])], [1, 2, 3]);
  assert.equal(own?.weights?.length, 3);
});
