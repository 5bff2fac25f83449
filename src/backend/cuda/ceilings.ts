import type { CudaDevice } from '../../cuda/device.ts';
import { CudaEvent } from '../../cuda/event.ts';
import { DeviceMemory, PinnedMemory } from '../../cuda/memory.ts';
import type { CudaKernel } from '../../cuda/module.ts';
import type { CudaStream } from '../../cuda/stream.ts';
import type { Ceilings } from '../backend.ts';
import { launch } from './kernels/launcher.ts';
import type { KernelLibrary } from './kernels/library.ts';
import { struct } from './kernels/struct.ts';

/** Well past any L2. */
const MEMORY_BYTES = 2 ** 31;
/** Long enough that its start does not count. */
const HOST_COPY_BYTES = 2 ** 28;
/** Well within L2, where one half of it may be far from a multiprocessor. */
const CACHE_SHARE = 1 / 4;
const CACHE_ROUNDS = 64;
const REPEATS = 7;
const THREADS = 512;
const BLOCKS_PER_MULTIPROCESSOR = 4;
/** As in kernels/cuda/ceilings.cuh: chains and multiply-adds a chain of a thread and round. */
const MULTIPLY_ADDS_PER_ROUND = 16 * 64;
const COMPUTE_ROUNDS = 200;

/** What ceilings.cuh is told. */
export const CeilingsParams = struct('CeilingsParams', 'ceilings.cuh', {
  memory: 'address',
  bytes: 'integer',
  rounds: 'integer',
  sink: 'address',
});

/** Measures what a GPU reaches at best: the fastest of several runs each. */
export async function measureCeilings(
  device: CudaDevice,
  stream: CudaStream,
  kernels: KernelLibrary,
): Promise<Ceilings> {
  const read = await kernels.utility('read_bytes');
  const multiplyAdd = await kernels.utility('multiply_add');
  const { multiprocessors, l2Bytes } = device.properties;
  const blocks = multiprocessors * BLOCKS_PER_MULTIPROCESSOR;
  const bytes = Math.min(MEMORY_BYTES, Math.floor(device.memoryInfo().freeBytes / 2 / THREADS) * THREADS);
  using memory = new DeviceMemory(device, bytes);
  using sink = new DeviceMemory(device, 4);
  stream.fillBytes(memory.address(), 0, bytes);

  const seconds = (kernel: CudaKernel, length: number, rounds: number) => {
    const words = CeilingsParams.encode({
      memory: memory.address(),
      bytes: length,
      rounds,
      sink: sink.address(),
    });
    return fastest(device, stream, () => launch(stream, kernel, words, [blocks], [THREADS]));
  };
  using pinned = new PinnedMemory(device, Math.min(bytes, HOST_COPY_BYTES));
  const hostCopy = () => stream.copyToDevice(memory.address(), pinned.address(), pinned.bytes);
  const cacheBytes = Math.floor((l2Bytes * CACHE_SHARE) / THREADS) * THREADS;
  return {
    readBytesPerSecond: bytes / (await seconds(read, bytes, 1)),
    cacheReadBytesPerSecond: (cacheBytes * CACHE_ROUNDS) / (await seconds(read, cacheBytes, CACHE_ROUNDS)),
    hostCopyBytesPerSecond: pinned.bytes / (await fastest(device, stream, hostCopy)),
    multiplyAddsPerSecond:
      (blocks * THREADS * MULTIPLY_ADDS_PER_ROUND * COMPUTE_ROUNDS) /
      (await seconds(multiplyAdd, 0, COMPUTE_ROUNDS)),
  };
}

/** Seconds of device time of the fastest of several runs. */
async function fastest(device: CudaDevice, stream: CudaStream, work: () => void): Promise<number> {
  using start = new CudaEvent(device, { timing: true });
  using end = new CudaEvent(device, { timing: true });
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < REPEATS; run++) {
    start.record(stream);
    work();
    end.record(stream);
    await end.wait();
    best = Math.min(best, end.msSince(start) / 1e3);
  }
  return best;
}
