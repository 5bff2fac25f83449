/** The occupancy calculator against the driver, on a real GPU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelLibrary } from '../../src/backend/cuda/kernel-library.ts';
import { PLAIN_VARIANT, standardBagSource } from '../../src/backend/cuda/kernel-source.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver } from '../../src/cuda/discover.ts';
import { multiprocessorLimits, occupancyOf } from '../../src/cuda/occupancy.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { Random } from '../support/random.ts';
import { refuseGpu } from './gpu.ts';

const CONFIGURATIONS = 200;

test(`${CONFIGURATIONS} random configurations, as the driver says`, { skip: refuseGpu() }, async () => {
  const driver = cudaDriver();
  using device = new CudaDevice(driver);
  const compiler = new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
  const library = new KernelLibrary(device, compiler, new KernelCache());
  // Kernels of many register counts: prefetching further takes more.
  const distances = [1, 2, 4, 6, 8, 10, 12, 16];
  const kernels = await Promise.all(
    distances.map((distance) =>
      library.get(standardBagSource({ ...PLAIN_VARIANT, prefetch: { into: 'pipelined', distance } })),
    ),
  );
  assert.ok(new Set(kernels.map(({ resources }) => resources.registers)).size > 4);
  const { computeCapability, sharedBytesPerBlockOptIn } = device.properties;
  const limits = multiprocessorLimits(computeCapability);
  const random = new Random(3);
  for (let i = 0; i < CONFIGURATIONS; i++) {
    const kernel = kernels[random.integer(0, kernels.length - 1)] as (typeof kernels)[number];
    const { registers, sharedBytes, maxThreadsPerBlock } = kernel.resources;
    const threads = random.integer(1, maxThreadsPerBlock);
    const dynamic =
      random.integer(0, 2) === 0 ? 0 : random.integer(0, sharedBytesPerBlockOptIn - sharedBytes);
    kernel.allowDynamicShared(sharedBytesPerBlockOptIn - sharedBytes);
    const { blocks } = occupancyOf({ registers, threads, sharedBytes: sharedBytes + dynamic }, limits);
    assert.equal(
      blocks,
      kernel.activeBlocks(threads, dynamic),
      `${registers} registers, ${threads} threads, ${sharedBytes} + ${dynamic} bytes`,
    );
  }
});
