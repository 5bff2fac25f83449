/** How an engine makes batches, waits and merges, by its device and by how many cores the machine has. */
import { availableParallelism } from 'node:os';
import { createPool, type ThreadPool } from '../../ffi/thread-pool.ts';
import type { DlrmModel } from '../../model/dlrm.ts';
import { POLL_MS } from './busy-poll.ts';
import type { BatchTimes } from './engine.ts';
import type { EngineStart } from './engine-messages.ts';

/** How batches are made for a device. */
export interface Habits {
  /** Samples of a batch: larger ones gain nothing. */
  readonly mostSamples: number;
  /** Batches under way: beside a device of its own, the host merges the next one. */
  readonly depth: number;
  /** Where larger batches save little, they end at the earliest deadline. */
  readonly shrinks: boolean;
}

export function habitsOf({ device }: Pick<DlrmModel, 'device'>): Habits {
  return device.capabilities.runsBesideHost
    ? { mostSamples: 8192, depth: 2, shrinks: false }
    : { mostSamples: 2048, depth: 1, shrinks: true };
}

/** A device computes on cores of its own, and so many cores for each thread that polls leave enough for what others do. */
const CORES_PER_POLLER = 2;

/** How long an engine polls after there was something to do. */
export function pollMsOf(
  { device }: Pick<DlrmModel, 'device'>,
  { pollMs, pollers }: Pick<EngineStart, 'pollMs' | 'pollers'>,
): number {
  if (pollMs !== undefined) return pollMs;
  const hasCores = availableParallelism() >= CORES_PER_POLLER * pollers;
  return device.capabilities.runsBesideHost && hasCores ? POLL_MS : 0;
}

/** Launches and copies take so long, which the device should not wait for. */
const LEAD_MS = 0.3;

/**
 * How long before the device should be free the next batch is taken, ms; `batchMs`: what it takes. When the rest of the batch before it takes
 * no longer: copies and launches then lie in the shadow of that batch, and most batches are done sooner than a high quantile says.
 */
export const leadMs = (batchMs: number) => LEAD_MS + batchMs;

/** Threads that merge a large batch: more gain little, since each waits for memory. */
const MOST_MERGERS = 4;
/** So many cores for each of them: others receive requests at the same time. */
const CORES_PER_MERGER = 4;
/** How much a new batch counts in what merging takes. */
const MERGE_WEIGHT = 0.1;

/** Threads that share the merging of large batches; undefined: the engine's own does it. They end with this thread. */
export function startMergers(): ThreadPool | undefined {
  const threads = Math.min(MOST_MERGERS, Math.floor(availableParallelism() / CORES_PER_MERGER));
  return threads > 1 ? createPool(threads, 'portable') : undefined;
}

/** ms that merging takes, by samples, as the last batches say. */
export class MergeTime {
  #msPerSample = 0;

  readonly predictMs = (samples: number) => samples * this.#msPerSample;

  observe({ samples, mergeMs }: BatchTimes): void {
    if (samples > 0) this.#msPerSample += MERGE_WEIGHT * (mergeMs / samples - this.#msPerSample);
  }
}
