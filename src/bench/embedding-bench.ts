/**
 * The embedding stage under every technique: the plain kernel, each technique alone, the best combination found, and
 * PyTorch, in turns within one run.
 */
import { type Backend, matrix, type PlacedBags, type PlacedTables } from '../backend/backend.ts';
import type { BagBatch, EmbeddingTable } from '../embedding/bag.ts';
import { rowBytes } from '../embedding/bag.ts';
import { placeCollection, totalDim } from '../embedding/collection.ts';
import {
  type Plan,
  placementKey,
  plainPlan,
  planLabel,
  refusals,
  withTechniques,
} from '../embedding/plan.ts';
import { techniquesOn } from '../embedding/techniques/registry.ts';
import type { PlanContext } from '../embedding/techniques/technique.ts';
import type { PytorchPeer } from './pytorch-peer.ts';
import type { EmbeddingRow } from './results.ts';
import { median, timing } from './statistics.ts';

/** Lookups of one pattern or trace: several batches, so that a run does not find the last run's rows in cache. */
export interface PatternWorkload {
  readonly pattern: string;
  readonly batches: readonly BagBatch[];
  /** Share of distinct rows among the lookups of a batch. */
  readonly distinctShare: number;
}

/** Plans to compare: the plain kernel and each technique by itself, at its best guess. */
export function singleTechniquePlans(context: PlanContext): Plan[] {
  const plain = plainPlan(context.device.kind);
  const singles = techniquesOn(context.device.kind).flatMap(({ technique, on }) => {
    const [parameters] = on.candidates(context);
    return parameters === undefined ? [] : [withTechniques(plain, { [technique.name]: parameters })];
  });
  return [plain, ...singles].filter((plan) => refusals(plan, context).length === 0);
}

/** Runs of one candidate during the search, of which the fastest counts: what disturbs a run only ever slows it. */
const SEARCH_ROUNDS = 5;

const CACHE_STATE = 'warm, batches in rotation';

/** Tables in every placement that a plan asked for, and the batches of one pattern. */
export class EmbeddingBench implements Disposable {
  readonly #backend: Backend;
  readonly #tables: readonly EmbeddingTable[];
  readonly #placed = new Map<string, PlacedTables>();

  constructor(backend: Backend, tables: readonly EmbeddingTable[]) {
    this.#backend = backend;
    this.#tables = tables;
  }

