/** The real NVRTC, where there is one; it needs no GPU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { CudaError, DeviceError } from '../../src/errors.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { collectHeaders } from '../../src/jit/headers.ts';
import { readResources } from '../../src/jit/ptxas-log.ts';

let compiler: Nvrtc | undefined;
let skip: string | false = false;
try {
  compiler = new Nvrtc();
} catch (error) {
  skip = (error as DeviceError).message;
}

const KERNELS = fileURLToPath(new URL('../../kernels/cuda', import.meta.url));
const SOURCE = `#include "rows.cuh"
extern "C" __global__ void copy_row(float *to, const float *from) { to[threadIdx.x] = from[threadIdx.x]; }
`;

test("compiles the kernels' headers to a cubin, and says what a kernel takes", { skip }, async () => {
  const headers = collectHeaders(SOURCE, KERNELS);
  assert.ok(headers.has('rows.cuh'));
  const options = ['--gpu-architecture=sm_90', '--std=c++17', '--ptxas-options=-v'];
  const { cubin, log } = await (compiler as Nvrtc).compile({
    source: SOURCE,
    fileName: 'copy.cu',
    headers,
    options,
  });
  assert.equal(Buffer.from(cubin.subarray(1, 4)).toString(), 'ELF');
  assert.ok((readResources(log, 'copy_row')?.registers ?? 0) > 0, log);
});

test('compiles beside the event loop, several at once', { skip }, async () => {
  let turns = 0;
  const timer = setInterval(() => (turns += 1), 1);
  const compile = (name: string) =>
    (compiler as Nvrtc).compile({
      source: `extern "C" __global__ void ${name}() {}`,
      fileName: `${name}.cu`,
      headers: new Map(),
      options: ['--gpu-architecture=sm_80'],
    });
  await Promise.all(['a', 'b', 'c'].map(compile));
  clearInterval(timer);
  assert.ok(turns > 0);
});

test('errors carry the log, with file and line', { skip }, async () => {
  const program = { source: 'int x = y;', fileName: 'wrong.cu', headers: new Map(), options: [] };
  await assert.rejects((compiler as Nvrtc).compile(program), (error: CudaError) => {
    assert.equal(error.code, 'KERNEL_COMPILE_FAILED');
    assert.match(error.message, /wrong\.cu\(1\): error: .*"y" is undefined/s);
    return true;
  });
  const old = { ...program, source: '', options: ['--gpu-architecture=sm_20'] };
  await assert.rejects((compiler as Nvrtc).compile(old), {
    code: 'CUDA_FAILED',
    status: 'NVRTC_ERROR_INVALID_OPTION',
  });
});

test('knows the architectures that Hotrow is for', { skip }, () => {
  const architectures = (compiler as Nvrtc).architectures();
  assert.ok(['sm_80', 'sm_90'].every((architecture) => architectures.includes(architecture)));
});
