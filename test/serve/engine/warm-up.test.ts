import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DlrmModel } from '../../../src/model/dlrm.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { warmUp } from '../../../src/serve/engine/warm-up.ts';
import { smallModel } from '../../support/models.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

const NEVER = Number.POSITIVE_INFINITY;

/** A model that keeps what it is asked, and takes `ms` at least for batches from `slowFrom` on. */
function watched(slowFrom = NEVER, ms = 0) {
  const requests: DlrmRequest[] = [];
  const architecture = smallModel(new Random(SEED), 'dot-lower');
  const predict = async (request: DlrmRequest) => {
    requests.push(request);
    assert.ok(requests.length < 100);
    const began = performance.now();
    while (request.batchSize >= slowFrom && performance.now() - began < ms);
  };
  const model = { architecture, predict } as unknown as Pick<DlrmModel, 'architecture' | 'predict'>;
  const sizes = () => requests.map(({ batchSize }) => batchSize);
  return { model, requests, sizes };
}

const each4 = (...sizes: number[]) => sizes.flatMap((size) => [size, size, size, size]);

test('batches grow up to the largest, each size runs four times', async () => {
  for (const [mostSamples, sizes] of [
    [1, [1]],
    [16, [1, 4, 16]],
    [100, [1, 4, 16, 64, 100]],
  ] as const) {
    const { model, sizes: ran } = watched();
    const measured = await warmUp(model, { mostSamples, longestMs: NEVER, bagLengths: undefined });
    assert.deepEqual(
      measured.map(({ samples }) => samples),
      sizes,
    );
    for (const { ms } of measured) assert.ok(ms >= 0 && Number.isFinite(ms));
    assert.deepEqual(ran(), each4(...sizes));
  }
});

test('a size that takes too long is the last, and is measured no further than it must be', async () => {
  // In its second run, which has nothing to prepare any more, it is too slow already.
  const { model, sizes } = watched(16, 12);
  const measured = await warmUp(model, { mostSamples: 4096, longestMs: 10, bagLengths: undefined });
  assert.ok(measured.every(({ samples }) => samples < 16));
  assert.ok(sizes().filter((size) => size === 16).length <= 2);
  assert.ok(sizes().every((size) => size <= 16));
});

test('what a batch takes is the fastest of the runs that prepare nothing', async () => {
  const { model } = watched(1, 2);
  const [first] = await warmUp(model, { mostSamples: 1, longestMs: NEVER, bagLengths: undefined });
  assert.ok(first !== undefined && first.ms >= 2);
});

test('requests are the model’s, with bags of the lengths that are known or usual', async () => {
  for (const [bagLengths, lookups] of [
    ['3', 3],
    [undefined, 10],
  ] as const) {
    const { model, requests } = watched();
    await warmUp(model, { mostSamples: 4, longestMs: NEVER, bagLengths });
    const { tables, denseFeatures } = model.architecture;
    for (const { batchSize, dense, bags } of requests) {
      assert.equal(dense.length, batchSize * denseFeatures);
      assert.deepEqual(
        bags.map(({ indices }) => indices.length),
        tables.map(() => batchSize * lookups),
      );
    }
  }
});
