/** Times plans on a device that is kept busy. */
import { type Plan, planLabel } from '../plan/plan.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';
import type { EmbeddingTimer } from './embedding-timer.ts';
import type { PlanTimer } from './search.ts';

/** A host puts the next batch into a GPU's queue while the GPU is busy for so long. */
const QUEUE_MS = 0.25;
const MOST_AHEAD = 3;

/** What it needs of an EmbeddingTimer. */
type Timer = Pick<EmbeddingTimer, 'device' | 'context' | 'batches' | 'prepare' | 'run'>;

/**
 * Runs other batches right before the one that it times, where batches are short and the device has a queue: a GPU that is done
 * before the host has launched the next kernel waits, and a time would tell of the host.
 */
export class QueuedTimer implements PlanTimer {
  readonly #timer: Timer;
  /** Of each plan's last batch. */
  readonly #lastMs = new Map<string, number>();

  constructor(timer: Timer) {
    this.#timer = timer;
  }

  get context(): PlanContext {
    return this.#timer.context;
  }

  prepare(plans: readonly Plan[]): Promise<void> {
    return this.#timer.prepare(plans);
  }

  async run(plan: Plan, turn: number): Promise<{ readonly batchMs: number }> {
    const label = planLabel(plan);
    const { batchMs } = await this.#timer.run(plan, turn, { ahead: this.#ahead(this.#lastMs.get(label)) });
    this.#lastMs.set(label, batchMs);
    return { batchMs };
  }

  #ahead(lastMs: number | undefined): number {
    if (!this.#timer.device.capabilities.runsBesideHost) return 0;
    const needed = lastMs === undefined ? 1 : Math.ceil(QUEUE_MS / lastMs);
    // The timed batch itself is none of them: its rows would be in cache.
    return Math.min(needed, MOST_AHEAD, this.#timer.batches - 1);
  }
}
