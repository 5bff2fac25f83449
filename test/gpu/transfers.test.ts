/** Transfers on real GPUs: within one, with host memory, and between two where there are two. */
import { describe, test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { cudaDevices } from '../../src/cuda/discover.ts';
import { Random } from '../support/random.ts';
import { assertTransfers } from '../support/transfers.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu();

/** Why nothing goes from GPU to GPU here; false: it does. */
function refuseTwoGpus(): string | false {
  const found = cudaDevices();
  if ('reason' in found) return found.reason;
  return found.devices.length < 2 ? 'there is one GPU' : false;
}

describe('transfers on a GPU', { skip }, () => {
  test('between own buffers', async () => {
    using gpu = new CudaBackend();
    await assertTransfers(new Random(1), gpu, gpu, gpu);
  });

  test('to and from host memory', async () => {
    using gpu = new CudaBackend();
    using cpu = new CpuBackend();
    await assertTransfers(new Random(2), gpu, gpu, cpu);
    await assertTransfers(new Random(3), gpu, cpu, gpu);
  });

  test('between two GPUs', { skip: refuseTwoGpus() }, async () => {
    using one = new CudaBackend();
    using two = new CudaBackend({ ordinal: 1 });
    await assertTransfers(new Random(4), one, one, two);
    await assertTransfers(new Random(5), one, two, one);
  });
});
