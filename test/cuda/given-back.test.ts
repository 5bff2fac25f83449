/** What each resource of a GPU takes goes with it, while the device is open. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { CudaDevice } from '../../src/cuda/device.ts';
import { DeviceMemory, PinnedMemory, RegisteredMemory } from '../../src/cuda/memory.ts';
import { CudaModule } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import type { HostCopy } from '../../src/ffi/host-memory.ts';
import { ParameterBlock } from '../../src/ffi/parameter-block.ts';
import { buildFakeDriver, fakeCubin } from '../fake-driver/fake-driver.ts';

const fake = buildFakeDriver();
const driver = new CudaDriver({ path: fake.path });
const SHAPE = { grid: [1, 1, 1], block: [32, 1, 1], dynamicSharedBytes: 0 } as const;

afterEach(() => assert.deepEqual(fake.live(), {}, 'every test gives everything back'));

test('a stream takes the events of its waits along, and one whose wait fails goes at once', async () => {
  using device = new CudaDevice(driver);
  const before = fake.live();
  const stream = new CudaStream(device);
  await Promise.all([stream.finished(), stream.finished()]);
  assert.equal(fake.live().event, 2);
  fake.fail('cuEventQuery', 1, 1);
  await assert.rejects(stream.finished(), { code: 'CUDA_FAILED' });
  assert.equal(fake.live().event, 1);
  stream[Symbol.dispose]();
  assert.deepEqual(fake.live(), before);
});

test('graphs go whole, those of captures that fail too', async () => {
  using device = new CudaDevice(driver);
  using stream = new CudaStream(device);
  using module = new CudaModule(device, fakeCubin('add'));
  const add = module.kernel('add');
  const before = fake.live();
  const launch = () => stream.launch(add, SHAPE, new ParameterBlock(3));
  for (let i = 0; i < 3; i++) {
    const graph = stream.capture(launch);
    assert.deepEqual([fake.live().graph, fake.live().graphExec], [1, 1]);
    graph[Symbol.dispose]();
    assert.throws(
      () =>
        stream.capture(() => {
          launch();
          throw new RangeError('in the midst');
        }),
      RangeError,
    );
    fake.fail('cuGraphInstantiateWithFlags', 1, 1);
    assert.throws(() => stream.capture(launch), { code: 'CUDA_FAILED' });
    assert.deepEqual(fake.live(), before);
  }
  await stream.finished();
});

test('memory goes: of the device, pinned, and registered', () => {
  using device = new CudaDevice(driver);
  const before = [fake.live(), fake.liveBytes()];
  for (const Memory of [DeviceMemory, PinnedMemory, RegisteredMemory]) {
    const memory = new Memory(device, 100);
    assert.notDeepEqual([fake.live(), fake.liveBytes()], before, Memory.name);
    memory[Symbol.dispose]();
    assert.deepEqual([fake.live(), fake.liveBytes()], before, Memory.name);
  }
});

test('a device that is closed while a wait is under way is released after it', async () => {
  const device = new CudaDevice(driver);
  const stream = new CudaStream(device);
  using memory = new DeviceMemory(device, 8);
  fake.setWorkMs(20);
  stream.fillBytes(memory.address(), 0, 1);
  const waiting = stream.finished();
  device[Symbol.dispose]();
  assert.equal(fake.live().context, 1);
  await waiting;
  fake.setWorkMs(0);
  assert.deepEqual(fake.live(), {});
});

test('a profiler is stopped, whatever the work does', (t) => {
  using device = new CudaDevice(driver);
  const stop = t.mock.method(driver, 'stopProfiler');
  device.profiled(() => {});
  assert.equal(stop.mock.callCount(), 1);
  assert.throws(() =>
    device.profiled(() => {
      throw new Error('the work failed');
    }),
  );
  assert.equal(stop.mock.callCount(), 2);
});

test('pinned memory takes arrays at any byte, within its bounds', () => {
  using device = new CudaDevice(driver);
  using pinned = new PinnedMemory(device, 64);
  const later: HostCopy[] = [];
  for (const offset of [0, 4, 8, 56]) pinned.put(offset, BigInt64Array.of(1n + BigInt(offset)), later);
  assert.equal(later.length, 1, 'what is not aligned is copied later');
  assert.equal(later[0]?.target, pinned.address(4));
  for (const offset of [0, 8, 56]) assert.equal(pinned.word(offset), 1n + BigInt(offset));
  for (const [offset, length] of [
    [57, 1],
    [64, 1],
    [0, 9],
  ] as const) {
    assert.throws(() => pinned.put(offset, new BigInt64Array(length), later), RangeError);
    assert.throws(() => pinned.view(offset, 8 * length), RangeError);
  }
  for (const [offset, length] of [
    [-1, 8],
    [0, -1],
    [0, 65],
    [60, 5],
  ] as const)
    assert.throws(() => pinned.view(offset, length), RangeError);
  assert.throws(() => pinned.take(60, new Float32Array(2), later), RangeError);
  const gone = new Float32Array(2);
  structuredClone(0, { transfer: [gone.buffer] });
  assert.throws(() => pinned.put(0, gone, later), { code: 'ARRAYS_CHANGED' });
  pinned.put(0, new Float32Array(0), later);
});
