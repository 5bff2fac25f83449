/** An engine, requests that arrive at random, and a batching policy between them, on a clock of its own: same seed, same result. */
import type { Waiting } from '../../src/serve/batching/batcher.ts';
import { createRandom, type Random } from '../../src/workload/random.ts';

/** A batch of n samples takes a + b · n ms. */
export interface Engine {
  readonly name: string;
  readonly a: number;
  readonly b: number;
  readonly slaMs: number;
  /** Batches end where a request would become late: CPUs only. */
  readonly shrinks: boolean;
}

/** How far batches are from what the line says: a normal spread, and a share that takes `slowBy` times as long. */
export interface Noise {
  readonly spread: number;
  readonly slowShare: number;
  readonly slowBy: number;
}

export interface Policy<R extends Waiting = Waiting> {
  /** A request arrives; false where it is refused. */
  offer(request: R, nowMs: number): boolean;
  /** The engine is idle: what runs now, if anything. What is dropped is not in time by that. */
  take(nowMs: number): readonly R[];
  /** When to ask an idle engine's policy again, though nothing arrives. Default: not. */
  wakeMs?(nowMs: number): number;
  /** A batch is done. */
  ran?(samples: number, ms: number, nowMs: number): void;
}

/** Samples of each request: the mean of MLPerf's server scenario. */
export const SAMPLES = 270;

/** As many requests in a Poisson stream, at a rate in shares of what the engine runs in endless batches. */
export function poissonArrivals(
  { b, slaMs }: Pick<Engine, 'b' | 'slaMs'>,
  rate: number,
  count: number,
  random: Random,
): Waiting[] {
  const meanMs = (SAMPLES * b) / rate;
  let arrivedMs = 0;
  return Array.from({ length: count }, () => {
    arrivedMs -= meanMs * Math.log(1 - random.float());
    return { samples: SAMPLES, arrivedMs, deadlineMs: arrivedMs + slaMs, priority: 0 };
  });
}

/** The time of each batch of an engine, noise and all. */
export function batchTimes(
  { a, b }: Pick<Engine, 'a' | 'b'>,
  noise?: Noise,
  seed = 2,
): (n: number) => number {
  const random = createRandom(seed);
  return (n) => {
    const ms = a + b * n;
    if (noise === undefined) return ms;
    // Box and Muller.
    const normal = Math.sqrt(-2 * Math.log(1 - random.float())) * Math.cos(2 * Math.PI * random.float());
    const spread = ms * Math.max(0.5, 1 + noise.spread * normal);
    return random.float() < noise.slowShare ? noise.slowBy * spread : spread;
  };
}

/** Runs all requests through an engine of depth 1; gives back when each was answered, in their order: infinity, never. */
export function simulate<R extends Waiting>(
  requests: readonly R[],
  policy: Policy<R>,
  timeOf: (samples: number) => number,
): Float64Array {
  const places = new Map(requests.map((request, place) => [request, place]));
  const answeredMs = new Float64Array(requests.length).fill(Number.POSITIVE_INFINITY);
  let running: { batch: readonly R[]; samples: number; beganMs: number; endMs: number } | undefined;
  let arrived = 0;
  let nowMs = 0;
  for (;;) {
    if (running === undefined) {
      const batch = policy.take(nowMs);
      if (batch.length > 0) {
        const samples = batch.reduce((sum, request) => sum + request.samples, 0);
        running = { batch, samples, beganMs: nowMs, endMs: nowMs + timeOf(samples) };
      }
    }
    const next = requests[arrived];
    const engineMs = running?.endMs ?? policy.wakeMs?.(nowMs) ?? Number.POSITIVE_INFINITY;
    if (next !== undefined && next.arrivedMs <= engineMs) {
      nowMs = next.arrivedMs;
      policy.offer(next, nowMs);
      arrived++;
    } else if (running !== undefined) {
      nowMs = running.endMs;
      for (const request of running.batch) answeredMs[places.get(request) as number] = nowMs;
      policy.ran?.(running.samples, nowMs - running.beganMs, nowMs);
      running = undefined;
    } else if (engineMs < Number.POSITIVE_INFINITY) nowMs = engineMs;
    else return answeredMs;
  }
}

/** The share of requests that were answered by their deadline. */
export function inTime(requests: readonly Waiting[], answeredMs: Float64Array): number {
  const good = requests.filter(({ deadlineMs }, i) => (answeredMs[i] as number) <= deadlineMs);
  return good.length / requests.length;
}
