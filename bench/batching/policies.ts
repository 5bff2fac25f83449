/** The policies that `bench/batching-policies.ts` compares. All but the product's are told how long a batch takes. */
import { at } from '../../src/at.ts';
import { Batcher, type Waiting } from '../../src/serve/batching/batcher.ts';
import { LatencyModel } from '../../src/serve/batching/latency-model.ts';
import { type Engine, type Policy, SAMPLES } from './simulate.ts';

export interface NamedPolicy {
  readonly name: string;
  readonly make: (engine: Engine) => Policy;
}

/** Takes of what waits, first come first, which here is also first due; all of it waits in a list. */
abstract class Listed implements Policy {
  protected waiting: Waiting[] = [];
  protected readonly engine: Engine;

  constructor(engine: Engine) {
    this.engine = engine;
  }

  offer(request: Waiting, _nowMs: number): boolean {
    this.waiting.push(request);
    return true;
  }

  abstract take(nowMs: number): readonly Waiting[];

  protected batchMs(requests: number): number {
    return this.engine.a + this.engine.b * SAMPLES * requests;
  }

  /** Requests of a batch that takes half of the SLA. */
  protected get cap(): number {
    const { a, b, slaMs } = this.engine;
    return Math.max(1, Math.floor((slaMs / 2 - a) / (b * SAMPLES)));
  }

  /** Drops those at the front that a batch of `requests` would finish late. */
  protected dropLate(nowMs: number, requests: number): void {
    const endMs = nowMs + this.batchMs(requests);
    const kept = this.waiting.findIndex(({ deadlineMs }) => deadlineMs >= endMs);
    this.waiting.splice(0, kept < 0 ? this.waiting.length : kept);
  }
}

class Single extends Listed {
  take(): readonly Waiting[] {
    return this.waiting.splice(0, 1);
  }
}

class Greedy extends Listed {
  take(_nowMs: number): readonly Waiting[] {
    return this.waiting.splice(0);
  }
}

class GreedyCapped extends Listed {
  take(_nowMs: number): readonly Waiting[] {
    return this.waiting.splice(0, this.cap);
  }
}

class Wait extends Greedy {
  override take(nowMs: number): readonly Waiting[] {
    return nowMs >= this.wakeMs() ? super.take(nowMs) : [];
  }

  wakeMs(): number {
    const oldest = this.waiting[0];
    return oldest === undefined ? Number.POSITIVE_INFINITY : oldest.arrivedMs + 0.4 * this.engine.slaMs;
  }
}

class QueueTimeout extends GreedyCapped {
  override take(nowMs: number): readonly Waiting[] {
    const oldestMs = nowMs - this.engine.slaMs / 2;
    this.waiting = this.waiting.filter(({ arrivedMs }) => arrivedMs >= oldestMs);
    return super.take(nowMs);
  }
}

class QueueTimeoutUncapped extends QueueTimeout {
  protected override get cap(): number {
    return Number.POSITIVE_INFINITY;
  }
}

class Shrunk extends Listed {
  take(nowMs: number): readonly Waiting[] {
    this.dropLate(nowMs, 1);
    const [first] = this.waiting;
    if (first === undefined) return [];
    let requests = 1;
    while (requests < this.waiting.length && nowMs + this.batchMs(requests + 1) <= first.deadlineMs)
      requests++;
    return this.waiting.splice(0, requests);
  }
}

class ShrunkCapped extends Shrunk {
  override take(nowMs: number): readonly Waiting[] {
    const batch = super.take(nowMs);
    this.waiting.unshift(...batch.slice(this.cap));
    return batch.slice(0, this.cap);
  }
}

class DropLate extends Listed {
  take(nowMs: number): readonly Waiting[] {
    this.dropLate(nowMs, this.waiting.length);
    return this.waiting.splice(0);
  }
}

class DropLateCapped extends Listed {
  take(nowMs: number): readonly Waiting[] {
    this.dropLate(nowMs, Math.min(this.cap, this.waiting.length));
    return this.waiting.splice(0, this.cap);
  }
}

