/** What ptxas says of a kernel. */
export interface CompiledResources {
  /** Per thread. */
  readonly registers: number;
  /** Per thread, in local memory. */
  readonly stackBytes: number;
  readonly spillStoreBytes: number;
  readonly spillLoadBytes: number;
  /** Per block. */
  readonly sharedBytes: number;
}

/** Reads a log of `ptxas -v`; undefined when it does not mention the kernel. */
export function readResources(log: string, kernel: string): CompiledResources | undefined {
  const part = log
    .split("Compiling entry function '")
    .slice(1)
    .find((text) => text.startsWith(`${kernel}'`));
  const number = (pattern: RegExp) => Number(pattern.exec(part ?? '')?.[1] ?? 0);
  const registers = number(/Used (\d+) registers/);
  if (registers === 0) return undefined;
  return {
    registers,
    stackBytes: number(/(\d+) bytes stack frame/),
    spillStoreBytes: number(/(\d+) bytes spill stores/),
    spillLoadBytes: number(/(\d+) bytes spill loads/),
    sharedBytes: number(/(\d+) bytes smem/),
  };
}
