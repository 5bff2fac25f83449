/**
 * Does things many times over and compares what the process holds before and after: mappings, descriptors, threads, what the
 * native library counts, allocations on the device. Exits with 1 where something grew. Linux.
 *
 *   npx tsx scripts/endurance.ts [--device cpu|cuda|fake] [--opens N] [--predictions N] [--failures N] [--at-once N] [--width N] [--workers SECONDS]
 *
 * `fake` is the CUDA backend over the tests' driver, whose kernels run on the CPU.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Backend } from '../src/backend/backend.ts';
import { CpuBackend } from '../src/backend/cpu/cpu-backend.ts';
import { CudaBackend } from '../src/backend/cuda/cuda-backend.ts';
import { CudaDevice } from '../src/cuda/device.ts';
import { cudaDriver } from '../src/cuda/discover.ts';
import { nativeCounts } from '../src/ffi/owned-handles.ts';
import { garbageCollector } from '../src/garbage-collector.ts';
import { DlrmModel } from '../src/model/dlrm.ts';
import { smallModel, smallRequest } from '../test/support/models.ts';
import { Random } from '../test/support/random.ts';
import { startWorker } from '../test/support/start-worker.ts';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    opens: { type: 'string', default: '200' },
    predictions: { type: 'string', default: '2000' },
    failures: { type: 'string', default: '200' },
    'at-once': { type: 'string', default: '2000' },
    width: { type: 'string', default: '16' },
    workers: { type: 'string', default: '5' },
  },
});
const width = Number(values.width);
const WARM_UP = 64;
/** The engine's heap comes and goes in mappings of its own: what leaks takes at least one in so many turns. */
const TURNS_PER_MAPPING = 20;
const HEAP_MAPPINGS = 16;
/** Idle programs that a model keeps: one that was lent once before may be captured late, and its graph is a handle more. */
const LATE_GRAPHS = 64;
/** Koffi keeps some mappings of every thread that has loaded it. */
const MAPPINGS_PER_WORKER = 12;

/** A device to open, and what is allocated on it. */
interface Subject {
  open(): Backend;
  allocations(): Readonly<Record<string, number>>;
}

async function subjectOf(device: string): Promise<Subject> {
  if (device === 'cpu') return { open: () => new CpuBackend({ threads: 2 }), allocations: () => ({}) };
  if (device === 'fake') {
    const { fake, fakeLt, openFakeBackend } = await import('../test/fake-driver/open-backend.ts');
    const allocations = () => ({ ...fake.live(), 'device bytes': fake.liveBytes(), cuBLASLt: fakeLt.live() });
    return { open: () => openFakeBackend(), allocations };
  }
  if (device !== 'cuda') throw new Error(`--device is cpu, cuda or fake, not ${device}`);
  // Keeps the primary context, whose memory would come and go else.
  const kept = new CudaDevice(cudaDriver());
  const allocations = () => {
    const { freeBytes, totalBytes } = kept.memoryInfo();
    return { 'device bytes': totalBytes - freeBytes };
  };
  return { open: () => new CudaBackend(), allocations };
}

const collectGarbage = garbageCollector();

interface Held {
  readonly exact: Readonly<Record<string, number>>;
  readonly anonymousMappings: number;
}

