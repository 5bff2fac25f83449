/** The CUDA backend over the fake driver, whose kernels run in emulation. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import type { Compiler } from '../../src/jit/compile-kernel.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { emulatingCompiler } from './emulating-compiler.ts';
import { buildFakeDriver } from './fake-driver.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-fake-kernels-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

export const fake = buildFakeDriver();
const driver = new CudaDriver({ path: fake.path });
const cache = new KernelCache({ folder });

export function openFakeBackend(compiler: Compiler = emulatingCompiler): CudaBackend {
  return new CudaBackend({ driver, compiler, cache });
}
