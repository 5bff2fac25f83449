/** The occupancy calculator against the driver of a GPU: kernels of several register caps, in many launch shapes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  type StandardBagVariant,
  standardBagSource,
} from '../../src/backend/cuda/embedding/standard-source.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver } from '../../src/cuda/discover.ts';
import { type CudaKernel, CudaModule } from '../../src/cuda/module.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { compileKernel } from '../../src/jit/compile-kernel.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { multiprocessorLimits, occupancyOf } from '../../src/plan/occupancy.ts';
import { Random } from '../support/random.ts';
import { refuseGpu } from './gpu.ts';

const CAPS = [16, 24, 32, 40, 48, 64, 96, 128];
const SHAPES = 200;

/** A kernel that would take many registers, were it not for its cap. */
const VARIANT: StandardBagVariant = {
  rowFormat: 'float32',
  index: 'int64',
  offset: 'int64',
  pooling: 'sum',
  weights: 'none',
  padding: false,
  pruned: false,
  repair: false,
  wideRows: false,
  threads: 256,
  prefetch: { into: 'pipelined', distance: 16 },
};

const includeFolder = fileURLToPath(new URL('../../kernels/cuda', import.meta.url));

/** Of each cap. */
async function compileAll(device: CudaDevice): Promise<CudaKernel[]> {
  const compiler = new Nvrtc({ majorVersion: Math.floor(device.driver.version / 1000) });
  const cache = new KernelCache();
  const { architecture } = device.properties;
  return Promise.all(
    CAPS.map(async (maxRegisters) => {
      const source = standardBagSource({ ...VARIANT, maxRegisters });
      const { cubin, kernel } = await compileKernel(
        { ...source, includeFolder, architecture },
        { compiler, cache },
      );
      return new CudaModule(device, cubin).kernel(kernel);
    }),
  );
}

test('blocks on a multiprocessor are as many as the driver says', { skip: refuseGpu() }, async () => {
  using device = new CudaDevice(cudaDriver());
  const { computeCapability, sharedBytesPerBlockOptIn } = device.properties;
  const limits = multiprocessorLimits(computeCapability);
  const kernels = await compileAll(device);
  const registers = kernels.map((kernel) => kernel.resources.registers);
  assert.ok(new Set(registers).size >= 4, `caps that make a difference: ${registers}`);
  const most = kernels.map(({ resources }) => sharedBytesPerBlockOptIn - resources.sharedBytes);
  for (const [k, kernel] of kernels.entries()) kernel.allowDynamicShared(most[k] as number);

  const random = new Random(1);
  for (let i = 0; i < SHAPES; i++) {
    const k = random.integer(0, kernels.length - 1);
    const kernel = kernels[k] as CudaKernel;
    const threads = random.integer(1, kernel.resources.maxThreadsPerBlock);
    // A third of the shapes without, the others with as much as the kernel may have.
    const dynamic = random.integer(0, 2) === 0 ? 0 : random.integer(1, most[k] as number);
    const footprint = {
      registers: kernel.resources.registers,
      threads,
      sharedBytes: kernel.resources.sharedBytes + dynamic,
    };
    const { blocks, limiter } = occupancyOf(footprint, limits);
    assert.equal(
      blocks,
      kernel.activeBlocks(threads, dynamic),
      `${JSON.stringify(footprint)}, limited by ${limiter}`,
    );
  }
});
