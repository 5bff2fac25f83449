/**
 * The embedding stage under every technique: the plain kernel, each technique alone, the paper's combinations, the best
 * combination found, and peers, in turns within one run.
 */
import type { Backend, Ceilings, KernelUse } from '../backend/backend.ts';
import type { DeviceDescription } from '../device.ts';
import type { BagBatch, EmbeddingTable } from '../embedding/bag.ts';
import { DeviceError } from '../errors.ts';
import {
  heuristicPlan,
  type Plan,
  plainPlan,
  planLabel,
  refusals,
  withKernel,
  withTechniques,
} from '../plan/plan.ts';
import { techniquesOn } from '../plan/techniques/registry.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';
import type { OnProgress } from '../progress.ts';
import { EmbeddingTimer } from '../tuner/embedding-timer.ts';
import { median, quantile } from '../tuner/quantile.ts';
import type { Traffic } from '../workload/batch-traffic.ts';
import type { EmbeddingPeer } from './embedding-peer.ts';
import { firstDifference } from './first-difference.ts';
import { peerBags } from './peer-bags.ts';
import type { Peers } from './peers.ts';
import { racePlans } from './race.ts';
import type { EmbeddingRow, LaunchTimes } from './results.ts';
import { timing } from './statistics.ts';
import type { EmbeddingWorkload } from './workload.ts';

/** What is compared. */
export interface Variant {
  readonly plan: Plan;
  /** The technique that a sweep varies; undefined: a row of the comparison. */
  readonly sweep?: string;
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

/** The paper's combinations on a GPU: each prefetch, and pinning, with OptMT; register prefetch with both. */
export function combinedPlans(context: PlanContext): Plan[] {
  const available = new Map(
    techniquesOn(context.device.kind).map(({ technique, on }) => [technique.name, on]),
  );
  const candidates = (name: string) => available.get(name)?.candidates(context) ?? [];
  const [occupancy] = candidates('occupancy');
  const [pinning] = candidates('pinning');
  if (occupancy === undefined) return [];
  const prefetches = firstBy(candidates('prefetch') as { into: string }[], ({ into }) => into);
  const [registers] = prefetches;
  return [
    ...prefetches.map((prefetch) => ({ occupancy, prefetch })),
    { occupancy, pinning },
    { occupancy, prefetch: registers, pinning },
  ]
    .map((techniques) => withTechniques(plainPlan(context.device.kind), techniques))
    .filter((plan) => refusals(plan, context).length === 0);
}

/** The heuristic plan of every other kernel family than the plain one. */
export function familyPlans(context: PlanContext): Plan[] {
  const best = heuristicPlan(context);
  return best.kernel === 'standard' ? [] : [withKernel(plainPlan(context.device.kind), best.kernel), best];
}

/** The first of every kind. */
function firstBy<T>(values: readonly T[], kind: (value: T) => string): T[] {
  return [...new Map(values.toReversed().map((value) => [kind(value), value])).values()].toReversed();
}

/** One technique over its whole range, on top of `base`. @throws TypeError for a technique that the device lacks. */
export function sweepVariants(name: string, base: Plan, context: PlanContext): Variant[] {
  const available = techniquesOn(context.device.kind).find(({ technique }) => technique.name === name);
  if (available === undefined) throw new TypeError(`${context.device.kind} has no technique ${name}`);
  const { on } = available;
  return [undefined, ...(on.sweep ?? on.candidates).call(on, context)]
    .map((parameters) => ({ plan: withTechniques(base, { [name]: parameters }), sweep: name }))
    .filter(({ plan }) => refusals(plan, context).length === 0);
}

/** Batches that a variant runs at its turn: first untimed, then timed. */
export interface Turn {
  readonly warmup: number;
  readonly timed: number;
}

/**
 * Where kernels are compiled, the artifact's 12 batches, of which 8 warm up. Elsewhere one batch, so that a slow moment hits all
 * variants alike.
 */
export function turnOn({ capabilities }: DeviceDescription): Turn {
  return capabilities.compilesKernels ? { warmup: 8, timed: 4 } : { warmup: 0, timed: 1 };
}

const CACHE_STATE = 'warm, batches in rotation';

/** Times of one variant. */
export class Samples {
  /** ms of whole batches, launches back to back. */
  readonly batchMs: number[] = [];
  /** µs of single launches. */
  readonly bagsUs: number[] = [];
  readonly pinUs: number[] = [];
  kernel: KernelUse | undefined;
}

/** A plan's turn, from batch `first` of the rotation on; also of single launches, where tables are launched one by one. */
export async function takeTurn(
  timer: EmbeddingTimer,
  plan: Plan,
  first: number,
  samples: Samples,
): Promise<void> {
  const { warmup, timed } = turnOn(timer.device);
  for (let i = 0; i < warmup + timed; i++) {
    const { batchMs, kernel } = await timer.run(plan, first + i);
    if (i < warmup) continue;
    samples.batchMs.push(batchMs);
    samples.kernel = kernel;
    if (!timer.device.capabilities.launchesTableByTable) continue;
    for (const { kind, seconds } of (await timer.run(plan, first + i, { timeLaunches: true })).launches) {
      if (kind === 'bags') samples.bagsUs.push(seconds * 1e6);
      if (kind === 'pin') samples.pinUs.push(seconds * 1e6);
    }
  }
}

/** The embedding stage under many plans. */
export class EmbeddingBench implements Disposable {
  readonly #backend: Backend;
  readonly #tables: readonly EmbeddingTable[];
  readonly #timer: EmbeddingTimer;
  readonly #turn: Turn;
  readonly #progress: OnProgress;
  readonly #signal: AbortSignal | undefined;

