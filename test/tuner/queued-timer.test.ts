/** How many batches run ahead of a timed one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeviceDescription, DeviceKind } from '../../src/device.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { QueuedTimer } from '../../src/tuner/queued-timer.ts';
import { CPU_CAPABILITIES, GPU_CAPABILITIES } from '../support/devices.ts';

/** What three runs of a plan ran ahead, on a device of a kind with some batches in rotation that take `batchMs` each. */
async function aheadOf(kind: DeviceKind, batches: number, batchMs: number): Promise<number[]> {
  const capabilities = kind === 'cuda' ? GPU_CAPABILITIES : CPU_CAPABILITIES;
  const device = { kind, capabilities } as DeviceDescription;
  const seen: number[] = [];
  const timer = new QueuedTimer({
    device,
    context: { device, tables: [] },
    batches,
    prepare: async () => {},
    run: async (_plan, _turn, { ahead = 0 } = {}) => {
      seen.push(ahead);
      return { batchMs, launches: [], kernel: undefined };
    },
  });
  for (let turn = 0; turn < 3; turn++)
    assert.equal((await timer.run(plainPlan(kind), turn)).batchMs, batchMs);
  return seen;
}

test('a GPU is kept busy for a quarter of a millisecond before a short batch', async () => {
  assert.deepEqual(await aheadOf('cuda', 4, 0.1), [1, 3, 3]);
  assert.deepEqual(await aheadOf('cuda', 4, 0.01), [1, 3, 3]);
  assert.deepEqual(await aheadOf('cuda', 4, 0.2), [1, 2, 2]);
  assert.deepEqual(await aheadOf('cuda', 4, 20), [1, 1, 1]);
});

test('the timed batch never runs ahead of itself, and a CPU has no queue', async () => {
  assert.deepEqual(await aheadOf('cuda', 2, 0.1), [1, 1, 1]);
  assert.deepEqual(await aheadOf('cuda', 1, 0.1), [0, 0, 0]);
  assert.deepEqual(await aheadOf('cpu', 4, 0.1), [0, 0, 0]);
});
