/** The model of both threads: as servers place it, on a device whose calls are watched. */
import type { Backend } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { DEFAULT_LINEAR_SEARCH } from '../../src/backend/cuda/dense/linear-chooser.ts';
import { HostBags } from '../../src/backend/host-arrays.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { loadArchitecture } from '../../src/model/load-model.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import type { OnProgress } from '../../src/progress.ts';
import { habitsOf } from '../../src/serve/engine/habits.ts';
import { syntheticRequest } from '../../src/workload/synthetic.ts';
import { emulatingCompiler } from '../../test/fake-driver/emulating-compiler.ts';
import type { CallLog } from './calls.ts';

/** Where the fake driver is, and where its kernels are kept: the main thread's, which outlives the others. */
export interface FakeLibraries {
  readonly driver: string;
  readonly cublasLt: string;
  readonly cache: string;
}

export type ProbeDevice = 'cpu' | 'cuda' | FakeLibraries;

const BAG_LENGTHS = '10';
const CPU_THREADS = 1;

function open(device: ProbeDevice, log: CallLog): Backend {
  if (device === 'cpu') return new CpuBackend({ threads: CPU_THREADS });
  const fake = typeof device === 'object' ? device : undefined;
  const driver = new CudaDriver(fake && { path: fake.driver });
  const majorVersion = Math.floor(driver.version / 1000);
  const cublasLt = new CublasLt(fake === undefined ? { majorVersion } : { path: fake.cublasLt });
  return new CudaBackend({
    letsOthersIn: true,
    driver: log.watch(driver, 'cuda'),
    cublasLt: log.watch(cublasLt, 'cublasLt'),
    ...(fake && {
      compiler: emulatingCompiler,
      cache: new KernelCache({ folder: fake.cache }),
      // Times of emulated kernels say nothing.
      linearSearch: { ...DEFAULT_LINEAR_SEARCH, rounds: 0 },
    }),
  });
}

export interface Placed {
  readonly model: DlrmModel;
  readonly backend: Backend;
}

/** Closing the model closes the device. `phase` is told what begins. */
export async function place(
  file: string,
  device: ProbeDevice,
  log: CallLog,
  phase: (name: string) => void,
  onProgress: OnProgress = () => {},
): Promise<Placed> {
  phase('read the description');
  const { architecture } = await loadArchitecture(file);
  phase('open the device');
  const backend = open(device, log);
  phase('place');
  const options = { closesBackend: true, indexChecking: 'none', onProgress } as const;
  const model = await DlrmModel.create(backend, architecture, options);
  return { model, backend };
}

/** Memory for batches, as servers take it. */
export function reserve({ model }: Placed, mostSamples: number): void {
  model.reserveBatches(mostSamples, habitsOf(model).depth);
}

/** A request in memory that the device reads by itself. */
export function requestOf({ model, backend }: Placed, samples: number, seed: number) {
  const { tables, denseFeatures } = model.architecture;
  const shape = {
    tables,
    batchSize: samples,
    pattern: 'random',
    bagLengths: BAG_LENGTHS,
    seed,
    denseFeatures,
  };
  const { bags, ...request } = syntheticRequest({ ...shape, pattern: 'random' });
  // As merged batches have them.
  const merged = bags.map(({ indices, offsets }) => ({
    indices: Int32Array.from(indices as BigInt64Array, Number),
    offsets: Int32Array.from([...Array.from(offsets as BigInt64Array, Number), indices.length]),
  }));
  const memory = new HostBags(backend, merged);
  const own: DlrmRequest = { ...request, bags: memory.bags };
  return { request: own, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}
