/** How much of a device's callers' work is under way at once. The rest waits in the order of its calls, and what is too much is refused. */
import { abortError, onAbort, throwIfAborted } from '../checks/abort.ts';
import { type ArrayName, type ArrayOf, arrayName, bytesOf } from '../checks/array.ts';
import { type Members, optional, whole } from '../checks/value.ts';
import { DeviceError } from '../errors.ts';

/** What a device takes on. */
export interface AdmissionLimits {
  /** Programs under way at once. Default: 16. */
  readonly programs?: number;
  /**
   * Bytes of the matrices and outputs of all programs under way; one that takes more runs alone. Batches of more than 2,048 samples that
   * would are run in parts, four of which fit in together. Default: 4 GiB; on GPUs with more than 32 GiB an eighth of their memory.
   */
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

/** A call's place among those under way, until it is disposed. */
class Turn implements Disposable {
  readonly bytes: number;
  readonly #end: (turn: Turn) => void;

  constructor(bytes: number, end: (turn: Turn) => void) {
    this.bytes = bytes;
    this.#end = end;
  }

  [Symbol.dispose](): void {
    this.#end(this);
  }
}

interface Waiting {
  readonly turn: Turn;
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
   * A call's turn, which ends when it is disposed: at once where there is room, else when it has come. A call that is aborted while
   * it waits gives its place up at once. One under way must end first, so that its arrays are free again: whoever it is looks at
   * the signal then.
   * @throws DeviceError OVERLOADED when too many calls wait already; AbortError.
   */
  enter(request: AdmissionRequest): Disposable | Promise<Disposable> {
    const { bytes, what, signal } = request;
    throwIfAborted(signal, what);
    const turn = new Turn(bytes, this.#leave);
    if (this.#waiting.size > 0 || !this.#fits(bytes)) return this.#wait(turn, request);
    this.#take(turn);
    return turn;
  }

  readonly #leave = ({ bytes }: Turn): void => {
    this.#programs -= 1;
    this.#bytes -= bytes;
    this.#startWaiting();
  };

  #fits(bytes: number): boolean {
    const { programs, bytes: most } = this.limits;
    return this.#programs === 0 || (this.#programs < programs && this.#bytes + bytes <= most);
  }

  #take({ bytes }: Turn): void {
    this.#programs += 1;
    this.#bytes += bytes;
  }

  /** Resolves when it is the call's turn, and what it takes is counted. */
  #wait(turn: Turn, { what, signal }: AdmissionRequest): Promise<Turn> {
    const { size } = this.#waiting;
    if (size >= this.limits.waiting)
      throw new DeviceError('OVERLOADED', `${what}: ${size} calls wait for the device already`);
    return new Promise((resolve, reject) => {
      let listening: Disposable | undefined;
      const own: Waiting = {
        turn,
        start: () => {
          listening?.[Symbol.dispose]();
          resolve(turn);
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
      if (!this.#fits(next.turn.bytes)) return;
      this.#waiting.delete(next);
      this.#take(next.turn);
      next.start();
    }
  }
}
