/** What the embedding stages of the kernel families have in common. */
import type { CudaDevice } from '../../../cuda/device.ts';
import type { CudaEvent } from '../../../cuda/event.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { PinningParameters } from '../../../plan/techniques/pinning.ts';
import type { EmbeddingBagsOperation, KernelUse, LaunchTime } from '../../backend.ts';
import type { RoundedCopy } from '../dense/dense-operation.ts';
import type { KernelLaunch } from '../kernels/launcher.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import type { CudaBags } from './bags.ts';
import type { CudaTables } from './tables.ts';

/** An `embeddingBags` operation with everything that its launches need. */
export interface EmbeddingStage {
  readonly operation: EmbeddingBagsOperation;
  readonly bags: CudaBags;
  readonly tables: CudaTables;
  /** Whether indices are checked on the device, and findings to be read. */
  readonly checks: boolean;
  /** Whether a report stands behind the findings as soon as the stage is done; else the bags are checked once more. */
  readonly reports: boolean;
  /** Where the number of findings stands once the stage is done; 0: nothing was found. */
  readonly total: DevicePtr;
  /** The kernels that pool bags, each once. */
  readonly uses: readonly KernelUse[];
  /**
   * The launches that follow the batch, in their order, when they are all that the stage puts into its stream, each timed by
   * itself; undefined: there is more.
   */
  launches(): readonly KernelLaunch[] | undefined;
  /** Puts the stage into the streams; its bags are uploaded already. `place`: the operation's in the program. */
  enqueue(place: number, timer: LaunchTimer): void;
}

/** What a stage needs of the backend. */
export interface StageTools {
  readonly device: CudaDevice;
  readonly kernels: KernelLibrary;
  readonly stream: CudaStream;
  /** For work in the shadow of `stream`'s. */
  readonly sideStream: CudaStream;
  readonly l2: PersistingL2;
  /** A word of device memory for the stage, 0 until it counts. */
  readonly total: DevicePtr;
  /** The output in 8 bits too, where a layer reads it so: of the fused kernel alone. */
  readonly rounded?: RoundedCopy | undefined;
  /** An event without timing, free once the program is done. */
  event(): CudaEvent;
}

/** The kernels of some stages, each once. */
export function usesOf(stages: Iterable<EmbeddingStage>): readonly KernelUse[] {
  const [first, ...others] = stages;
  if (first === undefined || others.length === 0) return first?.uses ?? [];
  return [...new Set([first, ...others].flatMap(({ uses }) => uses))];
}

/** Gives events with timing, and notes what they time. */
export interface LaunchTimer {
  /** Runs `work`, with an event before and one behind it in `stream`, where launches are to be timed. */
  time(stream: CudaStream, what: Omit<LaunchTime, 'seconds'>, work: () => void): void;
}

/** The part of L2 that is set aside for pinned rows, while a plan that pins them is in use. */
export class PersistingL2 {
  readonly #device: CudaDevice;
  #bytes = 0;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  /** Sets aside what a plan pins; under a plan that pins nothing, gives it back and unpins every line. */
  prepare(pinning: PinningParameters | undefined): void {
    const bytes = pinning?.bytes ?? 0;
    if (bytes === this.#bytes) return;
    // Lines of an earlier plan would keep their place.
    if (this.#bytes > 0) this.#device.resetPersistingL2();
    this.#device.setPersistingL2Bytes(bytes);
    this.#bytes = bytes;
  }
}
