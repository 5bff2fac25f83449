/** How much of a device's callers' work is under way at once. The rest waits in the order of its calls, and what is too much is refused. */
import { abortError, onAbort, throwIfAborted } from '../checks/abort.ts';
import { type ArrayName, type ArrayOf, arrayName, bytesOf } from '../checks/array.ts';
import { type Members, optional, whole } from '../checks/value.ts';
import { DeviceError } from '../errors.ts';

/** What a device takes on. */
export interface AdmissionLimits {
  /** Programs under way at once. Default: 16. */
  readonly programs?: number;
  /** Bytes of the matrices and outputs of all programs under way; one that takes more runs alone. Default: 4 GiB. */
  readonly bytes?: number;
  /** Calls that wait for those under way. Default: 10,000. */
  readonly waiting?: number;
}

export const DEFAULT_LIMITS = Object.freeze({
  programs: 16,
  bytes: 2 ** 32,
  waiting: 10_000,
}) satisfies Required<AdmissionLimits>;

export const ADMISSION_MEMBERS: Members<AdmissionLimits> = {
  programs: optional(whole(1)),
  bytes: optional(whole(1)),
  waiting: optional(whole()),
};

/** What a call says of itself. */
export interface AdmissionRequest {
  /** Of the matrices and outputs that it takes. */
  readonly bytes: number;
  /** The call, for errors. */
  readonly what: string;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes of an array of a caller's; 0: it is none, which is refused when it is its turn. */
export function bytesIn(array: unknown): number {
  return arrayName(array) === undefined ? 0 : bytesOf(array as ArrayOf<ArrayName>);
}

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

export class Admission {
  readonly limits: Required<AdmissionLimits>;
  #programs = 0;
  #bytes = 0;
  /** In the order of their calls. */
  readonly #waiting = new Set<Waiting>();

  constructor(limits: AdmissionLimits = {}) {
    this.limits = Object.freeze({ ...DEFAULT_LIMITS, ...limits });
  }

  /** What is under way, and how many calls wait. */
  get state(): { readonly programs: number; readonly bytes: number; readonly waiting: number } {
    return { programs: this.#programs, bytes: this.#bytes, waiting: this.#waiting.size };
  }

  /**
   * Runs `work` when it is its turn. A call that is aborted while it waits gives its place up at once; one under way ends first, so
   * that its arrays are free again.
   * @throws DeviceError OVERLOADED when too many calls wait already; AbortError; what `work` throws.
   */
  async run<T>(request: AdmissionRequest, work: () => Promise<T>): Promise<T> {
    const { bytes, what, signal } = request;
    throwIfAborted(signal, what);
    if (this.#waiting.size === 0 && this.#fits(bytes)) this.#take(bytes);
    else await this.#turn(request);
    try {
      const result = await work();
      throwIfAborted(signal, what);
      return result;
    } finally {
      this.#programs -= 1;
      this.#bytes -= bytes;
      this.#startWaiting();
    }
  }

  #fits(bytes: number): boolean {
    const { programs, bytes: most } = this.limits;
    return this.#programs === 0 || (this.#programs < programs && this.#bytes + bytes <= most);
  }

  #take(bytes: number): void {
    this.#programs += 1;
    this.#bytes += bytes;
  }

  /** Resolves when it is the call's turn, and what it takes is counted. */
  #turn({ bytes, what, signal }: AdmissionRequest): Promise<void> {
    const { size } = this.#waiting;
    if (size >= this.limits.waiting)
      throw new DeviceError('OVERLOADED', `${what}: ${size} calls wait for the device already`);
    return new Promise((resolve, reject) => {
      let listening: Disposable | undefined;
      const own: Waiting = {
        bytes,
        start: () => {
          listening?.[Symbol.dispose]();
          resolve();
        },
      };
      if (signal !== undefined)
        listening = onAbort(signal, () => {
          this.#waiting.delete(own);
          reject(abortError(signal, what));
          // Those behind it may be smaller.
          this.#startWaiting();
        });
      this.#waiting.add(own);
    });
  }

  #startWaiting(): void {
    for (const next of this.#waiting) {
      if (!this.#fits(next.bytes)) return;
      this.#waiting.delete(next);
      this.#take(next.bytes);
      next.start();
    }
  }
}
