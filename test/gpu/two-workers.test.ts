/** Two worker threads with a model each on one GPU: what they predict side by side, and what they leave when they are ended. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver } from '../../src/cuda/discover.ts';
import { nativeCounts } from '../../src/ffi/owned-handles.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { assertWithin } from '../support/compare.ts';
import { workOf } from '../support/model-worker.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';
import { startWorker } from '../support/start-worker.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu();
const PREDICTIONS = 2000;
const SEEDS = [1, 2];

describe('two workers on a GPU', { skip }, () => {
  test(`${PREDICTIONS} predictions each, side by side`, async () => {
    const workers = SEEDS.map((seed) => startWorker({ device: 'cuda', seed, predictions: PREDICTIONS }));
    const predicted = await Promise.all(workers.map(({ done }) => done));
    await Promise.all(workers.map(({ ended }) => ended));
    using reference = new ReferenceBackend();
    for (const [w, seed] of SEEDS.entries()) {
      const { architecture, requests } = workOf(seed);
      await using model = await DlrmModel.create(reference, architecture);
      for (const [r, request] of requests.entries()) {
        const { probabilities } = await model.predict(request);
        const own = predicted[w]?.[r] as Float32Array;
        assertWithin(own, probabilities, () => 1e-5, `worker ${w}, request ${r}`);
      }
    }
  });

  test('that open and place their models side by side, over and over', async () => {
    for (let round = 0; round < 8; round++) {
      const workers = SEEDS.map((seed) => startWorker({ device: 'cuda', seed, predictions: 40 }));
      await Promise.all(workers.map(({ done }) => done));
      await Promise.all(workers.map(({ ended }) => ended));
    }
  });

  test('one that is terminated leaves the other what it needs, and the GPU as it was', async () => {
    const terminated = async () => {
      const worker = startWorker({ device: 'cuda', seed: 3 });
      await worker.ready;
      await worker.worker.terminate();
      await worker.ended;
    };
    using device = new CudaDevice(cudaDriver());
    // What the driver keeps of a process's first models.
    await terminated();
    const { freeBytes } = device.memoryInfo();
    const counts = nativeCounts();
    const other = startWorker({ device: 'cuda', seed: 1, predictions: PREDICTIONS });
    await other.ready;
    for (let round = 0; round < 3; round++) await terminated();
    await other.done;
    await other.ended;
    assert.deepEqual(nativeCounts(), counts);
    assert.equal(device.memoryInfo().freeBytes, freeBytes, 'device memory');
  });
});
