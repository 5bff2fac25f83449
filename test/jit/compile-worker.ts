/** A process that compiles one kernel: node --import tsx compile-worker.ts NVRTC CACHE SOURCES. Prints the result. */
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { compileKernel } from '../../src/jit/compile-kernel.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';

const [path = '', folder = '', includeFolder = ''] = process.argv.slice(2);
const compiler = new Nvrtc({ path });
const source = '#include "outer.cuh"\nextern "C" __global__ void add(Words) {}\n';
const request = { id: 'shared', kernel: 'add', source, options: [], includeFolder, architecture: 'sm_90' };
const { cubin, cached, cachePath } = await compileKernel(request, {
  compiler,
  cache: new KernelCache({ folder }),
});
console.log(JSON.stringify({ cubin: Buffer.from(cubin).toString('latin1'), cached, cachePath }));
