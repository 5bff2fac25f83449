/**
 * A worker thread with a model: `workerData` is a ModelWork. It says `ready` when it has predicted once, and what it predicted
 * when it is done.
 */
import { fileURLToPath } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import type { Backend } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { DEFAULT_LINEAR_SEARCH } from '../../src/backend/cuda/dense/linear-chooser.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { MappedFile } from '../../src/ffi/host-memory.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { emulatingCompiler } from '../fake-driver/emulating-compiler.ts';
import { smallModel, smallRequest } from './models.ts';
import { Random } from './random.ts';

/** Where the fake driver is, and where its kernels are kept. */
export interface FakeLibraries {
  readonly driver: string;
  readonly cublasLt: string;
  readonly cache: string;
}

export interface ModelWork {
  readonly device: 'cpu' | 'cuda' | FakeLibraries;
  readonly seed: number;
  /** How often it predicts, some at once; undefined: until it is ended. */
  readonly predictions?: number;
  /** What it does when it is ready; default: predict. */
  readonly then?: 'exit' | 'measure';
}

/** The model and the requests of a seed. */
export function workOf(seed: number) {
  const architecture = smallModel(new Random(seed), 'dot-lower');
  const requests = [3, 8, 17, 40].map((size) => smallRequest(new Random(seed + size), architecture, size));
  return { architecture, requests };
}

// Nothing is measured: models choose alike.
const linearSearch = { ...DEFAULT_LINEAR_SEARCH, rounds: 0 };

function open(device: ModelWork['device']): Backend {
  if (device === 'cpu') return new CpuBackend({ threads: 3 });
  if (device === 'cuda') return new CudaBackend({ linearSearch });
  return new CudaBackend({
    driver: new CudaDriver({ path: device.driver }),
    compiler: emulatingCompiler,
    cache: new KernelCache({ folder: device.cache }),
    cublasLt: new CublasLt({ path: device.cublasLt }),
    linearSearch,
  });
}

async function work({ device, seed, predictions = Number.POSITIVE_INFINITY, then }: ModelWork) {
  const { architecture, requests } = workOf(seed);
  const backend = open(device);
  await using model = await DlrmModel.create(backend, architecture, {
    precision: 'float32',
    closesBackend: true,
  });
  using _mapped = new MappedFile(fileURLToPath(import.meta.url));
  const predictAll = () => Promise.all(requests.map((request) => model.predict(request)));
  const first = (await predictAll()).map(({ probabilities }) => probabilities);
  parentPort?.postMessage('ready');
  if (then === 'exit') process.exit(0);
  if (then === 'measure') for (;;) await backend.measureCeilings();
  for (let done = requests.length; done < predictions; done += requests.length) {
    for (const [r, { probabilities }] of (await predictAll()).entries()) {
      const same = Buffer.compare(
        Buffer.from(probabilities.buffer),
        Buffer.from((first[r] as Float32Array).buffer),
      );
      if (same !== 0) throw new Error(`prediction ${done + r} differs from the first`);
    }
  }
  return first;
}

if (parentPort !== null) parentPort.postMessage(await work(workerData as ModelWork));