/** As DropLate; the newest first where not all fit under the cap. */
class NewestFirst extends Listed {
  take(nowMs: number): readonly Waiting[] {
    this.dropLate(nowMs, Math.min(this.cap, this.waiting.length));
    return this.waiting.splice(Math.max(0, this.waiting.length - this.cap));
  }
}

/** Whichever of all batches that can go now has the most requests a millisecond: those dropped for it are lost. */
class BestRate extends Listed {
  take(nowMs: number): readonly Waiting[] {
    this.dropLate(nowMs, 1);
    let [best, from, count] = [0, 0, 0];
    for (let first = 0; first < this.waiting.length; first++) {
      const spareMs = at(this.waiting, first).deadlineMs - nowMs;
      const { a, b } = this.engine;
      const fits = Math.floor((spareMs - a) / (b * SAMPLES) + 1e-9);
      const requests = Math.min(fits, this.cap, this.waiting.length - first);
      const rate = (requests - first) / this.batchMs(requests);
      if (requests < 1 || (count > 0 && rate <= best)) continue;
      [best, from, count] = [rate, first, requests];
    }
    this.waiting.splice(0, from);
    return this.waiting.splice(0, count);
  }
}

/** Refuses on arrival what the batches before it leave no time for, and never drops. */
class RefuseOnly extends GreedyCapped {
  #freeMs = 0;

  override offer(request: Waiting, nowMs: number): boolean {
    const full = Math.floor(this.waiting.length / this.cap);
    const own = this.waiting.length - full * this.cap + 1;
    const endMs = Math.max(nowMs, this.#freeMs) + full * this.batchMs(this.cap) + this.batchMs(own);
    return endMs <= request.deadlineMs && super.offer(request, nowMs);
  }

  ran(_samples: number, _ms: number, nowMs: number): void {
    this.#freeMs = nowMs + this.batchMs(Math.min(this.cap, this.waiting.length));
  }
}

/** The product's, its fit made online from a warm-up of two sizes. */
export function product(engine: Engine): Policy {
  const { a, b, slaMs, shrinks } = engine;
  const warmUp = [SAMPLES, 16 * SAMPLES].map((samples) => ({ samples, ms: a + b * samples }));
  const latency = new LatencyModel({ capacityOf: (samples) => samples, warmUp });
  const batcher = new Batcher<Waiting>({
    latency,
    slaMs,
    mostSamples: 2 ** 20,
    queueSamples: 2 ** 24,
    shrinks,
  });
  return {
    offer: (request, nowMs) => batcher.offer(request, nowMs) === undefined,
    take: (nowMs) => batcher.take(nowMs)?.batch ?? [],
    ran: (samples, ms, nowMs) => batcher.ran(samples, ms, nowMs),
  };
}

export const POLICIES: readonly NamedPolicy[] = [
  { name: 'a batch per request', make: (engine) => new Single(engine) },
  { name: 'greedy: all that waits', make: (engine) => new Greedy(engine) },
  { name: 'greedy, at most SLA / 2', make: (engine) => new GreedyCapped(engine) },
  { name: 'wait 40 % of the SLA', make: (engine) => new Wait(engine) },
  { name: 'greedy + queue timeout of SLA / 2', make: (engine) => new QueueTimeoutUncapped(engine) },
  { name: 'greedy + queue timeout, at most SLA / 2', make: (engine) => new QueueTimeout(engine) },
  { name: 'refuse on arrival only', make: (engine) => new RefuseOnly(engine) },
  { name: 'shrunk to the earliest deadline', make: (engine) => new Shrunk(engine) },
  { name: 'shrunk, at most SLA / 2', make: (engine) => new ShrunkCapped(engine) },
  { name: 'drop what the whole batch finishes late', make: (engine) => new DropLate(engine) },
  { name: 'drop late, at most SLA / 2', make: (engine) => new DropLateCapped(engine) },
  { name: 'drop late, newest first', make: (engine) => new NewestFirst(engine) },
  { name: 'most requests a millisecond', make: (engine) => new BestRate(engine) },
];