  constructor(
    backend: Backend,
    tables: readonly EmbeddingTable[],
    progress: OnProgress,
    signal?: AbortSignal,
  ) {
    this.#backend = backend;
    this.#progress = progress;
    this.#signal = signal;
    this.#tables = tables;
    this.#timer = new EmbeddingTimer(backend, tables, { onProgress: progress, ...(signal && { signal }) });
    this.#turn = turnOn(backend.device);
  }

  get context(): PlanContext {
    return this.#timer.context;
  }

  /** What the placements brought about. */
  get notes(): string[] {
    return this.#timer.notes;
  }

  /**
   * Times variants, the first of them what all are compared with, and the best plan found on one workload, in turns with `peers`.
   * `rounds`: turns of each, after one to warm up. `ceilings`: for the speed of light. Every variant's results are first compared with the plain kernel's.
   * @throws DeviceError KERNEL_FAILED when they differ; AbortError.
   */
  async measure(
    workload: EmbeddingWorkload,
    variants: readonly Variant[],
    rounds: number,
    ceilings: Ceilings,
    peers?: Peers,
  ): Promise<EmbeddingRow[]> {
    const { pattern } = workload;
    await this.#timer.load(workload.batches);
    const { plan: best } = await racePlans(this.#timer, pattern, this.#progress, this.#signal);
    const contenders = [...variants, { plan: best, best: true }].map((variant) => ({
      ...variant,
      samples: new Samples(),
    }));
    await this.#compareResults(
      pattern,
      contenders.map(({ plan }) => plan),
    );
    await peers?.each(pattern, async (peer) => peer.load(workload.batches.map(peerBags)));
    const peerSamples = new Map(peers?.running.map((peer) => [peer, new Samples()]));

    for (let round = -1; round < rounds; round++) {
      this.#progress(`embedding stage, ${pattern}: rounds`, round + 2, rounds + 1);
      for (const [v, { plan, samples }] of contenders.entries()) {
        await takeTurn(this.#timer, plan, round + 1 + v, round < 0 ? new Samples() : samples);
      }
      const first = round + 1 + contenders.length;
      await peers?.each(pattern, (peer) => {
        const samples = round < 0 ? undefined : peerSamples.get(peer);
        return this.#takePeerTurn(peer, first, samples ?? new Samples());
      });
    }

    const baselineMs = median(contenders[0]?.samples.batchMs ?? []);
    const row = (
      from: Pick<EmbeddingRow, 'implementation' | 'variant' | 'best' | 'plan' | 'sweep' | 'tablesPerLaunch'>,
      { batchMs, bagsUs, pinUs, kernel }: Samples,
    ): EmbeddingRow => ({
      stage: 'embedding',
      ...from,
      device: this.#backend.device.id,
      pattern,
      ...this.#shape(workload),
      cacheState: CACHE_STATE,
      timing: timing(batchMs),
      ...(bagsUs.length === 0 ? {} : { launch: launchTimes(bagsUs) }),
      ...(pinUs.length === 0 ? {} : { pin: launchTimes(pinUs) }),
      ...(kernel === undefined ? {} : { kernel }),
      gigabytesPerSecond: workload.traffic.lookupRowBytes / median(batchMs) / 1e6,
      limitMs: limitMs(workload.traffic, ceilings),
      limitShare: limitMs(workload.traffic, ceilings) / median(batchMs),
      speedup: baselineMs / median(batchMs),
    });
    const rows = contenders.map(({ plan, samples, ...variant }) => {
      const kind = { best: 'best' in variant, ...('sweep' in variant ? { sweep: variant.sweep } : {}) };
      return row({ implementation: 'hotrow', variant: planLabel(plan), plan, ...kind }, samples);
    });
    const beside = (peers?.running ?? []).map((peer) => {
      const { implementation, variant, tablesPerLaunch } = peer;
      const samples = peerSamples.get(peer) as Samples;
      const launches = samples.bagsUs.length === 0 ? {} : { tablesPerLaunch };
      return row({ implementation, variant, best: false, ...launches }, samples);
    });
    return [...rows, ...beside];
  }

  async #takePeerTurn(peer: EmbeddingPeer, first: number, samples: Samples): Promise<void> {
    const { warmup, timed } = this.#turn;
    const batches = Array.from({ length: warmup + timed }, (_, i) => (first + i) % this.#timer.batches);
    for (const { seconds, launches } of (await peer.run(batches)).slice(warmup)) {
      samples.batchMs.push(seconds * 1e3);
      samples.bagsUs.push(...launches.map((launch) => launch * 1e6));
    }
  }

  /** @throws DeviceError KERNEL_FAILED when a plan's pooled rows have other bits than the plain plan's. */
  async #compareResults(pattern: string, plans: readonly Plan[]): Promise<void> {
    const plain = await this.#timer.pool(plainPlan(this.#backend.device.kind));
    const pooled = new Float32Array(plain.length);
    for (const [p, plan] of plans.entries()) {
      this.#progress(`embedding stage, ${pattern}: comparing results`, p + 1, plans.length);
      await this.#timer.pool(plan, pooled);
      const differs = firstDifference(pooled, plain);
      if (differs === undefined) continue;
      throw new DeviceError(
        'KERNEL_FAILED',
        `"${planLabel(plan)}" pools other values than the plain kernel, first at element ${differs}: ${pooled[differs]}, not ${plain[differs]}`,
      );
    }
  }

  #shape({ batches, distinctShare }: EmbeddingWorkload) {
    const [first] = batches as [BagBatch];
    const lookups = first.bags.reduce((sum, { indices }) => sum + indices.length, 0);
    return { batchSize: first.batchSize, tables: this.#tables.length, lookups, distinctShare };
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}

/**
 * The speed of light: the time that a batch takes at least, when its distinct rows come once from memory and all lookups
 * from the last cache, each at its measured ceiling.
 */
function limitMs({ distinctRowBytes, lookupRowBytes, otherBytes }: Traffic, ceilings: Ceilings): number {
  const { readBytesPerSecond: memory, cacheReadBytesPerSecond: cache = Number.POSITIVE_INFINITY } = ceilings;
  return 1e3 * Math.max((distinctRowBytes + otherBytes) / memory, (lookupRowBytes + otherBytes) / cache);
}

function launchTimes(microseconds: readonly number[]): LaunchTimes {
  const sorted = microseconds.toSorted((a, b) => a - b);
  return {
    medianUs: quantile(sorted, 0.5),
    p10Us: quantile(sorted, 0.1),
    p90Us: quantile(sorted, 0.9),
    samples: sorted.length,
  };
}
