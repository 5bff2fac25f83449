/** Thread pools of the CPU library, and the instruction sets that they run. */
import { DeviceError } from '../errors.ts';
import { library } from './native-library.ts';

/** A thread pool of the CPU library. */
export type ThreadPool = bigint & { readonly __brand: 'ThreadPool' };

/** Numbers of the C header's enum. */
export const ISA = { portable: 0, avx2: 1, avx512: 2 } as const;
export type Isa = keyof typeof ISA;

/** The best instruction set of this processor. */
export function bestIsa(): Isa {
  const code = Number(library().bestIsa());
  return code === ISA.avx512 ? 'avx512' : code === ISA.avx2 ? 'avx2' : 'portable';
}

/** @throws DeviceError OUT_OF_MEMORY when threads or memory are not to be had, DEVICE_UNAVAILABLE for an absent isa. */
export function createPool(threads: number, isa: Isa): ThreadPool {
  if (ISA[isa] > ISA[bestIsa()]) {
    throw new DeviceError('DEVICE_UNAVAILABLE', `this processor lacks ${isa}; its best is ${bestIsa()}`);
  }
  const pool = BigInt(library().poolCreate(threads, ISA[isa]));
  if (pool === 0n) throw new DeviceError('OUT_OF_MEMORY', `cannot start ${threads} threads`);
  return pool as ThreadPool;
}

export function destroyPool(pool: ThreadPool): void {
  library().poolDestroy(pool);
}
