/** A real fault of a real GPU; in a process of its own, which the fault takes along. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { ParameterBlock } from '../../src/ffi/parameter-block.ts';
import { openGpu, refuseGpu, SHAPE } from './gpu.ts';

test('an illegal address loses the context', { skip: refuseGpu() }, async () => {
  const gpu = await openGpu();
  gpu.stream.launch(gpu.add, SHAPE, new ParameterBlock(BigInt64Array.of(64n, 1n, 32n, 0n)));
  await assert.rejects(gpu.stream.finished(), { code: 'KERNEL_FAILED', contextLost: true });
  assert.throws(() => new DeviceMemory(gpu.device, 8), { contextLost: true });
  gpu[Symbol.dispose]();
  assert.equal(gpu.device.live().counts.stream, 0);
});
