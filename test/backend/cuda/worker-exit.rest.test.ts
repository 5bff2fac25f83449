/** Worker threads that end with models on a GPU open, over the fake driver: all that they held is given back. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { nativeCounts } from '../../../src/ffi/owned-handles.ts';
import { refuseEmulation } from '../../emulation/emulator.ts';
import { buildFakeCublasLt, buildFakeDriver } from '../../fake-driver/fake-driver.ts';
import { assertSameBits } from '../../support/compare.ts';
import { startWorker } from '../../support/start-worker.ts';

const ROUNDS = 3;
/** What makes something that must be given back, also where a worker has not heard of it. */
const MAKERS = [
  'cuDevicePrimaryCtxRetain',
  'cuStreamCreateWithPriority',
  'cuEventCreate',
  'cuMemAlloc',
  'cuMemHostAlloc',
  'cuModuleLoadDataEx',
  'cuStreamEndCapture',
  'cuGraphInstantiateWithFlags',
];

const skip = refuseEmulation();

describe('workers with models on a GPU', { skip }, () => {
  if (skip !== undefined) return;
  const fake = buildFakeDriver();
  const fakeLt = buildFakeCublasLt(fake);
  const cache = mkdtempSync(join(tmpdir(), 'hotrow-worker-kernels-'));
  after(() => rmSync(cache, { recursive: true }));
  const device = { driver: fake.path, cublasLt: fakeLt.path, cache };

  for (const then of [undefined, 'exit'] as const) {
    test(`a worker that ${then === 'exit' ? 'exits' : 'predicts, terminated'}`, async () => {
      const before = nativeCounts();
      for (let round = 0; round < ROUNDS; round++) {
        const { worker, ready, ended } = startWorker({ device, seed: 1, ...(then && { then }) });
        await ready;
        if (then === undefined) {
          assert.notDeepEqual(fake.live(), {});
          assert.ok(fakeLt.live() > 0);
          await worker.terminate();
        }
        await ended;
        assert.deepEqual(fake.live(), {}, `round ${round}`);
        assert.equal(fakeLt.live(), 0, `round ${round}`);
        assert.deepEqual(nativeCounts(), before, `round ${round}`);
      }
    });
  }

  for (const call of MAKERS) {
    test(`a worker that is terminated in ${call}`, async () => {
      const before = nativeCounts();
      fake.slow(call, 30);
      const { worker, ended } = startWorker({ device, seed: 1 });
      worker.on('error', () => {});
      while (fake.slowCalls() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      await worker.terminate();
      await ended;
      fake.slow('', 0);
      assert.deepEqual(fake.live(), {});
      assert.equal(fakeLt.live(), 0);
      assert.deepEqual(nativeCounts(), before);
    });
  }

  test('two workers predict side by side; one that is terminated leaves the other what it needs', async () => {
    const alone = startWorker({ device, seed: 1, predictions: 4 });
    const expected = await alone.done;
    await alone.ended;
    const first = startWorker({ device, seed: 1, predictions: 60 });
    const second = startWorker({ device, seed: 1 });
    await Promise.all([first.ready, second.ready]);
    await second.worker.terminate();
    (await first.done).forEach((probabilities, r) => {
      assertSameBits(probabilities, expected[r] as Float32Array, `request ${r}`);
    });
    await first.ended;
    assert.deepEqual(fake.live(), {});
  });
});
