/** Waiting: it ends when the work does, it leaves the event loop free, and what it needs lives until then. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { CudaDevice } from '../../src/cuda/device.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { buildFakeDriver } from '../fake-driver/fake-driver.ts';

const fake = buildFakeDriver();
const driver = new CudaDriver({ path: fake.path });

afterEach(() => {
  fake.forgetFault();
  fake.setWorkMs(0);
  assert.deepEqual(fake.live(), {});
});

/** A stream with one piece of work of so many milliseconds in it. */
function busyStream(device: CudaDevice, memory: DeviceMemory, workMs: number): CudaStream {
  const stream = new CudaStream(device);
  fake.setWorkMs(workMs);
  stream.fillBytes(memory.address(), 0, 1);
  return stream;
}

/** Turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits for work whose end the device's clock says; `meanwhile`: what happens until then. */
async function waitFor(workMs: number, expectedMs: number, meanwhile: () => Promise<void>): Promise<void> {
  using device = new CudaDevice(driver);
  using memory = new DeviceMemory(device, 8);
  fake.stopClock();
  try {
    const stream = busyStream(device, memory, workMs);
    let ended = false;
    const waiting = stream.finished(expectedMs).then(() => {
      ended = true;
    });
    await meanwhile();
    assert.equal(ended, workMs === 0, 'it ends with the work, and not before');
    fake.advanceClock(workMs);
    await waiting;
    assert.equal(stream.done, true);
    await stream.finished();
    assert.equal(device.live().counts.event, 1, 'events of waits are used again');
  } finally {
    fake.startClock();
  }
}

const aThreadSleeps = async () => {
  while (fake.waitingThreads() === 0) await turns(1);
};

for (const [workMs, expectedMs] of [
  [0, 0],
  [0.3, 0],
  [20, 20],
  [3, 20],
] as const) {
  test(`work of ${workMs} ms, of which ${expectedMs} ms are expected: the event loop asks`, () =>
    waitFor(workMs, expectedMs, () => turns(20)));
}

for (const [workMs, expectedMs] of [
  [60, 0],
  [40, 20],
] as const) {
  test(`work of ${workMs} ms, of which ${expectedMs} ms are expected: at last a thread sleeps`, () =>
    waitFor(workMs, expectedMs, aThreadSleeps));
}

test('a long wait neither blocks the event loop nor asks the driver all the time', async () => {
  let calls = 0;
  await waitFor(80, 0, async () => {
    await aThreadSleeps();
    const before = fake.calls();
    await turns(100);
    calls = fake.calls() - before;
    assert.equal(fake.waitingThreads(), 1);
  });
  assert.equal(calls, 0, 'nobody asks while the thread sleeps');
});

test('many waits at once', async () => {
  using device = new CudaDevice(driver);
  using memory = new DeviceMemory(device, 8);
  const streams = Array.from({ length: 12 }, () => busyStream(device, memory, 5));
  await Promise.all(streams.flatMap((stream) => [stream.finished(), stream.finished()]));
  assert.ok(streams.every((stream) => stream.done));
});

test('what a wait needs is given back after it, whatever is disposed meanwhile', async () => {
  const device = new CudaDevice(driver);
  const memory = new DeviceMemory(device, 8);
  const stream = busyStream(device, memory, 20);
  const event = new CudaEvent(device);
  event.record(stream);
  const waits = [event.wait(), event.wait(), stream.finished()];
  await new Promise((resolve) => setTimeout(resolve, 5));
  event[Symbol.dispose]();
  device[Symbol.dispose]();
  assert.deepEqual(fake.live(), { event: 2, context: 1 });
  await Promise.all(waits);
  assert.deepEqual(fake.live(), {});
});

test("a fault that comes while a thread waits is the wait's error", async () => {
  using device = new CudaDevice(driver);
  const memory = new DeviceMemory(device, 8);
  const stream = busyStream(device, memory, 100);
  fake.fail('cuEventSynchronize', 1, 719);
  await assert.rejects(stream.finished(), {
    code: 'KERNEL_FAILED',
    call: 'cuEventSynchronize',
    contextLost: true,
  });
});

test('events: order between streams, time between events', async () => {
  using device = new CudaDevice(driver);
  using memory = new DeviceMemory(device, 8);
  const first = new CudaStream(device, { priority: 'high' });
  const second = new CudaStream(device);
  const start = new CudaEvent(device, { timing: true });
  const end = new CudaEvent(device, { timing: true });
  fake.stopClock();
  try {
    start.record(first);
    fake.setWorkMs(4);
    first.fillBytes(memory.address(), 1, 8);
    end.record(first);
    second.waitFor(end);
    fake.advanceClock(3.9);
    assert.equal(second.done, false);
    assert.equal(end.done, false);
    fake.advanceClock(0.2);
    await second.finished();
    assert.equal(end.done, true);
    assert.ok(Math.abs(end.msSince(start) - 4) < 1e-3);
  } finally {
    fake.startClock();
  }
});
