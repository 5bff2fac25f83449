/** Threads beside others: after calls that keep others out of the driver for long, they rest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CudaDevice } from '../../src/cuda/device.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { buildFakeDriver } from '../fake-driver/fake-driver.ts';

const driver = new CudaDriver({ path: buildFakeDriver().path });

test('a thread rests for as long as a long call took, where it lets others in', (t) => {
  const waits: unknown[] = [];
  t.mock.method(Atomics, 'wait', (...args: readonly unknown[]) => waits.push(args[3]));
  for (const [letsOthersIn, expected] of [
    [true, [5, 0.1]],
    [false, []],
  ] as const) {
    using device = new CudaDevice(driver, 0, { letsOthersIn });
    waits.length = 0;
    for (const ms of [5, 0.1, 0.09, 0]) device.rest(ms);
    assert.deepEqual(waits, expected);
  }
});

test('what is made and what is given back is such a call', (t) => {
  using device = new CudaDevice(driver, 0, { letsOthersIn: true });
  const rest = t.mock.method(device, 'rest', () => {});
  const memory = new DeviceMemory(device, 1 << 20);
  assert.equal(rest.mock.callCount(), 1);
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  assert.equal(rest.mock.callCount(), 2);
});
