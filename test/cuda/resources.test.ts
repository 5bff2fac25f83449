/** Owned resources over the fake driver: what they do, how they fail, and that nothing leaks. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { CudaDevice } from '../../src/cuda/device.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory, PinnedMemory } from '../../src/cuda/memory.ts';
import { CudaModule } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import type { CudaError } from '../../src/errors.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { ParameterBlock } from '../../src/ffi/parameter-block.ts';
import { buildFakeDriver, fakeCubin } from '../fake-driver/fake-driver.ts';

const fake = buildFakeDriver();
const driver = new CudaDriver({ path: fake.path });
const SHAPE = { grid: [1, 1, 1], block: [32, 1, 1], dynamicSharedBytes: 0 } as const;

afterEach(() => {
  fake.forgetFault();
  fake.setWorkMs(0);
  assert.deepEqual(fake.live(), {}, 'every test gives everything back');
});

/** A device with a stream and the fake's kernels. */
function open() {
  const device = new CudaDevice(driver);
  const stream = new CudaStream(device);
  const module = new CudaModule(device, fakeCubin('add', 'illegal_address'));
  return {
    device,
    stream,
    module,
    add: module.kernel('add'),
    [Symbol.dispose]: () => device[Symbol.dispose](),
  };
}

test('copies, fills, launches, events: there and back', async () => {
  using opened = open();
  const { device, stream, add } = opened;
  using memory = new DeviceMemory(device, 64);
  using pinned = new PinnedMemory(device, 64);
  using copy = new DeviceMemory(device, 64);
  const words = new BigInt64Array(pinned.view());
  words.set([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]);
  stream.copyToDevice(memory.address(), pinned.address(), 64);
  const parameters = new ParameterBlock(BigInt64Array.of(memory.address(8), 100n, 2n));
  stream.launch(add, SHAPE, parameters);
  parameters.words[1] = 1000n;
  stream.launch(add, SHAPE, parameters);
  stream.fillBytes(memory.address(24), 0xff, 8);
  stream.fillWords(memory.address(32), 7, 2);
  stream.copyOnDevice(copy.address(), memory.address(), 64);
  words.fill(0n);
  stream.copyToHost(pinned.address(), copy.address(), 64);
  await stream.finished();
  assert.deepEqual([...words], [1n, 1102n, 1103n, -1n, 0x7_0000_0007n, 6n, 7n, 8n]);
  const host = new BigInt64Array(1);
  stream.copyToHost(addressOf(host), memory.address(8), 8);
  await stream.finished();
  assert.equal(host[0], 1102n);
});

test('properties, limits, occupancy', () => {
  using opened = open();
  const { device, stream, add, module } = opened;
  const { properties } = device;
  assert.equal(device.id, 'cuda:0');
  assert.equal(properties.architecture, 'sm_90');
  assert.equal(properties.l2Bytes, 60 << 20);
  assert.equal(properties.clockMegahertz, 1980);
  assert.equal(device.setPersistingL2Bytes(5000), 8192, 'the driver rounds up');
  assert.equal(device.setPersistingL2Bytes(1 << 30), 1 << 20, 'at most what the device has');
  device.resetPersistingL2();
  assert.deepEqual(
    [add.resources.registers, add.resources.localBytes, add.resources.maxThreadsPerBlock],
    [14, 13, 1024],
  );
  assert.equal(add.activeBlocks(256), 4);
  assert.equal(add.occupancy(256), 0.5);
  add.allowDynamicShared(1 << 16);
  add.preferSharedCarveout(50);
  assert.throws(() => module.kernel('nothing'), { status: 'CUDA_ERROR_NOT_FOUND' });
  using memory = new DeviceMemory(device, 4096);
  stream.setAccessPolicyWindow({
    base: memory.address(),
    bytes: 4096,
    hitRatio: 0.5,
    hit: 'persisting',
    miss: 'streaming',
  });
  const window = fake.window();
  assert.equal(window.getBigUint64(0, true), memory.address());
  assert.deepEqual(
    [
      window.getBigUint64(8, true),
      window.getFloat32(16, true),
      window.getInt32(20, true),
      window.getInt32(24, true),
    ],
    [4096n, 0.5, 2, 1],
  );
  stream.setAccessPolicyWindow(undefined);
  assert.equal(fake.window().getBigUint64(8, true), 0n);
});

test('out of memory says what was asked for and what there is', () => {
  using opened = open();
  const { device } = opened;
  using _half = new DeviceMemory(device, 2 ** 29);
  assert.throws(
    () => new DeviceMemory(device, 2 ** 30),
    (error: CudaError) =>
      error.code === 'OUT_OF_MEMORY' &&
      error.call === 'cuMemAlloc' &&
      /cuda:0 \(Fake GPU 0\) cannot give 1073741824 bytes \(1\.00 GiB\): 0\.50 GiB of 1\.00 GiB are free/.test(
        error.message,
      ) &&
      /smaller batch/.test(error.hint ?? ''),
  );
  fake.fail('cuMemHostAlloc', 2, 2);
  using _pinned = new PinnedMemory(device, 8);
  assert.throws(() => new PinnedMemory(device, 8), { code: 'OUT_OF_MEMORY' });
  assert.deepEqual(device.live().counts, {
    memory: 1,
    'pinned memory': 1,
    stream: 1,
    event: 0,
    module: 1,
    graph: 0,
    'matrix products': 0,
  });
  assert.deepEqual([device.live().deviceBytes, device.live().pinnedBytes], [2 ** 29, 8]);
});

