/** A compiler whose machine code the fake driver runs: kernels of kernels/cuda, compiled for the host. */
import type { Compiler } from '../../src/jit/compile-kernel.ts';
import { build } from '../emulation/emulator.ts';

const KERNEL = /extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(/;

/** What the assembler would say of every kernel: registers are made up. */
const REGISTERS = 32;

export const emulatingCompiler: Compiler = {
  identity: 'host emulation',
  async compile({ source }) {
    const kernel = KERNEL.exec(source)?.[1];
    if (kernel === undefined) throw new TypeError('the source has no kernel');
    const library = await build([{ kernel, source }]);
    return {
      cubin: new TextEncoder().encode(`EMULATED ${library} ${kernel}\0`),
      log: `ptxas info    : Compiling entry function '${kernel}' for 'sm_90'\nptxas info    : Used ${REGISTERS} registers\n`,
    };
  },
};
