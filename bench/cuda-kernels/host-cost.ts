/**
 * What the host spends on the GPU: `node --import tsx bench/cuda-kernels/host-cost.ts OUT.json [MODEL REQUEST]`. Compiling
 * a kernel for the first time and from the cache; launching one; a whole program of small lookups, and a model's prediction
 * of one sample, from call to result.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { PLAIN_VARIANT, standardBagSource } from '../../src/backend/cuda/embedding/standard-source.ts';
import { launch } from '../../src/backend/cuda/kernels/launcher.ts';
import { KernelLibrary } from '../../src/backend/cuda/kernels/library.ts';
import { timing } from '../../src/bench/statistics.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver, describe } from '../../src/cuda/discover.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { median } from '../../src/tuner/quantile.ts';
import { syntheticBags } from '../../src/workload/synthetic.ts';

const [out, modelFile, requestFile] = process.argv.slice(2);
if (out === undefined) throw new Error('name a file for the results');

/** Of a round: fewer than a stream queues before a launch waits for room. */
const LAUNCHES = 500;
const ROUNDS = 40;
const WARM_UP_ROUNDS = 20;
const PROGRAMS = 300;

const driver = cudaDriver();
const device = new CudaDevice(driver);
const compiler = new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
const folder = mkdtempSync(join(tmpdir(), 'hotrow-host-cost-'));

/** ms until a kernel can be launched, in a library that has not met it. */
async function loadMs(distance: number): Promise<number> {
  const library = new KernelLibrary(device, compiler, new KernelCache({ folder }));
  const source = standardBagSource({ ...PLAIN_VARIANT, prefetch: { into: 'registers', distance } });
  const began = performance.now();
  await library.get(source);
  return performance.now() - began;
}

/** µs of CPU time a launch, user and system, over many launches: the median of some rounds after a warm-up. */
async function launchUs(): Promise<{ wall: number; processor: number }> {
  using stream = new CudaStream(device);
  const library = new KernelLibrary(device, compiler, new KernelCache({ folder }));
  const kernel = await library.get(standardBagSource(PLAIN_VARIANT));
  // No bags: a launch that does nothing.
  const words = new BigInt64Array(15);
  const rounds: { wall: number; processor: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const processor = process.cpuUsage();
    const began = performance.now();
    for (let i = 0; i < LAUNCHES; i++) launch(stream, kernel, words, [1], [32, 8]);
    const wall = performance.now() - began;
    const used = process.cpuUsage(processor);
    await stream.finished();
    rounds.push({ wall: (wall * 1e3) / LAUNCHES, processor: (used.user + used.system) / LAUNCHES });
  }
  const steady = rounds.slice(WARM_UP_ROUNDS);
  return {
    wall: median(steady.map(({ wall }) => wall)),
    processor: median(steady.map(({ processor }) => processor)),
  };
}

/** ms from forward() to its result, for a small batch over so many tables under the plan that runs by default. */
async function forwardMs(tableCount: number) {
  using backend = new CudaBackend();
  const tables = syntheticTables({ tables: tableCount, rows: 1000, dim: 16, rowFormat: 'float32' });
  await using collection = await EmbeddingCollection.create(backend, tables);
  const [batch] = syntheticBags({
    tables,
    batchSize: 1,
    pattern: 'random',
    bagLengths: '3',
    seed: 1,
    batches: 1,
  });
  if (batch === undefined) throw new Error('no batch');
  const samples: number[] = [];
  for (let i = 0; i < PROGRAMS; i++) {
    const began = performance.now();
    await collection.forward(batch);
    samples.push(performance.now() - began);
  }
  return timing(samples.slice(PROGRAMS / 3));
}

/** ms from predict() to its result, for the first sample of a request; of the built package, as its users run it. */
async function predictMs(file: string, request: string) {
  const built = new URL('../../dist/index.js', import.meta.url).href;
  const { loadModel, readRequest } = (await import(built)) as typeof import('../../src/index.ts');
  await using model = await loadModel(file, { device: 'cuda' });
  const { dense, denseFeatures, bags } = await readRequest(request);
  const one = {
    batchSize: 1,
    denseFeatures,
    dense: dense.subarray(0, denseFeatures),
    bags: bags.map(({ indices, offsets }) => ({
      indices: indices.subarray(0, Number(offsets[1] ?? indices.length)) as typeof indices,
      offsets: offsets.subarray(0, 1) as typeof offsets,
    })),
  };
  const samples: number[] = [];
  for (let i = 0; i < 10 * PROGRAMS; i++) samples.push((await model.predict(one)).latencyMs);
  return timing(samples.slice(5 * PROGRAMS));
}

const distances = [2, 3, 4, 5, 6, 7, 8];
const first: number[] = [];
const cached: number[] = [];
for (const distance of distances) first.push(await loadMs(distance));
for (const distance of distances) cached.push(await loadMs(distance));
const results = {
  createdAt: new Date().toISOString(),
  command: 'node --import tsx bench/cuda-kernels/host-cost.ts OUT.json',
  device: describe(driver, device.properties),
  firstCompileMs: { median: median(first), max: Math.max(...first) },
  fromCacheMs: { median: median(cached), max: Math.max(...cached) },
  launchUs: await launchUs(),
  plan: 'auto',
  forwardOneSample: { tables1: await forwardMs(1), tables26: await forwardMs(26) },
  ...(modelFile === undefined || requestFile === undefined
    ? {}
    : { predictOneSample: await predictMs(modelFile, requestFile) }),
};
device[Symbol.dispose]();
rmSync(folder, { recursive: true });
writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