test('every construction that fails leaves nothing behind', () => {
  const calls = [
    ['cuStreamCreateWithPriority', () => new CudaStream(device)],
    ['cuEventCreate', () => new CudaEvent(device)],
    ['cuModuleLoadDataEx', () => new CudaModule(device, fakeCubin('add'))],
    ['cuMemAlloc', () => new DeviceMemory(device, 8)],
    ['cuStreamBeginCapture', () => stream.capture(() => {})],
    ['cuGraphInstantiateWithFlags', () => stream.capture(() => {})],
    ['cuLaunchKernel', () => stream.launch(add, SHAPE, new ParameterBlock(3))],
    ['cuLaunchKernel', () => stream.capture(() => stream.launch(add, SHAPE, new ParameterBlock(3)))],
  ] as const;
  using opened = open();
  const { device, stream, add } = opened;
  const before = fake.live();
  for (const [call, make] of calls) {
    fake.fail(call, 1, 1);
    assert.throws(make, { code: 'CUDA_FAILED', call, status: 'CUDA_ERROR_INVALID_VALUE' });
    assert.deepEqual(fake.live(), before, call);
  }
});

test('use after disposal is refused, disposing twice is harmless', () => {
  using opened = open();
  const { device, stream, add, module } = opened;
  const memory = new DeviceMemory(device, 8);
  const event = new CudaEvent(device);
  for (const resource of [memory, event, module, stream]) {
    resource[Symbol.dispose]();
    resource[Symbol.dispose]();
  }
  assert.throws(() => memory.address(), { code: 'DISPOSED', message: /CUDA memory was used/ });
  assert.throws(() => event.done, { code: 'DISPOSED' });
  assert.throws(() => add.handle, { code: 'DISPOSED' });
  assert.throws(() => stream.synchronize(), { code: 'DISPOSED' });
  device[Symbol.dispose]();
  device[Symbol.dispose]();
  assert.throws(() => new DeviceMemory(device, 8), { code: 'DISPOSED', message: /cuda:0 was used/ });
});

test('closing the device gives back what is left; later disposals do nothing', () => {
  const { device, stream } = open();
  const memory = new DeviceMemory(device, 8);
  device[Symbol.dispose]();
  assert.deepEqual(fake.live(), {});
  memory[Symbol.dispose]();
  stream[Symbol.dispose]();
});

test('two devices at once: each call reaches its own context', () => {
  using first = new CudaDevice(driver, 0);
  using second = new CudaDevice(driver, 1);
  using a = new DeviceMemory(first, 8);
  using b = new DeviceMemory(second, 8);
  assert.notEqual(a.address(), b.address());
  assert.equal(driver.currentContext(), second.context);
  first.resetPersistingL2();
  assert.equal(driver.currentContext(), first.context);
});

test('an illegal address: every later call fails, the context is lost, and disposal still works', async () => {
  using opened = open();
  const { device, stream, module } = opened;
  using _memory = new DeviceMemory(device, 8);
  stream.launch(module.kernel('illegal_address'), SHAPE, new ParameterBlock(3));
  await assert.rejects(stream.finished(), (error: CudaError) => {
    assert.equal(error.code, 'KERNEL_FAILED');
    assert.equal(error.status, 'CUDA_ERROR_ILLEGAL_ADDRESS');
    assert.equal(error.contextLost, true);
    assert.match(error.hint ?? '', /start the process again/);
    return true;
  });
  assert.throws(() => new DeviceMemory(device, 8), { code: 'KERNEL_FAILED', contextLost: true });
  assert.throws(() => device.memoryInfo(), { contextLost: true });
  device[Symbol.dispose]();
  assert.deepEqual(device.live().counts, {
    memory: 0,
    'pinned memory': 0,
    stream: 0,
    event: 0,
    module: 0,
    graph: 0,
    'matrix products': 0,
  });
});

test('a launch that is refused names its shape, and the context lives on', async () => {
  using opened = open();
  const { stream, add } = opened;
  const shape = { ...SHAPE, block: [1024, 2, 1] } as const;
  assert.throws(() => stream.launch(add, shape, new ParameterBlock(3)), {
    code: 'KERNEL_FAILED',
    contextLost: false,
    message: /CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES.*block \(1024,2,1\)/s,
  });
  await stream.finished();
});

test('graphs: captured once, launched often, updated between', async () => {
  using opened = open();
  const { device, stream, add } = opened;
  using memory = new DeviceMemory(device, 8);
  stream.fillBytes(memory.address(), 0, 8);
  const parameters = new ParameterBlock(BigInt64Array.of(memory.address(), 1n, 1n));
  let node: ReturnType<CudaStream['lastCapturedNode']>;
  const graph = stream.capture(() => {
    stream.launch(add, SHAPE, parameters);
    node = stream.lastCapturedNode();
    stream.launch(add, SHAPE, parameters);
  });
  const read = async () => {
    const host = new BigInt64Array(1);
    stream.copyToHost(addressOf(host), memory.address(), 8);
    await stream.finished();
    return host[0];
  };
  assert.equal(await read(), 0n, 'capturing runs nothing');
  graph.launch(stream);
  assert.equal(await read(), 2n);
  assert.ok(node !== undefined);
  parameters.words[1] = 50n;
  graph.launch(stream);
  assert.equal(await read(), 4n, 'the parameters were copied');
  graph.updateKernel(node, add, SHAPE, parameters);
  graph.launch(stream);
  assert.equal(await read(), 55n);
  graph[Symbol.dispose]();
  assert.throws(() => graph.launch(stream), { code: 'DISPOSED' });
});

test('a body that throws ends the capture', async () => {
  using opened = open();
  const { stream, add } = opened;
  assert.throws(
    () =>
      stream.capture(() => {
        stream.launch(add, SHAPE, new ParameterBlock(3));
        throw new RangeError('the body failed');
      }),
    RangeError,
  );
  await stream.finished();
});
