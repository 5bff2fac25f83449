/** What tests on a real GPU share. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDevices, cudaDriver } from '../../src/cuda/discover.ts';
import { CudaModule } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { compileKernel } from '../../src/jit/compile-kernel.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';

/** Why nothing can run on a GPU here; false: it can. */
export function refuseGpu(): string | false {
  const found = cudaDevices();
  if ('reason' in found) return found.reason;
  return found.missing.find(({ library }) => library === 'nvrtc')?.reason.message ?? false;
}

/** words[i] += value for i in [0, count), `rounds` times over; spins when there is nothing to add. */
const SOURCE = `
struct Params { long long *words; long long value, count, rounds; };

extern "C" __global__ void add(const Params params) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < params.count) params.words[i] += params.value;
}

extern "C" __global__ void spin(const Params params) {
  const long long start = clock64();
  while (clock64() - start < params.rounds) {}
}
`;

export const SHAPE = { grid: [1, 1, 1], block: [32, 1, 1], dynamicSharedBytes: 0 } as const;

/** A device with a stream and the kernels above; disposing it gives everything back. */
export async function openGpu() {
  const driver = cudaDriver();
  const device = new CudaDevice(driver);
  const compiler = new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
  const { architecture } = device.properties;
  const request = {
    id: 'test.plumbing',
    kernel: 'add',
    source: SOURCE,
    options: [],
    includeFolder: '',
    architecture,
  };
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-gpu-test-'));
  const cache = new KernelCache({ folder });
  const { cubin, resources } = await compileKernel(request, { compiler, cache });
  rmSync(folder, { recursive: true });
  const module = new CudaModule(device, cubin);
  return {
    device,
    stream: new CudaStream(device),
    add: module.kernel('add'),
    spin: module.kernel('spin'),
    resources,
    [Symbol.dispose]: () => device[Symbol.dispose](),
  };
}
