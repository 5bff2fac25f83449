/** Notes calls into a library: how many, how long, and those that took long. */
import { nowMs } from '../../src/serve/engine/clock.ts';

/** A call that took long. */
export interface LongCall {
  readonly call: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** What it allocates, gives back or copies. */
  readonly bytes?: number;
}

/** All calls of a function during a phase. */
export interface CallTotals {
  readonly phase: string;
  readonly call: string;
  count: number;
  ms: number;
  mostMs: number;
  bytes: number;
}

/** Where the size stands among the arguments of the driver's functions. */
const SIZE_AT: Readonly<Record<string, number>> = {
  allocate: 0,
  allocatePinned: 0,
  registerHost: 1,
  copyToDevice: 2,
  copyToHost: 2,
  copyOnDevice: 2,
  fillBytes: 2,
};
const GIVES_BACK = new Set(['free', 'freePinned']);

export class CallLog {
  readonly long: LongCall[] = [];
  /** What the calls belong to from now on. */
  phase = 'start';
  readonly #longMs: number;
  readonly #totals = new Map<string, CallTotals>();
  readonly #sizes = new Map<unknown, number>();

  constructor(longMs: number) {
    this.#longMs = longMs;
  }

  get totals(): CallTotals[] {
    return [...this.#totals.values()].sort((a, b) => b.ms - a.ms);
  }

  /** `library`, whose calls are noted; `name` stands before each. */
  watch<T extends object>(library: T, name: string): T {
    const watched = new Map<PropertyKey, unknown>();
    return new Proxy(library, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (!isFunction(value)) return value;
        const known = watched.get(key);
        if (known !== undefined) return known;
        const own = (...args: unknown[]): unknown =>
          this.#watched(target, value, `${name}.${String(key)}`, args);
        watched.set(key, own);
        return own;
      },
    });
  }

  /** Runs a call, of so many bytes, and notes it. */
  timed<T>(call: string, bytes: number | undefined, work: () => T): T {
    const fromMs = nowMs();
    try {
      return work();
    } finally {
      this.#note(call, fromMs, nowMs(), bytes);
    }
  }

  #watched(target: object, value: (...args: unknown[]) => unknown, call: string, args: unknown[]): unknown {
    const name = call.slice(call.indexOf('.') + 1);
    const fromMs = nowMs();
    let result: unknown;
    try {
      result = value.apply(target, args);
      return result;
    } finally {
      this.#note(call, fromMs, nowMs(), this.#sizeOf(name, args, result));
    }
  }

  #sizeOf(call: string, args: readonly unknown[], result: unknown): number | undefined {
    const at = SIZE_AT[call];
    if (at !== undefined) {
      const bytes = Number(args[at]);
      if (call.startsWith('allocate')) this.#sizes.set(result, bytes);
      return bytes;
    }
    if (!GIVES_BACK.has(call)) return undefined;
    const bytes = this.#sizes.get(args[0]);
    this.#sizes.delete(args[0]);
    return bytes;
  }

  #note(call: string, fromMs: number, toMs: number, bytes: number | undefined): void {
    const ms = toMs - fromMs;
    const key = `${this.phase} ${call}`;
    let totals = this.#totals.get(key);
    if (totals === undefined) {
      totals = { phase: this.phase, call, count: 0, ms: 0, mostMs: 0, bytes: 0 };
      this.#totals.set(key, totals);
    }
    totals.count += 1;
    totals.ms += ms;
    totals.mostMs = Math.max(totals.mostMs, ms);
    totals.bytes += bytes ?? 0;
    if (ms >= this.#longMs) this.long.push({ call, fromMs, toMs, ...(bytes === undefined ? {} : { bytes }) });
  }
}

function isFunction(value: unknown): value is (...args: unknown[]) => unknown {
  return typeof value === 'function';
}
