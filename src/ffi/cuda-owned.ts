/** What a JavaScript thread owes the CUDA driver when it ends: how each kind of handle is given back then. */
import type { LibraryHandle } from 'koffi';
import type { CudaCall } from './cuda-symbols.ts';
import { functionAddress, type HandleCalls, OwnedHandle } from './owned-handles.ts';

const GIVE_BACK = {
  memory: 'cuMemFree_v2',
  'pinned memory': 'cuMemFreeHost',
  'registered memory': 'cuMemHostUnregister',
  stream: 'cuStreamDestroy_v2',
  event: 'cuEventDestroy_v2',
  module: 'cuModuleUnload',
  graph: 'cuGraphExecDestroy',
  'graph template': 'cuGraphDestroy',
  /** Of a device, which is the handle. */
  'primary context': 'cuDevicePrimaryCtxRelease_v2',
} as const satisfies Readonly<Record<string, CudaCall>>;

export type CudaHandleKind = keyof typeof GIVE_BACK;

export class OwnedByThread {
  readonly #driver: LibraryHandle;
  readonly #setCurrent: bigint;
  readonly #calls = new Map<CudaHandleKind, HandleCalls>();

  constructor(driver: LibraryHandle) {
    this.#driver = driver;
    this.#setCurrent = functionAddress(driver, 'cuCtxSetCurrent');
  }

  /**
   * A place for a handle, which is given back when this thread ends before the place is disposed; work of streams is waited
   * for. `known`: as in OwnedHandle.
   */
  own(kind: CudaHandleKind, context?: bigint, known?: bigint | number): OwnedHandle {
    let calls = this.#calls.get(kind);
    if (calls === undefined) {
      const giveBack = functionAddress(this.#driver, GIVE_BACK[kind]);
      const wait = kind === 'stream' ? functionAddress(this.#driver, 'cuStreamSynchronize') : 0n;
      calls = { giveBack, wait };
      this.#calls.set(kind, calls);
    }
    return this.ownBy(calls, context, known);
  }

  /** The same for a handle of another library, made in a context of this one. */
  ownBy(calls: HandleCalls, context?: bigint, known?: bigint | number): OwnedHandle {
    const inContext = context === undefined ? {} : { setCurrent: this.#setCurrent, context };
    return new OwnedHandle({ ...calls, ...inContext }, known);
  }
}
