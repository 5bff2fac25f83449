import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import type { Measured } from '../../../src/serve/batching/latency-model.ts';
import { type WarmUpModel, warmUp } from '../../../src/serve/engine/warm-up.ts';
import { smallModel } from '../../support/models.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

const NEVER = Number.POSITIVE_INFINITY;

/** A model that keeps what it is asked, and takes `ms` at least for batches from `slowFrom` on. */
function watched({ slowFrom = NEVER, ms = 0, compilesKernels = false } = {}) {
  const requests: DlrmRequest[] = [];
  const architecture = smallModel(new Random(SEED), 'dot-lower');
  const predict = async (request: DlrmRequest) => {
    requests.push(request);
    assert.ok(requests.length < 100);
    const began = performance.now();
    while (request.batchSize >= slowFrom && performance.now() - began < ms);
  };
  const device = { capabilities: { compilesKernels } };
  const model = { architecture, predict, device } as unknown as WarmUpModel;
  const told: number[] = [];
  /** Programs have room for 3 · 2^k samples. */
  const backend = {
    capacityFor: (samples: number) => 3 * 2 ** Math.max(0, Math.ceil(Math.log2(samples / 3))),
  };
  const warm = (
    mostSamples: number,
    longestMs = NEVER,
    bagLengths?: string,
    atOnce = 1,
    known?: readonly Measured[],
  ) =>
    warmUp(model, {
      backend,
      mostSamples,
      atOnce,
      longestMs,
      bagLengths,
      known,
      onProgress: (size) => told.push(size),
    });
  /** Of batches without users. */
  const sizes = () => requests.flatMap(({ batchSize, users }) => (users === undefined ? [batchSize] : []));
  return { architecture, requests, told, warm, sizes };
}

const fourTimes = (sizes: readonly number[]) => sizes.flatMap((size) => [size, size, size, size]);

for (const { compilesKernels, mostSamples, expected } of [
  { compilesKernels: false, mostSamples: 1, expected: [1] },
  { compilesKernels: false, mostSamples: 16, expected: [1, 4, 16] },
  { compilesKernels: false, mostSamples: 100, expected: [1, 4, 16, 64, 100] },
  { compilesKernels: true, mostSamples: 24, expected: [1, 3, 6, 12, 24] },
  { compilesKernels: true, mostSamples: 25, expected: [1, 3, 6, 12, 24, 25] },
])
  test(`batches of up to ${mostSamples}, ${compilesKernels ? 'of every program' : 'growing'}, four times each`, async () => {
    const { warm, told, sizes } = watched({ compilesKernels });
    const measured = await warm(mostSamples);
    assert.deepEqual(
      measured.map(({ samples }) => samples),
      expected,
    );
    for (const { ms } of measured) assert.ok(ms >= 0 && Number.isFinite(ms));
    assert.deepEqual(sizes(), fourTimes(expected));
    assert.deepEqual(told, expected);
  });

test('where several batches are under way at once, all are prepared and captured; one at a time is measured', async () => {
  const { warm, sizes } = watched({ compilesKernels: true });
  await warm(3, NEVER, undefined, 2);
  assert.deepEqual(sizes(), [1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3]);
});

test('the first size that takes too long is the last, and is measured', async () => {
  const { warm, sizes } = watched({ slowFrom: 1, ms: 3 });
  const measured = await warm(4096, 2);
  assert.equal(measured.length, 1);
  assert.ok((measured[0]?.ms ?? 0) >= 3);
  assert.deepEqual(sizes(), [1, 1, 1, 1]);
});

test('where it is known how long batches take none is timed, and only what a device compiles is prepared', async () => {
  const known = [1, 24].map((samples) => ({ samples, ms: samples }));
  const plain = watched();
  assert.equal(await plain.warm(24, NEVER, undefined, 1, known), known);
  assert.deepEqual(plain.sizes(), [1, 1]);
  const compiling = watched({ compilesKernels: true });
  assert.equal(await compiling.warm(24, NEVER, undefined, 1, known), known);
  assert.deepEqual(compiling.sizes(), [1, 1, 3, 3, 6, 6, 12, 12, 24, 24]);
  // 6 ms for 6 samples is too long.
  const slow = watched({ compilesKernels: true });
  await slow.warm(24, 5, undefined, 1, known);
  assert.deepEqual(slow.sizes(), [1, 1, 3, 3, 6, 6]);
});

test('requests are the model’s, with bags of the lengths that are known or usual', async () => {
  for (const [bagLengths, lookups] of [
    ['3', 3],
    [undefined, 10],
  ] as const) {
    const { architecture, warm, requests } = watched();
    await warm(4, NEVER, bagLengths);
    const { tables, denseFeatures } = architecture;
    assert.equal(requests.filter(({ users }) => users !== undefined).length, 1, 'bags per user run once');
    for (const { batchSize, dense, bags } of requests) {
      assert.equal(dense.length, batchSize * denseFeatures);
      assert.deepEqual(
        bags.map(({ indices }) => indices.length),
        tables.map(() => batchSize * lookups),
      );
      assert.ok(
        bags.every(({ indices, offsets }) => indices instanceof Int32Array && offsets instanceof Int32Array),
      );
    }
  }
});

test('rows that int32 does not tell stay int64', async () => {
  const { architecture, warm, requests } = watched();
  const [first, ...others] = architecture.tables;
  assert.ok(first !== undefined);
  Object.assign(architecture, { tables: [{ ...first, rows: 2 ** 40 }, ...others] });
  await warm(1);
  for (const { bags } of requests)
    for (const [t, { indices }] of bags.entries()) {
      assert.equal(indices instanceof BigInt64Array, t === 0);
      assert.ok(indices.every((row: number | bigint) => row >= 0));
    }
});
