/**
 * How long batches of a model wait while another one is loaded, warmed and closed beside it, and during which calls of the driver:
 * `npx tsx bench/load-stalls.ts [--device cpu|cuda|fake] [--tables 26] [--rows 20000] [--dim 128] [--loads 3] [--what model|memory]
 * [--samples 256] [--in-flight 2] [--every MS] [--most-samples 8192] [--quiet SECONDS] [--long MS] [--stall MS] [--folder FOLDER] [--json FILE]`.
 *
 * One process, as a server is: a thread predicts without pause, `--in-flight` batches at a time (`--every`: one is due every so many
 * ms, and waiting counts); each load is a thread of its own, which reads a checkpoint of `--tables` tables of `--rows` rows as an
 * engine of a server does. 26 tables of 300,000 rows of 128 numbers are 4 GB. Calls of either thread that take longer than `--long`
 * ms are kept; `stalls` are the times in which batches took longer than `--stall` ms. `fake` is the CUDA backend over the tests'
 * driver, whose kernels run on the CPU.
 *
 * Both rest after long calls, as engines do. `--what memory`: instead of loading a model, as much memory is taken, filled, read at
 * random and given back in each of the ways that the driver has.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
// @ts-expect-error: a script, without types
import { bundleTests } from '../scripts/bundle-tests.mjs';
import { writeModel } from '../scripts/endurance-model.ts';
import { timing } from '../src/bench/statistics.ts';
import { nowMs } from '../src/serve/engine/clock.ts';
import type { LaneReport, LaneStart } from './load-stalls/lane.ts';
import type { LoaderReport, LoaderStart } from './load-stalls/loader.ts';
import type { MemoryStart } from './load-stalls/memory.ts';
import type { ProbeDevice } from './load-stalls/model.ts';
import { phasesOf, stallsOf } from './load-stalls/report.ts';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    tables: { type: 'string', default: '26' },
    rows: { type: 'string', default: '20000' },
    dim: { type: 'string', default: '128' },
    what: { type: 'string', default: 'model' },
    loads: { type: 'string', default: '3' },
    samples: { type: 'string', default: '256' },
    'in-flight': { type: 'string', default: '2' },
    every: { type: 'string', default: '0' },
    'most-samples': { type: 'string', default: '8192' },
    quiet: { type: 'string', default: '3' },
    long: { type: 'string', default: '0.5' },
    stall: { type: 'string', default: '3' },
    folder: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
  },
});
const number = (name: keyof typeof values) => Number(values[name]);
const { device } = values;
if (!['cpu', 'cuda', 'fake'].includes(device))
  throw new Error(`--device is cpu, cuda or fake, not ${device}`);
const isMemory = values.what === 'memory';
if (isMemory && values.device !== 'cuda') throw new Error('--what memory is of --device cuda');
const quietMs = 1000 * number('quiet');

const root = fileURLToPath(new URL('..', import.meta.url));
const program = (name: string) => `bench/load-stalls/${name}.ts`;
const programs = ['lane', 'loader', 'memory'].map(program);
// Threads import JavaScript alone.
const bundled: { folder: string; paths: Map<string, string> } = await bundleTests(programs, root);
const folder = mkdtempSync(join(values.folder, 'hotrow-load-stalls-'));

async function deviceOf(name: string): Promise<ProbeDevice> {
  if (name === 'cpu' || name === 'cuda') return name;
  if (name !== 'fake') throw new Error(`--device is cpu, cuda or fake, not ${name}`);
  const { fake, fakeLt } = await import('../test/fake-driver/open-backend.ts');
  return { driver: fake.path, cublasLt: fakeLt.path, cache: join(folder, 'kernels') };
}

/** Starts a thread of a program. Its messages, in their order; it rejects when the thread fails. */
function start(name: string, workerData: LaneStart | LoaderStart | MemoryStart) {
  const worker = new Worker(bundled.paths.get(program(name)) as string, { workerData });
  const next = <T>() =>
    new Promise<T>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new Error(`the ${name} ended with ${code}`)));
    });
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  return { worker, next, ended };
}

try {
  const [tables, rows, dim] = [number('tables'), number('rows'), number('dim')];
  const file = await writeModel(folder, { tables, rows, dim });
  const shared = {
    file,
    device: await deviceOf(values.device),
    samples: number('samples'),
    mostSamples: number('most-samples'),
    longMs: number('long'),
  };
  const lane = start('lane', {
    ...shared,
    inFlight: number('in-flight'),
    everyMs: number('every'),
  });
  await lane.next();
  await sleep(quietMs);
  const loads: LoaderReport[] = [];
  for (let load = 0; load < number('loads'); load++) {
    const startedMs = nowMs();
    const loader = isMemory
      ? start('memory', { longMs: shared.longMs, blocks: tables, blockBytes: 4 * rows * dim })
      : start('loader', { ...shared, idleMs: quietMs / 2 });
    const report = await loader.next<LoaderReport>();
    await loader.ended;
    const endedMs = nowMs();
    const [first, last] = [report.phases[0]?.fromMs ?? endedMs, report.phases.at(-1)?.toMs ?? endedMs];
    const thread = [
      { name: 'start the thread', fromMs: startedMs, toMs: first },
      { name: 'end the thread', fromMs: last, toMs: endedMs },
    ];
    loads.push({ ...report, phases: [...report.phases, ...thread] });
    await sleep(quietMs);
  }
  const reported = lane.next<LaneReport>();
  lane.worker.postMessage('stop');
  const told = await reported;
  await lane.ended;
  const result = {
    createdAt: new Date().toISOString(),
    command: process.argv.slice(2).join(' '),
    bytes: 4 * tables * rows * dim,
    batches: told.dueMs.length,
    phases: phasesOf(told, loads),
    firstBatches: loads.flatMap(({ firstMs }) =>
      firstMs === undefined ? [] : [{ firstMs: firstMs[0], ...timing(firstMs) }],
    ),
    lookupGBs: loads.map(({ lookupGBs }) => lookupGBs),
    stalls: stallsOf(told, loads, number('stall')),
    calls: loads.map(({ totals }) => totals),
    longCalls: loads.map(({ calls }) => calls.length),
  };
  console.log(JSON.stringify(result, null, 2));
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`);
} finally {
  for (const made of [folder, bundled.folder]) rmSync(made, { recursive: true, force: true });
}
