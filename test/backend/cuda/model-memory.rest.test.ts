/** Whole models on CUDA, over the fake driver: memory that runs out on the way, and what many predictions leave behind. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { DlrmModel } from '../../../src/model/dlrm.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { warmUp } from '../../../src/serve/engine/warm-up.ts';
import { refuseEmulation } from '../../emulation/emulator.ts';
import { fake, fakeLt, openFakeBackend } from '../../fake-driver/open-backend.ts';
import { assertSameBits } from '../../support/compare.ts';
import { smallModel, smallRequest } from '../../support/models.ts';
import { Random } from '../../support/random.ts';

const skip = refuseEmulation();
const OUT_OF_MEMORY = 2;

describe('memory of models on CUDA', { skip }, () => {
  if (skip !== undefined) return;
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
    assert.equal(fakeLt.live(), 0, 'and every object of cuBLASLt');
  });
  const architecture = smallModel(new Random(1), 'cross');
  const request = smallRequest(new Random(2), architecture, 3);

  for (const call of ['cuMemAlloc', 'cuMemHostAlloc', 'cuModuleLoadDataEx', 'cuStreamCreateWithPriority']) {
    test(`${call} fails at every place once: the error says so, and the process goes on`, async () => {
      using backend = openFakeBackend();
      const attempt = async () => {
        await using model = await DlrmModel.create(backend, architecture);
        using placed = await model.place(request);
        for (let run = 0; run < 2; run++) await model.predict(placed);
        for (let run = 0; run < 3; run++) await model.predict(request);
        return (await model.predict(request)).probabilities;
      };
      const right = await attempt();
      let refused = 0;
      for (let nth = 1; nth <= 40; nth++) {
        using fresh = openFakeBackend();
        fake.fail(call, nth, OUT_OF_MEMORY);
        try {
          await using model = await DlrmModel.create(fresh, architecture);
          for (let run = 0; run < 3; run++) await model.predict(request);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'OUT_OF_MEMORY', `${call} ${nth}: ${error}`);
          refused += 1;
        }
        fake.fail('', 0, 0);
        await using again = await DlrmModel.create(fresh, architecture);
        assertSameBits((await again.predict(request)).probabilities, right, `${call} ${nth}`);
      }
      assert.ok(refused > 0, `${call} was never called`);
    });
  }

  test('once a server has warmed a model up, batches of any size take nothing, also several at once', async () => {
    using backend = openFakeBackend();
    await using model = await DlrmModel.create(backend, architecture);
    const [mostSamples, atOnce] = [8, 2];
    model.reserveBatches(mostSamples, atOnce);
    const rest = { longestMs: Number.POSITIVE_INFINITY, bagLengths: undefined, onProgress: () => {} };
    // For memory that is given back the driver waits until all batches on the device are done, also those of other models.
    fake.slow('cuMemFree', 0);
    await warmUp(model, { backend, mostSamples, atOnce, ...rest });
    assert.equal(fake.slowCalls(), 0, 'nothing was given back');
    fake.slow('', 0);
    const { tables, denseFeatures } = architecture;
    // As servers merge them.
    const merged = (batchSize: number): DlrmRequest => ({
      ...{ batchSize, denseFeatures, dense: new Float32Array(batchSize * denseFeatures) },
      bags: tables.map(() => ({
        indices: Int32Array.from({ length: 4 * batchSize }, (_, i) => i % 3),
        offsets: Int32Array.from({ length: batchSize + 1 }, (_, b) => 4 * b),
      })),
    });
    const pairs = [1, 2, 3, 5, 8].map((samples) => [merged(samples), merged(samples)]);
    const before = { ...fake.live(), bytes: fake.liveBytes() };
    for (const pair of pairs) await Promise.all(pair.map((own) => model.predict(own)));
    assert.deepEqual({ ...fake.live(), bytes: fake.liveBytes() }, before);
  });

  test('hundreds of predictions of a few sizes take no more memory than a few', async () => {
    using backend = openFakeBackend();
    await using model = await DlrmModel.create(backend, architecture);
    const requests = [1, 2, 3, 5, 8].map((batchSize) => smallRequest(new Random(9), architecture, batchSize));
    const predictAll = () => Promise.all(requests.map((own) => model.predict(own)));
    for (let run = 0; run < 3; run++) await predictAll();
    const [bytes, live] = [fake.liveBytes(), fake.live()];
    for (let run = 0; run < 60; run++) await predictAll();
    assert.equal(fake.liveBytes(), bytes);
    assert.deepEqual(fake.live(), live);
  });
});
