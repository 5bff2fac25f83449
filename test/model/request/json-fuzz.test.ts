/** Any JSON, and damaged text, is read or refused with a typed error. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import Value from 'typebox/value';
import { HotrowError, type RequestError } from '../../../src/errors.ts';
import { jsonRequest } from '../../../src/model/request/json-request.ts';
import { parseSamples, requestSchema } from '../../../src/model/request/json-samples.ts';
import {
  firstSample as first,
  jsonInputs as inputs,
  readJson as read,
  secondSample as second,
} from '../../support/json-requests.ts';
import fc from '../../support/properties.ts';

describe('any JSON', () => {
  const name = fc.constantFrom(
    'ads',
    'city',
    'big',
    'x',
    'y',
    'a\nb',
    'dense',
    'features',
    'ids',
    'weights',
    '0',
  );
  const leaf = fc.oneof(
    fc.integer({ min: -9, max: 9 }),
    fc.constantFrom('a', '5', '', null, true, 1.5, 2 ** 53, 1e300),
  );
  const ids = fc.array(fc.oneof({ weight: 9, arbitrary: fc.constantFrom<unknown>(5, 6, 'a', 'b') }, leaf), {
    maxLength: 3,
  });
  const lookups = fc.oneof(
    { weight: 5, arbitrary: ids },
    fc.record({ ids, weights: fc.array(fc.double(), { maxLength: 3 }) }, { requiredKeys: [] }),
    leaf,
  );
  const dense = fc.oneof(
    fc.array(fc.integer(), { minLength: 2, maxLength: 2 }),
    fc.record({ x: leaf, y: fc.integer() }),
    fc.dictionary(name, leaf),
    leaf,
  );
  const sample = fc.oneof(
    {
      weight: 9,
      arbitrary: fc.record({ dense, features: fc.dictionary(name, lookups) }, { requiredKeys: [] }),
    },
    fc.dictionary(name, lookups),
    leaf,
  );
  const request = fc.oneof(
    sample,
    fc.record({ samples: fc.array(sample, { maxLength: 3 }) }),
    fc.record({ user: sample, candidates: fc.array(sample, { maxLength: 3 }) }),
  );

  test('is read, or refused with a typed error', async () => {
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(request, async (value) => {
        const error = await read(value).then(
          () => undefined,
          (cause: unknown) => cause,
        );
        if (error === undefined) accepted += 1;
        else assert.ok(error instanceof HotrowError, String((error as Error).stack));
      }),
      { numRuns: 1000 },
    );
    assert.ok(accepted > 20, `${accepted} of 1000 were read`);
  });

  test('has the structure that the schema says, or is refused', () => {
    fc.assert(
      fc.property(request, (given) => {
        const value = JSON.parse(JSON.stringify(given));
        let error: unknown;
        try {
          parseSamples(value);
        } catch (cause) {
          error = cause;
        }
        assert.equal(error === undefined, Value.Check(requestSchema, value), String(error));
        if (error !== undefined) assert.equal((error as RequestError).code, 'REQUEST_INVALID');
      }),
      { numRuns: 1000 },
    );
  });

  test('text with damage is refused with a typed error', async () => {
    const text = JSON.stringify({ user: first, candidates: [second, { ...second, dense: { x: 1 } }] });
    await fc.assert(
      fc.asyncProperty(
        fc.nat(text.length),
        fc.string({ maxLength: 3 }),
        fc.nat(3),
        async (at, inserted, removed) => {
          const damaged = text.slice(0, at) + inserted + text.slice(at + removed);
          const error = await jsonRequest(damaged, inputs).then(
            () => undefined,
            (cause: unknown) => cause,
          );
          if (error !== undefined) assert.ok(error instanceof HotrowError, String((error as Error).stack));
        },
      ),
      { numRuns: 1000 },
    );
  });
});