async function held({ allocations }: Subject): Promise<Held> {
  for (let turn = 0; turn < 3; turn++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const mappings = readFileSync('/proc/self/maps', 'utf8').trim().split('\n');
  const ofFiles = mappings.filter((mapping) => / \//.test(mapping)).length;
  return {
    exact: {
      'mappings of files': ofFiles,
      descriptors: readdirSync('/proc/self/fd').length,
      threads: readdirSync('/proc/self/task').length,
      ...nativeCounts(),
      ...allocations(),
    },
    anonymousMappings: mappings.length - ofFiles,
  };
}

/** Does `turn` `count` times, after some times for what is made once; whether all is as it was. */
async function endure(
  subject: Subject,
  what: string,
  count: number,
  turn: (i: number) => Promise<void>,
  { warmUp = WARM_UP, mappingsPerTurn = 1 / TURNS_PER_MAPPING, lateGraphs = 0 } = {},
) {
  for (let i = 0; i < warmUp; i++) await turn(i - warmUp);
  const before = await held(subject);
  const began = performance.now();
  for (let i = 0; i < count; i++) await turn(i);
  const after = await held(subject);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const names = [...new Set([...Object.keys(before.exact), ...Object.keys(after.exact)])];
  const lines = names.map((name) => [name, before.exact[name] ?? 0, after.exact[name] ?? 0] as const);
  const isSame = ([name, first, last]: (typeof lines)[number]) =>
    first === last || (name === 'handles' && last > first && last - first <= lateGraphs);
  const grown = lines.filter((line) => !isSame(line)).map(([name]) => name);
  const [first, last] = [before.anonymousMappings, after.anonymousMappings];
  if (last - first > Math.max(HEAP_MAPPINGS, count * mappingsPerTurn)) grown.push('anonymous mappings');
  console.log(`${what}: ${count} in ${seconds} s`);
  for (const [name, from, to] of [...lines, ['anonymous mappings', first, last] as const])
    console.log(`  ${name.padEnd(20)} ${String(from).padStart(12)} ${String(to).padStart(12)}`);
  if (grown.length > 0) console.error(`  differ: ${grown.join(', ')}`);
  return grown.length === 0;
}

/** Two worker threads with a model each, which predict side by side until they are terminated. */
async function workersFor(seconds: number): Promise<void> {
  const device = values.device as 'cpu' | 'cuda';
  const workers = [1, 2].map((seed) => startWorker({ device, seed }));
  await Promise.all(workers.map(({ ready }) => ready));
  // A prediction that differs from the first ends its worker.
  await Promise.race([sleep(1000 * seconds), ...workers.map(({ done }) => done)]);
  await Promise.all(workers.map(({ worker }) => worker.terminate()));
  await Promise.all(workers.map(({ ended }) => ended));
}

/** That a call failed as it must. */
async function mustFail(code: string, call: Promise<unknown>): Promise<void> {
  const found = await call.then(
    () => 'nothing',
    (error: { readonly code?: string }) => error.code,
  );
  if (found !== code) throw new Error(`a bad request met ${found}, not ${code}`);
}

const subject = await subjectOf(values.device);
const architecture = smallModel(new Random(1), 'dot-lower');
const requests = Array.from({ length: 8 }, (_, i) => smallRequest(new Random(i), architecture, 1 + 7 * i));
const requestOf = (i: number) => requests[Math.abs(i) % requests.length] as (typeof requests)[number];
/** Refused before anything runs, and where lookups run, in turn. */
const badOf = (i: number) => {
  const request = requestOf(i);
  if (i % 2 === 0) return { code: 'TENSOR_SHAPE', request: { ...request, dense: request.dense.subarray(1) } };
  const { batchSize, bags } = request;
  const bad = {
    indices: new Int32Array(batchSize).fill(2 ** 30),
    offsets: Int32Array.from({ length: batchSize }, (_, b) => b),
  };
  return { code: 'INDEX_OUT_OF_RANGE', request: { ...request, bags: [bad, ...bags.slice(1)] } };
};

const passed: boolean[] = [];
// The tests' driver lives in this thread.
if (values.device !== 'fake')
  passed.push(
    await endure(
      subject,
      `two workers for ${values.workers} s`,
      1,
      (i) => workersFor(i < 0 ? 0.5 : Number(values.workers)),
      {
        warmUp: 3,
        mappingsPerTurn: 2 * MAPPINGS_PER_WORKER,
      },
    ),
  );
passed.push(
  await endure(subject, 'opened and closed', Number(values.opens), async (i) => {
    await using model = await DlrmModel.create(subject.open(), architecture, { closesBackend: true });
    await model.predict(requestOf(i));
  }),
);
interface Counts {
  readonly predictions: number;
  readonly atOnce: number;
  readonly failures: number;
}

/** What one model does, until it is closed; whether nothing grew meanwhile. */
async function useModel({ predictions, atOnce, failures }: Counts): Promise<boolean[]> {
  await using model = await DlrmModel.create(subject.open(), architecture, { closesBackend: true });
  return [
    await endure(subject, 'predictions', predictions, async (i) => {
      await model.predict(requestOf(i));
    }),
    await endure(
      subject,
      `predictions, ${width} at once`,
      Math.ceil(atOnce / width),
      async (i) => {
        await Promise.all(Array.from({ length: width }, (_, j) => model.predict(requestOf(i + j))));
      },
      { warmUp: Math.ceil((16 * WARM_UP) / width), lateGraphs: LATE_GRAPHS },
    ),
    await endure(subject, 'failing predictions', failures, (i) => {
      const { code, request } = badOf(i);
      return mustFail(code, model.predict(request));
    }),
  ];
}

// What a driver and its libraries keep of a first model is the process's own.
passed.push(...(await useModel({ predictions: 0, atOnce: 0, failures: 0 })));
const withoutModel = await held(subject);
passed.push(
  ...(await useModel({
    predictions: Number(values.predictions),
    atOnce: Number(values['at-once']),
    failures: Number(values.failures),
  })),
);
// All of it was the model's.
const afterModel = await held(subject);
for (const [name, before] of Object.entries(withoutModel.exact)) {
  const after = afterModel.exact[name];
  if (after === before) continue;
  console.error(`after the model was closed: ${name} ${before}, now ${after}`);
  passed.push(false);
}
if (!passed.every(Boolean)) process.exitCode = 1;
