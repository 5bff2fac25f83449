/** What rows need of the backend: a device, the stream that the lookups run in, kernels, blocks of memory. */
import type { CudaDevice } from '../../../cuda/device.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { InFlight } from '../../in-flight.ts';
import type { KernelLibrary } from '../kernels/library.ts';
import type { MemoryPools } from '../memory/pools.ts';

export interface RowTools {
  readonly device: CudaDevice;
  readonly stream: CudaStream;
  /** For copies while lookups go on. */
  readonly aside: CudaStream;
  readonly kernels: KernelLibrary;
  readonly pools: MemoryPools;
  /** Counts what is under way on the device, which stays open meanwhile. */
  readonly inFlight: InFlight;
}
