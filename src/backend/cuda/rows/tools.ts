/** What rows need of the backend: a device, the stream that the lookups run in, and its kernels. */
import type { CudaDevice } from '../../../cuda/device.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { KernelLibrary } from '../kernels/library.ts';

export interface RowTools {
  readonly device: CudaDevice;
  readonly stream: CudaStream;
  readonly kernels: KernelLibrary;
}
