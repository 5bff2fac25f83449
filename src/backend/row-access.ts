/**
 * Keeps updates of rows apart from the runs that read them. Runs go side by side, an update alone; what comes later waits,
 * in the order of the calls, so that a run sees all of an update or nothing of it.
 */
import { at } from '../at.ts';
import type { Operation, PlacedTables } from './backend.ts';
import type { StagedRows } from './staged-rows.ts';

interface Waiting {
  readonly alone: boolean;
  readonly start: () => void;
}

let made = 0;

/** Of some tables' rows: tables that share memory share it. */
export class RowAccess {
  /** Who takes several takes them in this order: two who wait for each other would wait for ever. */
  readonly order = made++;
  readonly #waiting: Waiting[] = [];
  #readers = 0;
  #updating = false;
  #lastUpdate: Promise<void> = Promise.resolve();

  /** Begins to read: at once, or when what is given back resolves. `leave` ends it. */
  enter(): Promise<void> | undefined {
    if (!this.#updating && this.#waiting.length === 0) {
      this.#readers += 1;
      return undefined;
    }
    return new Promise((start) => this.#waiting.push({ alone: false, start }));
  }

  leave(): void {
    this.#readers -= 1;
    this.#startNext();
  }

  /** Replaces rows as soon as they are staged, after the updates that were asked for before it. */
  update(stage: () => Promise<StagedRows>): Promise<void> {
    const before = this.#lastUpdate;
    const own = (async () => {
      using staged = await stage();
      await before;
      await this.#turnAlone();
      try {
        await staged.apply();
      } finally {
        this.#updating = false;
        this.#startNext();
      }
    })();
    this.#lastUpdate = own.catch(() => {});
    return own;
  }

  /** Resolves when nobody reads, nor will. */
  #turnAlone(): Promise<void> {
    return new Promise((start) => {
      this.#waiting.push({ alone: true, start });
      this.#startNext();
    });
  }

  #startNext(): void {
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined || this.#updating || (next.alone && this.#readers > 0)) return;
      this.#waiting.shift();
      if (next.alone) this.#updating = true;
      else this.#readers += 1;
      next.start();
    }
  }
}

/** The rows that somebody reads again and again. */
export class RowReader {
  /** Each once, in the order to enter. */
  readonly #rows: readonly RowAccess[];
  /** What all reading ends with. */
  readonly #reading: Disposable = { [Symbol.dispose]: () => this.#leave() };

  constructor(rows: Iterable<RowAccess>) {
    this.#rows = [...new Set(rows)].sort((a, b) => a.order - b.order);
  }

  /** No row changes until what is given back is disposed: at once where there is no update, else after those. */
  enter(): Disposable | Promise<Disposable> {
    for (let i = 0; i < this.#rows.length; i++) {
      const turn = at(this.#rows, i).enter();
      if (turn !== undefined) return this.#enterFrom(i + 1, turn);
    }
    return this.#reading;
  }

  async #enterFrom(next: number, before: Promise<void>): Promise<Disposable> {
    await before;
    for (const access of this.#rows.slice(next)) await access.enter();
    return this.#reading;
  }

  #leave(): void {
    for (const access of this.#rows) access.leave();
  }
}

/** What a program reads. */
export function readerOf(
  program: readonly Operation[],
  accessOf: (tables: PlacedTables) => RowAccess,
): RowReader {
  const read: RowAccess[] = [];
  for (const operation of program)
    if (operation.op === 'embeddingBags') read.push(accessOf(operation.tables));
  return new RowReader(read);
}
