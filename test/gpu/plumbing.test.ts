/** The plumbing of src/cuda on a real GPU: what the fake driver can only pretend. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory, PinnedMemory } from '../../src/cuda/memory.ts';
import { ParameterBlock } from '../../src/ffi/parameter-block.ts';
import { openGpu, refuseGpu, SHAPE } from './gpu.ts';

const skip = refuseGpu();

test('copies, launches, fills', { skip }, async () => {
  using gpu = await openGpu();
  const { device, stream, add } = gpu;
  using memory = new DeviceMemory(device, 256);
  using pinned = new PinnedMemory(device, 256);
  const words = new BigInt64Array(pinned.view());
  stream.fillBytes(memory.address(), 0, 256);
  stream.fillWords(memory.address(128), 1, 1);
  const parameters = new ParameterBlock(BigInt64Array.of(memory.address(), 5n, 8n, 0n));
  for (let value = 1n; value <= 10n; value++) {
    parameters.words[1] = value;
    stream.launch(add, SHAPE, parameters);
  }
  stream.copyToHost(pinned.address(), memory.address(), 256);
  await stream.finished();
  assert.deepEqual([...words.subarray(0, 9)], [...Array(8).fill(55n), 0n]);
  assert.equal(words[16], 1n);
});

test('the driver and the assembler agree on registers', { skip }, async () => {
  using gpu = await openGpu();
  assert.equal(gpu.resources?.registers, gpu.add.resources.registers);
  assert.ok(gpu.add.activeBlocks(256) >= 1);
});

test('graphs: launch and update', { skip }, async () => {
  using gpu = await openGpu();
  const { device, stream, add } = gpu;
  using memory = new DeviceMemory(device, 8);
  stream.fillBytes(memory.address(), 0, 8);
  const parameters = new ParameterBlock(BigInt64Array.of(memory.address(), 1n, 1n, 0n));
  const nodes: ReturnType<typeof stream.lastCapturedNode>[] = [];
  const graph = stream.capture(() => {
    stream.launch(add, SHAPE, parameters);
    nodes.push(stream.lastCapturedNode());
    stream.launch(add, SHAPE, parameters);
    nodes.push(stream.lastCapturedNode());
  });
  const [first, second] = nodes;
  assert.ok(first !== undefined && second !== undefined && first !== second);
  graph.launch(stream);
  parameters.words[1] = 50n;
  graph.updateKernel(first, add, SHAPE, parameters);
  graph.launch(stream);
  using pinned = new PinnedMemory(device, 8);
  stream.copyToHost(pinned.address(), memory.address(), 8);
  await stream.finished();
  assert.equal(new BigInt64Array(pinned.view())[0], 53n);
});

test('persisting L2: set aside, used by a stream, reset', { skip }, async (t) => {
  using gpu = await openGpu();
  const { device, stream } = gpu;
  if (device.properties.maxPersistingL2Bytes === 0) return t.skip('this GPU has no persisting L2');
  using memory = new DeviceMemory(device, 1 << 20);
  assert.ok(device.setPersistingL2Bytes(1 << 20) >= 1 << 20);
  const window = { base: memory.address(), bytes: 1 << 20, hitRatio: 1 };
  stream.setAccessPolicyWindow({ ...window, hit: 'persisting', miss: 'streaming' });
  stream.setAccessPolicyWindow(undefined);
  device.resetPersistingL2();
  device.setPersistingL2Bytes(0);
});

test('waits end soon after the work, short and long', { skip }, async (t) => {
  using gpu = await openGpu();
  const { device, stream, spin } = gpu;
  const cyclesPerMs = device.properties.clockMegahertz * 1000;
  const start = new CudaEvent(device, { timing: true });
  const end = new CudaEvent(device, { timing: true });
  for (const ms of [0.05, 0.5, 20]) {
    const rounds = BigInt(Math.round(ms * cyclesPerMs));
    const lateUs: number[] = [];
    for (let i = 0; i < 20; i++) {
      start.record(stream);
      const startedMs = performance.now();
      stream.launch(spin, SHAPE, new ParameterBlock(BigInt64Array.of(0n, 0n, 0n, rounds)));
      end.record(stream);
      await stream.finished();
      lateUs.push((performance.now() - startedMs - end.msSince(start)) * 1000);
    }
    lateUs.sort((a, b) => a - b);
    t.diagnostic(`work of ${ms} ms: the wait ends ${lateUs[10]?.toFixed(1)} µs after it (median)`);
  }
});

test('out of memory leaves the device usable', { skip }, async () => {
  using gpu = await openGpu();
  const { device, stream } = gpu;
  const { totalBytes } = device.memoryInfo();
  assert.throws(() => new DeviceMemory(device, 2 * totalBytes), { code: 'OUT_OF_MEMORY' });
  using _memory = new DeviceMemory(device, 1 << 20);
  await stream.finished();
});

test('host cost of a launch', { skip }, async (t) => {
  using gpu = await openGpu();
  const { device, stream, add } = gpu;
  using memory = new DeviceMemory(device, 8);
  const parameters = new ParameterBlock(BigInt64Array.of(memory.address(), 1n, 1n, 0n));
  const launches = 500;
  const perLaunchUs: number[] = [];
  for (let run = 0; run < 20; run++) {
    const started = performance.now();
    for (let i = 0; i < launches; i++) stream.launch(add, SHAPE, parameters);
    perLaunchUs.push(((performance.now() - started) * 1000) / launches);
    await stream.finished();
  }
  perLaunchUs.sort((a, b) => a - b);
  t.diagnostic(`${perLaunchUs[10]?.toFixed(2)} µs a launch (median)`);
});
