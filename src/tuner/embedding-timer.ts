/** The embedding stage of a collection, run and timed under any plan. */
import { at } from '../at.ts';
import {
  type Backend,
  type DeviceBuffer,
  type KernelUse,
  type LaunchTime,
  matrix,
  type Operation,
  type PlacedBags,
  type PlacedTables,
  type PlaceOptions,
} from '../backend/backend.ts';
import { throwIfAborted } from '../checks/abort.ts';
import type { DeviceDescription } from '../device.ts';
import type { BagBatch, EmbeddingTable } from '../embedding/bag.ts';
import { placeCollection, totalDim } from '../model/collection.ts';
import { type Plan, placementKey, plainPlan } from '../plan/plan.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';

/** More than most hosts have threads for. */
const COMPILED_AT_ONCE = 64;

/** One batch under one plan. */
export interface TimedRun {
  /** Device time of the whole stage: checks, pinning and all launches, back to back. */
  readonly batchMs: number;
  /** Every launch by itself, when that was asked for. */
  readonly launches: readonly LaunchTime[];
  readonly kernel: KernelUse | undefined;
}

export interface TimingOptions {
  /** Also time every launch, whose events lengthen the batch. Default: false. */
  readonly timeLaunches?: boolean;
  /** Batches of the rotation that run right before the timed one, in the same program. Default: 0. */
  readonly ahead?: number;
}

/** Who is told of work, and who may give it up. */
export type Watched = Pick<PlaceOptions, 'onProgress' | 'signal'>;

/**
 * Tables in every placement that a plan asked for, and the batches of one workload. Several batches in rotation, so
 * that a run does not find the last run's rows in cache. All that it does throws AbortError once the signal is aborted.
 */
export class EmbeddingTimer implements Disposable {
  readonly #backend: Backend;
  readonly #tables: readonly EmbeddingTable[];
  readonly #watched: Watched;
  readonly #placed = new Map<string, PlacedTables>();
  #bags: PlacedBags[] = [];
  #output: DeviceBuffer | undefined;

  constructor(backend: Backend, tables: readonly EmbeddingTable[], watched: Watched = {}) {
    this.#backend = backend;
    this.#tables = tables;
    this.#watched = watched;
  }

  get device(): DeviceDescription {
    return this.#backend.device;
  }

  get context(): PlanContext {
    return { device: this.device, tables: this.#tables };
  }

  /** What the placements brought about. */
  get notes(): string[] {
    return [...this.#placed.values()].flatMap((placed) => placed.notes);
  }

  /** Batches in rotation. */
  get batches(): number {
    return this.#bags.length;
  }

  /** Places the batches of a workload, and tells the backend what is hot in them. */
  async load(batches: readonly BagBatch[]): Promise<void> {
    this.#forget();
    throwIfAborted(this.#watched.signal, 'measuring');
    const tables = await this.#place(plainPlan(this.device.kind));
    this.#bags = batches.map((batch) => this.#backend.placeBags(tables, batch));
    await this.#backend.observe(tables, this.#bags);
  }

  /** Has every plan's kernels compiled, several side by side, so that races do not wait for compilers. */
  async prepare(plans: readonly Plan[]): Promise<void> {
    if (!this.device.capabilities.compilesKernels) return;
    for (const plan of plans) await this.#place(plan);
    for (let first = 0; first < plans.length; first += COMPILED_AT_ONCE) {
      this.#watched.onProgress?.('compiling plans', first, plans.length);
      await Promise.all(plans.slice(first, first + COMPILED_AT_ONCE).map((plan) => this.run(plan, 0)));
    }
  }

  /** Runs batch `turn` of the rotation, and times it. */
  async run(
    plan: Plan,
    turn: number,
    { timeLaunches = false, ahead = 0 }: TimingOptions = {},
  ): Promise<TimedRun> {
    const program: Operation[] = [];
    for (let i = ahead; i >= 0; i--) {
      // Never below 0: the rotation is whole turns long.
      const { tables, bags, output } = await this.#problem(plan, turn + (this.batches - 1) * i);
      program.push({ op: 'embeddingBags', tables, bags, output, checking: 'error' });
    }
    const { seconds, launches, kernels } = await this.#backend.run(program, {
      timing: timeLaunches ? 'launches' : 'operations',
    });
    return {
      batchMs: (seconds[ahead] ?? Number.NaN) * 1e3,
      launches: launches.filter(({ operation }) => operation === ahead),
      kernel: kernels[0],
    };
  }

  /** Runs batch `turn` of the rotation for a profiler, which records what RunOptions says. */
  async record(plan: Plan, turn: number, recorded: ReadonlySet<number>): Promise<void> {
    const { tables, bags, output } = await this.#problem(plan, turn);
    await this.#backend.run([{ op: 'embeddingBags', tables, bags, output, checking: 'error' }], { recorded });
  }

  /** Pooled rows of the first batch, in `into` where that is given. */
  async pool(plan: Plan, into?: Float32Array): Promise<Float32Array> {
    const { tables, bags, output } = await this.#problem(plan, 0);
    const target = into ?? new Float32Array(output.rows * output.cols);
    await this.#backend.run([
      { op: 'embeddingBags', tables, bags, output, checking: 'error' },
      { op: 'download', input: output, target },
    ]);
    return target;
  }

  async #problem(plan: Plan, turn: number) {
    throwIfAborted(this.#watched.signal, 'measuring');
    const placed = await this.#place(plan);
    const bags = at(this.#bags, turn % this.#bags.length);
    const width = totalDim(this.#tables);
    this.#output ??= this.#backend.allocate(bags.batchSize * width);
    return { tables: placed.withPlan(plan), bags, output: matrix(this.#output, bags.batchSize, width) };
  }

  async #place(plan: Plan): Promise<PlacedTables> {
    const key = placementKey(plan);
    const known =
      this.#placed.get(key) ?? (await placeCollection(this.#backend, this.#tables, plan, this.#watched));
    this.#placed.set(key, known);
    return known;
  }

  #forget(): void {
    for (const bags of this.#bags.splice(0)) bags[Symbol.dispose]();
    this.#output?.[Symbol.dispose]();
    this.#output = undefined;
  }

  [Symbol.dispose](): void {
    this.#forget();
    for (const placed of this.#placed.values()) placed[Symbol.dispose]();
  }
}
