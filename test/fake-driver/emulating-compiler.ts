/** A compiler whose machine code the fake driver runs: kernels of kernels/cuda, compiled for the host. */
import type { Compiler } from '../../src/jit/compile-kernel.ts';
import { build } from '../emulation/emulator.ts';

const KERNEL = /extern "C" __global__ void (?:__\w+__\([\d, ]+\) )*(\w+)\(/;

/** What the assembler would say of every kernel: registers are made up. */
const REGISTERS = 32;

export const emulatingCompiler: Compiler = {
  identity: 'host emulation',
  async compile({ source }) {
    const kernels = partsOf(source).map((part) => {
      const kernel = KERNEL.exec(part)?.[1];
      if (kernel === undefined) throw new TypeError('a part of the source has no kernel');
      return { kernel, source: part };
    });
    const library = await build(kernels);
    const names = kernels.map(({ kernel }) => kernel);
    return {
      cubin: new TextEncoder().encode(`EMULATED ${library} ${names.join(' ')}\0`),
      log: names.map(report).join(''),
    };
  },
};

/** A text for each kernel: it ends with the kernel's closing brace. */
function partsOf(source: string): string[] {
  return source.split(/(?<=^}\n)\n?(?=\S)/m);
}

function report(kernel: string): string {
  return `ptxas info    : Compiling entry function '${kernel}' for 'sm_90'\nptxas info    : Used ${REGISTERS} registers\n`;
}
