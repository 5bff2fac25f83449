/** Host memory of callers that the GPU reads by itself. */
import { bufferOf } from '../../../checks/array.ts';
import type { CudaDevice } from '../../../cuda/device.ts';
import { RegisteredMemory } from '../../../cuda/memory.ts';
import { HostArrays } from '../../host-arrays.ts';

/** By the buffers of the arrays in it. */
const homes = new WeakMap<ArrayBufferLike, RegisteredMemory>();
let everMade = false;

/** Disposed, its arrays stay, as arrays like any other. */
export class CudaHostMemory extends HostArrays {
  readonly #registered: RegisteredMemory;

  /** @throws CudaError OUT_OF_MEMORY; RangeError for more than an ArrayBuffer holds. */
  constructor(device: CudaDevice, bytes: number) {
    const registered = new RegisteredMemory(device, bytes);
    const { buffer, offset } = registered;
    super(buffer, offset, bytes);
    this.#registered = registered;
    homes.set(buffer, registered);
    everMade = true;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#registered[Symbol.dispose]();
  }
}

/** The registered memory that an array lies in; undefined: it is memory like any other. */
export function homeOf(array: ArrayBufferView): RegisteredMemory | undefined {
  const home = everMade ? homes.get(bufferOf(array)) : undefined;
  return home?.disposed === true ? undefined : home;
}
