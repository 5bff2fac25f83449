/** Runs side by side, updates alone, all in their order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Operation, PlacedTables } from '../../src/backend/backend.ts';
import { RowAccess, RowReader, readerOf } from '../../src/backend/row-access.ts';

async function reading(rows: readonly RowAccess[], work: () => Promise<void>): Promise<void> {
  using _reading = await new RowReader(rows).enter();
  await work();
}

/** Work that ends when it is told to, and notes its begin and its end. */
class Works {
  readonly log: string[] = [];
  readonly #ends = new Map<string, () => void>();

  read(name: string, ...rows: readonly RowAccess[]): Promise<void> {
    return reading(rows, () => this.#run(name));
  }

  update(name: string, rows: RowAccess, staging?: Promise<void>): Promise<void> {
    return rows.update(async () => {
      await staging;
      return { apply: () => this.#run(name), [Symbol.dispose]: () => this.log.push(`${name} given back`) };
    });
  }

  async end(name: string): Promise<void> {
    this.#ends.get(name)?.();
    await setImmediate();
  }

  #run(name: string): Promise<void> {
    this.log.push(name);
    return new Promise((resolve) => this.#ends.set(name, resolve));
  }
}

test('an update waits for the runs before it, and those after wait for it', async () => {
  const works = new Works();
  const rows = new RowAccess();
  const all = [works.read('a', rows), works.read('b', rows), works.update('u', rows)];
  await setImmediate();
  all.push(works.read('c', rows), works.update('v', rows), works.read('d', rows));
  await setImmediate();
  assert.deepEqual(works.log, ['a', 'b'], 'runs go side by side; nothing overtakes the update');
  await works.end('a');
  assert.deepEqual(works.log.splice(0), ['a', 'b']);
  await works.end('b');
  assert.deepEqual(works.log.splice(0), ['u'], 'alone');
  await works.end('u');
  assert.deepEqual(works.log.splice(0).sort(), ['c', 'd', 'u given back']);
  all.push(works.read('e', rows));
  await works.end('c');
  assert.deepEqual(works.log, [], 'an update that waits is not overtaken, and waits for all');
  await works.end('d');
  assert.deepEqual(works.log.splice(0), ['v']);
  await works.end('v');
  assert.deepEqual(works.log.splice(0).sort(), ['e', 'v given back']);
  await works.end('e');
  await Promise.all(all);
});

test('updates take effect in the order of their calls, whichever is staged first', async () => {
  const works = new Works();
  const rows = new RowAccess();
  let staged = () => {};
  const slow = new Promise<void>((resolve) => {
    staged = resolve;
  });
  const all = [works.update('first', rows, slow), works.update('second', rows)];
  await setImmediate();
  assert.deepEqual(works.log, []);
  staged();
  await setImmediate();
  assert.deepEqual(works.log.splice(0), ['first']);
  await works.end('first');
  assert.deepEqual(works.log.splice(0).sort(), ['first given back', 'second']);
  await works.end('second');
  await Promise.all(all);
});

test('runs and updates that fail let the next ones go on', async () => {
  const works = new Works();
  const rows = new RowAccess();
  const failing = async () => {
    throw new Error('failed');
  };
  await assert.rejects(reading([rows], failing), /failed/);
  await assert.rejects(
    rows.update(async () => ({ apply: failing, [Symbol.dispose]() {} })),
    /failed/,
  );
  await assert.rejects(rows.update(failing), /failed/);
  const after = [works.update('u', rows), works.read('r', rows)];
  await setImmediate();
  for (const name of ['r', 'u']) await works.end(name);
  await Promise.all(after);
  assert.deepEqual(works.log.sort(), ['r', 'u', 'u given back']);
});

test('what a program reads is taken once, in one order for all programs', () => {
  const entered: string[] = [];
  class Noted extends RowAccess {
    constructor(readonly name: string) {
      super();
    }

    override enter(): Promise<void> | undefined {
      entered.push(this.name);
      return super.enter();
    }
  }
  const [first, second] = [new Noted('first'), new Noted('second')];
  const tables = [second, first, second].map((access) => ({ access }) as unknown as PlacedTables);
  const program = tables.map((own) => ({ op: 'embeddingBags', tables: own }) as Operation);
  const access = (own: PlacedTables) => (own as unknown as { access: RowAccess }).access;
  assert.ok(!(readerOf(program, access).enter() instanceof Promise), 'at once');
  assert.deepEqual(entered.splice(0), ['first', 'second']);
  readerOf([{ op: 'copy' } as Operation], access).enter();
  assert.deepEqual(entered, []);
});

test('who reads several rows waits for the updates of each, and an update for it', async () => {
  const works = new Works();
  const [first, second] = [new RowAccess(), new RowAccess()];
  const all = [works.update('u', first), works.update('v', second)];
  await setImmediate();
  all.push(works.read('both', second, first));
  await works.end('u');
  assert.deepEqual(works.log.splice(0).sort(), ['u', 'u given back', 'v']);
  await works.end('v');
  assert.deepEqual(works.log.splice(0).sort(), ['both', 'v given back']);
  all.push(works.update('w', first), works.update('x', second));
  await setImmediate();
  assert.deepEqual(works.log, []);
  await works.end('both');
  assert.deepEqual(works.log.sort(), ['w', 'x']);
  for (const name of ['w', 'x']) await works.end(name);
  await Promise.all(all);
});
