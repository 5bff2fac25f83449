/** What the CUDA backend uses of the CPU library. */
export { ROW_FORMAT } from './cpu-operators.ts';
export { addressOf, copyAll, type HostCopy, type HostPtr, readFileTo } from './host-memory.ts';