  get context(): PlanContext {
    return { device: this.#backend.device, tables: this.#tables };
  }

  /** What the placements brought about. */
  get notes(): string[] {
    return [...this.#placed.values()].flatMap((placed) => placed.notes);
  }

  /**
   * Times `plans` and the best plan found on one workload, in turns with `peer`.
   * `rounds`: timed runs of each, after one run each to warm up.
   */
  async measure(
    workload: PatternWorkload,
    plans: readonly Plan[],
    rounds: number,
    peer?: PytorchPeer,
  ): Promise<EmbeddingRow[]> {
    const best = await this.#search(workload);
    const variants = [...plans, best].map((plan, v) => ({
      plan,
      best: v === plans.length,
      samples: [] as number[],
    }));
    const peerSamples: number[] = [];
    if (peer !== undefined) await peer.load(workload.batches.map((batch) => batch.bags));

    for (let round = -1; round < rounds; round++) {
      for (const [v, { plan, samples }] of variants.entries()) {
        const ms = await this.#run(plan, workload.batches, round + 1 + v);
        if (round >= 0) samples.push(ms);
      }
      if (peer !== undefined) {
        const seconds = await peer.run((round + 1 + variants.length) % workload.batches.length);
        if (round >= 0) peerSamples.push(seconds * 1e3);
      }
    }

    const baselineMs = median(variants[0]?.samples ?? []);
    const row = (
      from: Pick<EmbeddingRow, 'implementation' | 'variant' | 'best'> & { plan?: Plan },
      samples: readonly number[],
    ): EmbeddingRow => ({
      stage: 'embedding',
      ...from,
      device: this.#backend.device.id,
      pattern: workload.pattern,
      ...this.#shape(workload),
      cacheState: CACHE_STATE,
      timing: timing(samples),
      gigabytesPerSecond: this.#bytes(workload) / median(samples) / 1e6,
      speedup: baselineMs / median(samples),
    });
    const rows = variants.map(({ plan, best, samples }) =>
      row({ implementation: 'hotrow', variant: planLabel(plan), plan, best }, samples),
    );
    if (peer === undefined) return rows;
    const reference = { implementation: `PyTorch ${peer.version}`, variant: 'embedding_bag', best: false };
    return [...rows, row(reference, peerSamples)];
  }

  /**
   * The best legal plan by coordinate search: every technique starts at its best guess; each in turn tries its other
   * parameters and being off, and keeps what ran fastest.
   */
  async #search(workload: PatternWorkload): Promise<Plan> {
    const { context } = this;
    const available = techniquesOn(context.device.kind);
    const guess = (candidates: unknown[]) => candidates[0];
    let best = withTechniques(
      plainPlan(context.device.kind),
      Object.fromEntries(
        available.map(({ technique, on }) => [technique.name, guess(on.candidates(context))]),
      ),
    );
    let bestMs = await this.#searchTime(best, workload);
    for (const { technique, on } of available) {
      for (const parameters of [...on.candidates(context).slice(1), undefined]) {
        const plan = withTechniques(best, { [technique.name]: parameters });
        if (refusals(plan, context).length > 0) continue;
        const ms = await this.#searchTime(plan, workload);
        if (ms < bestMs) [best, bestMs] = [plan, ms];
      }
    }
    return best;
  }

  async #searchTime(plan: Plan, { batches }: PatternWorkload): Promise<number> {
    const samples: number[] = [];
    for (let round = 0; round < SEARCH_ROUNDS; round++) samples.push(await this.#run(plan, batches, round));
    return Math.min(...samples);
  }

  /** One batch under one plan; ms of device time. */
  async #run(plan: Plan, batches: readonly BagBatch[], turn: number): Promise<number> {
    const placed = await this.#place(plan);
    const batch = batches[turn % batches.length] as BagBatch;
    using tables = placed.withPlan(plan);
    using bags: PlacedBags = this.#backend.placeBags(tables, batch);
    const width = totalDim(this.#tables);
    const output = matrix(this.#output(batch.batchSize * width), batch.batchSize, width);
    const { seconds } = await this.#backend.run([
      { op: 'embeddingBags', tables, bags, output, checking: 'error' },
    ]);
    return (seconds[0] ?? Number.NaN) * 1e3;
  }

  async #place(plan: Plan): Promise<PlacedTables> {
    const key = placementKey(plan);
    const known = this.#placed.get(key) ?? (await placeCollection(this.#backend, this.#tables, plan));
    this.#placed.set(key, known);
    return known;
  }

  #outputBuffer: ReturnType<Backend['allocate']> | undefined;
  #output(length: number) {
    if (this.#outputBuffer === undefined || this.#outputBuffer.length < length) {
      this.#outputBuffer?.[Symbol.dispose]();
      this.#outputBuffer = this.#backend.allocate(length);
    }
    return this.#outputBuffer;
  }

  #shape({ batches, distinctShare }: PatternWorkload) {
    const [first] = batches as [BagBatch];
    const lookups = first.bags.reduce((sum, { indices }) => sum + indices.length, 0);
    return { batchSize: first.batchSize, tables: this.#tables.length, lookups, distinctShare };
  }

  /** Bytes of all rows that a batch asks for, repeats included. */
  #bytes({ batches }: PatternWorkload): number {
    const [first] = batches as [BagBatch];
    return first.bags.reduce(
      (sum, { indices }, t) => sum + indices.length * rowBytes(this.#tables[t] as EmbeddingTable),
      0,
    );
  }

  [Symbol.dispose](): void {
    this.#outputBuffer?.[Symbol.dispose]();
    for (const placed of this.#placed.values()) placed[Symbol.dispose]();
  }
}
