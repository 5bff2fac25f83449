/** A thread that loads a model, warms it, and closes it again, as an engine thread does. `workerData`: a LoaderStart. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { nowMs } from '../../src/serve/engine/clock.ts';
import { habitsOf } from '../../src/serve/engine/habits.ts';
import { warmUp } from '../../src/serve/engine/warm-up.ts';
import { CallLog, type CallTotals, type LongCall } from './calls.ts';
import { type ProbeDevice, place, requestOf, reserve } from './model.ts';

export interface LoaderStart {
  readonly file: string;
  readonly device: ProbeDevice;
  readonly samples: number;
  readonly mostSamples: number;
  readonly longMs: number;
  /** How long the model stays, idle, before it is closed. */
  readonly idleMs: number;
}

export interface Stretch {
  readonly name: string;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface LoaderReport {
  readonly phases: readonly Stretch[];
  /** Tables that were placed and batches that were run, by when each began. */
  readonly steps: readonly { readonly what: string; readonly atMs: number }[];
  readonly calls: readonly LongCall[];
  readonly totals: readonly CallTotals[];
  /** How long the first batches took once it was warm, ms. */
  readonly firstMs?: readonly number[];
  /** Of ways to take memory: random rows of it read, GB/s. */
  readonly lookupGBs?: Readonly<Record<string, number>>;
}

const FIRST_BATCHES = 50;

async function main(port: NonNullable<typeof parentPort>): Promise<void> {
  const { file, device, samples, mostSamples, longMs, idleMs } = workerData as LoaderStart;
  const log = new CallLog(longMs);
  const phases: Stretch[] = [];
  const steps: { what: string; atMs: number }[] = [];
  let began: { name: string; fromMs: number } | undefined;
  const phase = (name: string) => {
    const now = nowMs();
    if (began !== undefined) phases.push({ ...began, toMs: now });
    began = { name, fromMs: now };
    log.phase = name;
  };
  const step = (what: string) => steps.push({ what, atMs: nowMs() });
  const placed = await place(file, device, log, phase, (what, n, of) =>
    step(n === undefined ? what : `${what} ${n} of ${of}`),
  );
  phase('reserve');
  reserve(placed, mostSamples);
  phase('warm up');
  await warmUp(placed.model, {
    backend: placed.backend,
    mostSamples,
    atOnce: habitsOf(placed.model).depth,
    longestMs: Number.POSITIVE_INFINITY,
    bagLengths: undefined,
    onProgress: (samples) => step(`batches of ${samples}`),
  });
  phase('first batches');
  const firstMs: number[] = [];
  {
    using own = requestOf(placed, samples, 1);
    for (let batch = 0; batch < FIRST_BATCHES; batch++) {
      const fromMs = nowMs();
      await placed.model.predict(own.request);
      firstMs.push(nowMs() - fromMs);
    }
  }
  phase('idle');
  await sleep(idleMs);
  phase('close');
  await placed.model.close();
  phase('end');
  const report: LoaderReport = { phases, steps, calls: log.long, totals: log.totals, firstMs };
  port.postMessage(report);
  port.close();
}

if (parentPort !== null) await main(parentPort);
