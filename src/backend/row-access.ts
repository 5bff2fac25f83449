/**
 * Keeps updates of rows apart from the runs that read them. Runs go side by side, an update alone; what comes later waits,
 * in the order of the calls, so that a run sees all of an update or nothing of it.
 */
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

  /** Begins to read; `leave` ends it. Undefined: at once. */
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
      await this.#alone(() => staged.apply());
    })();
    this.#lastUpdate = own.catch(() => {});
    return own;
  }

  /** Runs `update` while nobody reads. */
  async #alone(update: () => Promise<void>): Promise<void> {
    await new Promise<void>((start) => {
      this.#waiting.push({ alone: true, start });
      this.#startNext();
    });
    try {
      await update();
    } finally {
      this.#updating = false;
      this.#startNext();
    }
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

/** What a program reads, each once, in the order to enter. */
export function rowsReadBy(
  program: readonly Operation[],
  accessOf: (tables: PlacedTables) => RowAccess,
): readonly RowAccess[] {
  const read = new Set<RowAccess>();
  for (const operation of program) if (operation.op === 'embeddingBags') read.add(accessOf(operation.tables));
  return [...read].sort((a, b) => a.order - b.order);
}

/** Runs `work` while no row of `rows` changes. */
export async function whileReading<T>(rows: readonly RowAccess[], work: () => Promise<T>): Promise<T> {
  for (const access of rows) {
    const turn = access.enter();
    if (turn !== undefined) await turn;
  }
  try {
    return await work();
  } finally {
    for (const access of rows) access.leave();
  }
}
