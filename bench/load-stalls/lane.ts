/** A thread that predicts without pause, a few batches at a time, as an engine that serves does. `workerData`: a LaneStart. */
import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { nowMs } from '../../src/serve/engine/clock.ts';
import { CallLog, type LongCall } from './calls.ts';
import { type ProbeDevice, place, requestOf, reserve } from './model.ts';

export interface LaneStart {
  readonly file: string;
  readonly device: ProbeDevice;
  /** Of a batch. */
  readonly samples: number;
  readonly inFlight: number;
  readonly mostSamples: number;
  /** A batch is due every so many ms; 0: as soon as one ends. */
  readonly everyMs: number;
  readonly longMs: number;
}

/** What it tells at its end. Times are of the clock of all threads. */
export interface LaneReport {
  /** When each batch was due, and when it was done. */
  readonly dueMs: Float64Array;
  readonly doneMs: Float64Array;
  readonly calls: readonly LongCall[];
  readonly collections: readonly LongCall[];
}

const WARM_BATCHES = 200;
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

interface Collection extends PerformanceEntry {
  readonly detail: { readonly kind: number };
}

class Lane {
  readonly due: number[] = [];
  readonly done: number[] = [];
  isStopped = false;
  #next = 0;

  constructor(readonly everyMs: number) {}

  start(): void {
    this.#next = nowMs();
  }

  /** When the next batch is due, waited for. */
  async turn(): Promise<number> {
    if (this.everyMs === 0) return nowMs();
    const due = this.#next;
    this.#next += this.everyMs;
    while (nowMs() < due) await turn();
    return due;
  }
}

async function main(port: NonNullable<typeof parentPort>): Promise<void> {
  const { file, device, samples, inFlight, mostSamples, everyMs, longMs } = workerData as LaneStart;
  const log = new CallLog(longMs);
  const placed = await place(file, device, log, () => {});
  await using model = placed.model;
  reserve(placed, mostSamples);
  const requests = Array.from({ length: inFlight }, (_, i) => requestOf(placed, samples, i + 1));
  const lane = new Lane(everyMs);
  const collections: LongCall[] = [];
  const observer = new PerformanceObserver((list) => {
    // Entries have the thread's own clock.
    const offset = nowMs() - performance.now();
    for (const { startTime, duration, detail } of list.getEntries() as Collection[]) {
      const isMajor = detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
      if (duration < longMs) continue;
      const fromMs = startTime + offset;
      collections.push({ call: isMajor ? 'gc.major' : 'gc.minor', fromMs, toMs: fromMs + duration });
    }
  });
  try {
    await Promise.all(
      requests.map(async ({ request }) => {
        for (let batch = 0; batch < WARM_BATCHES / inFlight; batch++) await model.predict(request);
      }),
    );
    observer.observe({ entryTypes: ['gc'] });
    log.long.length = 0;
    port.on('message', () => {
      lane.isStopped = true;
    });
    port.postMessage('ready');
    lane.start();
    await Promise.all(
      requests.map(async ({ request }) => {
        while (!lane.isStopped) {
          const due = await lane.turn();
          await model.predict(request);
          lane.due.push(due);
          lane.done.push(nowMs());
          // A CPU's batches, and the fake driver's, need not let messages through.
          if (lane.done.length % 64 === 0) await turn();
        }
      }),
    );
    const report: LaneReport = {
      dueMs: Float64Array.from(lane.due),
      doneMs: Float64Array.from(lane.done),
      calls: log.long,
      collections,
    };
    port.postMessage(report);
  } finally {
    observer.disconnect();
    for (const request of requests) request[Symbol.dispose]();
    port.close();
  }
}

if (parentPort !== null) await main(parentPort);
