/** The CUDA backend over the fake driver, whose kernels run in emulation. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CudaBackend, type CudaBackendOptions } from '../../src/backend/cuda/cuda-backend.ts';
import { DEFAULT_LINEAR_SEARCH } from '../../src/backend/cuda/dense/linear-chooser.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { emulatingCompiler } from './emulating-compiler.ts';
import { buildFakeCublasLt, buildFakeDriver } from './fake-driver.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-fake-kernels-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

export const fake = buildFakeDriver();
export const fakeLt = buildFakeCublasLt(fake);
const driver = new CudaDriver({ path: fake.path });
const cublasLt = new CublasLt({ path: fakeLt.path });
const cache = new KernelCache({ folder });

/** Times of emulated kernels would choose by chance among ways to multiply that round differently. */
const linearSearch = { ...DEFAULT_LINEAR_SEARCH, rounds: 0 };

/** What dense kernels are opened with. */
export const fakeTools = { driver, compiler: emulatingCompiler, cache, cublasLt, linearSearch };

/** `options`: what differs from an emulated device. */
export function openFakeBackend(options: CudaBackendOptions = {}): CudaBackend {
  return new CudaBackend({ driver, compiler: emulatingCompiler, cache, cublasLt, linearSearch, ...options });
}
