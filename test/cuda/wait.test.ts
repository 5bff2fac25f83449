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

for (const workMs of [0, 0.3, 60]) {
  test(`work of ${workMs} ms`, async () => {
    using device = new CudaDevice(driver);
    using memory = new DeviceMemory(device, 8);
    const started = performance.now();
    const stream = busyStream(device, memory, workMs);
    await stream.finished();
    assert.ok(performance.now() - started >= workMs - 0.1);
    assert.equal(stream.done, true);
    await stream.finished();
    assert.equal(device.live().counts.event, 1, 'events of waits are used again');
  });
}

test('a long wait neither blocks the event loop nor asks the driver all the time', async () => {
  using device = new CudaDevice(driver);
  using memory = new DeviceMemory(device, 8);
  const stream = busyStream(device, memory, 80);
  let turns = 0;
  const timer = setInterval(() => (turns += 1), 2);
  const { user, system } = process.cpuUsage();
  await stream.finished();
  clearInterval(timer);
  const used = process.cpuUsage({ user, system });
  assert.ok(turns >= 5, `timers ran ${turns} times`);
  assert.ok((used.user + used.system) / 1000 < 60, 'less than the time waited is spent computing');
});

for (const [workMs, expectedMs] of [
  [20, 20],
  [3, 20],
  [40, 20],
] as const) {
  test(`work of ${workMs} ms that was expected to take ${expectedMs} ms`, async () => {
    using device = new CudaDevice(driver);
    using memory = new DeviceMemory(device, 8);
    const stream = busyStream(device, memory, workMs);
    const started = performance.now();
    await stream.finished(expectedMs);
    assert.ok(performance.now() - started >= workMs - 0.1);
    assert.equal(stream.done, true);
  });
}

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
  start.record(first);
  fake.setWorkMs(4);
  first.fillBytes(memory.address(), 1, 8);
  end.record(first);
  second.waitFor(end);
  assert.equal(second.done, false);
  assert.equal(end.done, false);
  await second.finished();
  assert.equal(end.done, true);
  assert.ok(end.msSince(start) > 3.9);
});
