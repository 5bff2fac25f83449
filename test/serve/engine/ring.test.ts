import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  Bell,
  ENTRY_NUMBERS,
  type RingMemory,
  RingReader,
  RingWriter,
  ringMemory,
} from '../../../src/serve/engine/ring.ts';
import { bundledProgram } from '../../support/bundled-program.ts';
import { Random } from '../../support/random.ts';
import type { RingWork } from '../../support/ring-worker.ts';
import { SEED } from '../../support/seed.ts';

const word = () => new SharedArrayBuffer(4);

function ends(memory: RingMemory) {
  const reader = new RingReader(memory);
  const drained = () => {
    const entries: number[][] = [];
    const count = reader.drain((all, place) => entries.push([...all.subarray(place, place + ENTRY_NUMBERS)]));
    assert.equal(count, entries.length);
    return entries;
  };
  return { writer: new RingWriter(memory), drained };
}

/** An entry of numbers that all tell which it is. */
const entryOf = (n: number) => Array.from({ length: ENTRY_NUMBERS }, (_, i) => n * ENTRY_NUMBERS + i + 0.5);

test('entries come in order and whole, until the queue is full', () => {
  const { writer, drained } = ends(ringMemory(4));
  assert.deepEqual(drained(), []);
  for (let n = 0; n < 4; n++) assert.equal(writer.push(...entryOf(n)), true);
  assert.equal(writer.push(...entryOf(4)), false);
  assert.deepEqual(drained(), [0, 1, 2, 3].map(entryOf));
  assert.deepEqual(drained(), []);
  assert.equal(writer.push(...entryOf(5)), true);
  assert.deepEqual(drained(), [entryOf(5)]);
});

test('numbers of any kind arrive as they are', () => {
  const { writer, drained } = ends(ringMemory(1));
  const numbers = [2 ** 53 - 1, Number.POSITIVE_INFINITY, -0, 5e-324, -1, 0.1, Number.NaN, 2 ** 47 + 64];
  writer.push(...numbers);
  assert.deepEqual(drained(), [numbers]);
});

for (const start of [2 ** 32 - 5, 2 ** 31 - 5])
  test(`positions go on past ${start + 5}`, () => {
    const memory = ringMemory(4);
    new Int32Array(memory.positions).fill(start | 0);
    const { writer, drained } = ends(memory);
    for (let n = 0; n < 40; n++) {
      const pushed = [0, 1, 2, 3, 4, 5].map((i) => writer.push(...entryOf(10 * n + i)));
      assert.deepEqual(pushed, [true, true, true, true, false, false]);
      assert.deepEqual(
        drained(),
        [0, 1, 2, 3].map((i) => entryOf(10 * n + i)),
      );
    }
  });

test('a queue holds what a list would, whatever is pushed and taken when', () => {
  const random = new Random(SEED);
  for (const capacity of [1, 2, 8, 64]) {
    const { writer, drained } = ends(ringMemory(capacity));
    const list: number[][] = [];
    for (let step = 0; step < 2000; step++) {
      if (random.integer(0, 3) > 0) {
        const entry = entryOf(step);
        assert.equal(writer.push(...entry), list.length < capacity);
        if (list.length < capacity) list.push(entry);
      } else assert.deepEqual(drained(), list.splice(0));
    }
  }
});

test('what is pushed while the queue is drained comes now or the next time, once', () => {
  const memory = ringMemory(2);
  const [writer, reader] = [new RingWriter(memory), new RingReader(memory)];
  writer.push(0);
  const taken: number[] = [];
  const take = (entries: Float64Array, place: number) => {
    const n = entries[place] as number;
    taken.push(n);
    if (n < 9) assert.equal(writer.push(n + 1), true);
  };
  while (reader.drain(take) > 0);
  assert.deepEqual(taken, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('the entry that is read cannot be written over', () => {
  const memory = ringMemory(2);
  const [writer, reader] = [new RingWriter(memory), new RingReader(memory)];
  writer.push(1);
  writer.push(2);
  const taken: number[] = [];
  reader.drain((entries, place) => {
    const room = writer.push(9);
    assert.equal(room, taken.length > 0, 'there is room once an entry was read');
    taken.push(entries[place] as number);
  });
  assert.deepEqual(taken, [1, 2]);
});

test('capacities that do not divide 2^32 are refused', () => {
  for (const capacity of [0, 3, 12, -4, 1.5, Number.NaN, 2 ** 32])
    assert.throws(() => ringMemory(capacity), RangeError, `${capacity}`);
});

test('a bell that rang since the last look is not waited for', async () => {
  const memory = word();
  const [own, other] = [new Bell(memory), new Bell(memory)];
  own.look();
  other.ring();
  assert.equal(own.wait(), undefined);
  // It stays so until the next look: what came with it may not have been seen.
  assert.equal(own.wait(), undefined);
  own.look();
  const waiting = own.wait();
  assert.ok(waiting !== undefined);
  other.ring();
  assert.equal(await waiting, 'ok');
});

test('a new bell has seen what rang before', () => {
  const memory = word();
  new Bell(memory).ring();
  const bell = new Bell(memory);
  const waiting = bell.wait();
  assert.ok(waiting !== undefined);
  bell.ring();
});

test('a thread ends its own wait; a wait after that is for the next ring', async () => {
  const memory = word();
  const [own, other] = [new Bell(memory), new Bell(memory)];
  using _alive = setInterval(() => {}, 60_000);
  own.wake();
  for (let round = 0; round < 3; round++) {
    const waiting = own.wait();
    own.wake();
    assert.equal(await waiting, 'woken');
  }
  const waiting = own.wait();
  other.ring();
  assert.equal(await waiting, 'ok');
});

test('a bell is waited for so long, and no time at all', async () => {
  const bell = new Bell(word());
  using _alive = setInterval(() => {}, 60_000);
  assert.equal(bell.wait(0), undefined);
  assert.equal(await bell.wait(5), 'timed-out');
});

test('two threads lose no entry and no ring', { timeout: 20_000 }, async () => {
  const program = await bundledProgram(new URL('../../support/ring-worker.ts', import.meta.url));
  let worker: Worker | undefined;
  try {
    // So small that both sides find it full and empty again and again.
    const work: RingWork = { there: ringMemory(8), back: ringMemory(4), bell: word(), otherBell: word() };
    const started = new Worker(program, { workerData: work });
    worker = started;
    const ended = new Promise<number>((resolve, reject) => {
      started.once('error', reject);
      started.once('exit', resolve);
    });
    const { drained } = ends(work.back);
    const there = new RingWriter(work.there);
    const [bell, other] = [new Bell(work.otherBell), new Bell(work.bell)];
    const random = new Random(SEED);
    const count = 20_000;
    let [sent, come] = [0, 0];
    while (come < count) {
      bell.look();
      let moved = false;
      for (const entry of drained()) {
        assert.deepEqual(entry, come === count - 1 ? Array(ENTRY_NUMBERS).fill(-1) : entryOf(come));
        come++;
        moved = true;
      }
      for (let most = random.integer(1, 12); most > 0 && sent < count; most--) {
        const entry = sent === count - 1 ? Array(ENTRY_NUMBERS).fill(-1) : entryOf(sent);
        if (!there.push(...entry)) break;
        sent++;
        moved = true;
      }
      if (moved) other.ring();
      // Sleeping is right only when nothing can be sent: else this thread would wait for itself.
      if (!moved && come < count) assert.notEqual(await bell.wait(10_000), 'timed-out', 'a ring was lost');
    }
    assert.equal(await ended, 0);
  } finally {
    await worker?.terminate();
  }
});
