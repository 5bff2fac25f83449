/** Requests whose arrays are on the device. */
import type { Executable, PlacedBags } from '../backend/backend.ts';
import type { Holdable } from '../backend/hold-all.ts';
import { DeviceError, UsageError } from '../errors.ts';

/** What a model's batch runner made of a request. */
export interface PlacedParts {
  /** The batch runner. */
  readonly owner: object;
  readonly bags: PlacedBags;
  /** Gives the matrices back. */
  readonly owned: readonly Disposable[];
  /** The program, whose dense features are there. */
  readonly executable: Executable;
}

/** They stay while they are held. */
export type HeldParts = PlacedParts & Holdable;

/** Kept by this file: what has it was made by `placedRequest`. */
const MADE_HERE = Symbol('made by DlrmModel.place');

/** The parts of a placed request; undefined for what is none. */
export let partsOf: (request: object) => HeldParts | undefined;

/**
 * A request whose arrays are in device memory, to be scored as often as one likes. Dispose it before its model closes; its memory
 * is given back after predictions under way.
 */
export class PlacedRequest implements Disposable {
  readonly #parts: HeldParts;
  /** What every hold ends with. */
  readonly #held: Disposable = { [Symbol.dispose]: () => this.#release() };
  #running = 0;
  #disposed = false;

  static {
    partsOf = (request) => (#parts in request ? request.#parts : undefined);
  }

  /** @internal For placedRequest. */
  constructor(made: typeof MADE_HERE, parts: PlacedParts) {
    if (made !== MADE_HERE) throw new UsageError('USAGE', 'a placed request is made by DlrmModel.place');
    this.#parts = { ...parts, hold: () => this.#hold() };
  }

  get batchSize(): number {
    return this.#parts.bags.batchSize;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#running === 0) this.#free();
  }

  #hold(): Disposable {
    if (this.#disposed) throw new DeviceError('DISPOSED', 'a placed request was used after it was disposed');
    this.#running += 1;
    return this.#held;
  }

  #release(): void {
    this.#running -= 1;
    if (this.#disposed && this.#running === 0) this.#free();
  }

  #free(): void {
    const { owned, bags } = this.#parts;
    for (const part of [...owned, bags]) part[Symbol.dispose]();
  }
}

/** For BatchRunner.place. */
export function placedRequest(parts: PlacedParts): PlacedRequest {
  return new PlacedRequest(MADE_HERE, parts);
}
