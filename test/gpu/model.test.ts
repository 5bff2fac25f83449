/** Whole models on a GPU: many predictions, one after the other and at once, against the reference; what they leave behind. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { DEFAULT_LINEAR_SEARCH } from '../../src/backend/cuda/dense/linear-chooser.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver } from '../../src/cuda/discover.ts';
import { nativeCounts } from '../../src/ffi/owned-handles.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { assertSameBits, assertWithin } from '../support/compare.ts';
import { INTERACTIONS, smallModel, smallRequest } from '../support/models.ts';
import { assertEachAsAlone } from '../support/precisions.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu();
const PREDICTIONS = 10_000;
const AT_ONCE = 8;

describe('models on a GPU', { skip }, () => {
  test(`${PREDICTIONS} predictions of ever other bags leave nothing behind`, async () => {
    const architecture = smallModel(new Random(1), 'dot-lower');
    const requests = Array.from({ length: 64 }, (_, i) =>
      smallRequest(new Random(i), architecture, 1 + ((i * 29) % 70)),
    );
    using reference = new ReferenceBackend();
    await using expected = await DlrmModel.create(reference, architecture);
    using device = new CudaDevice(cudaDriver());
    using backend = new CudaBackend();
    await using model = await DlrmModel.create(backend, architecture, { precision: 'float32' });
    const right: Float32Array[] = [];
    for (const request of requests) {
      const { probabilities } = await model.predict(request);
      const own = (await expected.predict(request)).probabilities;
      assertWithin(probabilities, own, () => 1e-5, 'against the reference');
      right.push(probabilities);
    }
    const predictSome = async (from: number) => {
      const places = Array.from({ length: AT_ONCE }, (_, i) => (from + i) % requests.length);
      const all = await Promise.all(places.map((place) => model.predict(requests[place] as never)));
      all.forEach(({ probabilities }, i) => {
        assertSameBits(probabilities, right[places[i] as number] as Float32Array, `prediction ${from + i}`);
      });
    };
    for (let done = 0; done < 500; done += AT_ONCE) await predictSome(done);
    const { freeBytes } = device.memoryInfo();
    const counts = nativeCounts();
    for (let done = 0; done < PREDICTIONS; done += AT_ONCE) await predictSome(done);
    assert.equal(device.memoryInfo().freeBytes, freeBytes, 'device memory');
    const { handles, ...memory } = nativeCounts();
    const { handles: before, ...memoryBefore } = counts;
    assert.deepEqual(memory, memoryBefore, 'host memory');
    // A program that was lent once before may be captured now: its graph is kept.
    assert.ok(handles - before <= AT_ONCE, `${handles - before} handles more`);
  });

  test('models of every precision share a GPU', async () => {
    // Nothing is measured: backends choose alike.
    const linearSearch = { ...DEFAULT_LINEAR_SEARCH, rounds: 0 };
    for (const kind of INTERACTIONS) await assertEachAsAlone(kind, () => new CudaBackend({ linearSearch }));
  });
});
