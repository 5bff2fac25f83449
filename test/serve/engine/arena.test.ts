import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Slot, SlotArena } from '../../../src/serve/engine/arena.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

const ARENA = 64 * 200;
const aligned = (bytes: number) => Math.max(1, Math.ceil(bytes / 64)) * 64;
/** The whole arena is one gap: nothing else has room for it. */
function isOneGap(arena: SlotArena): boolean {
  const all = arena.take(arena.bytes);
  if (all !== undefined) arena.give(all);
  return all !== undefined;
}

test('slots are aligned, of their own, and where they say they are', () => {
  using arena = new SlotArena(ARENA);
  const slots = [1, 64, 65, 0].map((bytes) => arena.take(bytes) as Slot);
  assert.deepEqual(
    slots.map(({ at, bytes, words }) => [at, bytes.length, words.length]),
    [
      [0, 64, 16],
      [64, 64, 16],
      [128, 128, 32],
      [256, 64, 16],
    ],
  );
  for (const { at, address, bytes, words } of slots) {
    assert.equal(address, arena.address + BigInt(at));
    assert.equal(address % 64n, 0n);
    assert.equal(bytes.byteOffset, at);
    words[0] = 0x01020304;
    assert.deepEqual([...bytes.subarray(0, 4)], [4, 3, 2, 1]);
  }
  assert.equal(arena.used, 320);
});

test('slots taken and given in any order never overlap, and leave one gap', () => {
  const random = new Random(SEED);
  using arena = new SlotArena(ARENA);
  for (let round = 0; round < 20; round++) {
    const live: { slot: Slot; mark: number }[] = [];
    let refused = 0;
    for (let step = 0; step < 400; step++) {
      const gives = live.length > 0 && random.integer(0, 9) < (step < 300 ? 4 : 9);
      if (gives) {
        const [{ slot, mark }] = live.splice(random.integer(0, live.length - 1), 1) as [(typeof live)[0]];
        assert.ok(
          slot.bytes.every((byte) => byte === mark),
          'nobody wrote into it',
        );
        arena.give(slot);
      } else {
        const bytes = random.integer(0, 1500);
        const slot = arena.take(bytes);
        if (slot === undefined) {
          refused++;
          // Refused only where no gap is that large: gaps lie between the slots.
          const ends = live
            .map((one) => [one.slot.at, one.slot.bytes.length] as const)
            .sort(([a], [b]) => a - b);
          let end = 0;
          for (const [at, length] of [...ends, [arena.bytes, 0] as const]) {
            assert.ok(at - end < aligned(bytes), `a gap of ${at - end} bytes has room for ${bytes}`);
            end = at + length;
          }
        } else {
          assert.equal(slot.bytes.length, aligned(bytes));
          const mark = random.integer(1, 255);
          slot.bytes.fill(mark);
          live.push({ slot, mark });
        }
      }
      assert.equal(
        arena.used,
        live.reduce((sum, one) => sum + one.slot.bytes.length, 0),
      );
    }
    assert.ok(refused > 0);
    for (const { slot } of live) arena.give(slot);
    assert.equal(arena.used, 0);
    assert.ok(isOneGap(arena));
  }
});

test('neighbours become one gap whichever comes back first', () => {
  for (const order of [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ]) {
    using arena = new SlotArena(192);
    const slots = [0, 1, 2].map(() => arena.take(64) as Slot);
    assert.equal(arena.take(1), undefined);
    for (const i of order) arena.give(slots[i] as Slot);
    assert.ok(isOneGap(arena), `${order}`);
  }
});

test('an arena of any size is cut to whole slots', () => {
  for (const bytes of [1, 63, 64, 65, 1000]) {
    using arena = new SlotArena(bytes);
    assert.equal(arena.bytes, aligned(bytes));
    assert.ok(isOneGap(arena));
    assert.equal(arena.take(arena.bytes + 1), undefined);
  }
});

test('what was in a slot before is still there', () => {
  using arena = new SlotArena(64);
  const first = arena.take(64) as Slot;
  first.bytes.fill(7);
  arena.give(first);
  assert.ok((arena.take(1) as Slot).bytes.every((byte) => byte === 7));
});

test('a slot that was given back is not taken back again', () => {
  using arena = new SlotArena(64 * 4);
  const [a, b, c, d] = [0, 1, 2, 3].map(() => arena.take(64)) as [Slot, Slot, Slot, Slot];
  const refuses = (slot: Slot) => assert.throws(() => arena.give(slot), /was given back already/);
  arena.give(b);
  refuses(b);
  arena.give(a);
  refuses(a);
  refuses(b);
  arena.give(d);
  refuses(d);
  assert.equal(arena.used, 64);
  arena.give(c);
  refuses(c);
  assert.equal(arena.used, 0);
  assert.ok(isOneGap(arena));
  // Of what it was, a part is another's by now.
  const large = arena.take(128) as Slot;
  arena.give(large);
  const small = arena.take(64) as Slot;
  refuses(large);
  assert.equal(arena.used, 64);
  arena.give(small);
});

test('who lends its slot is asked for it in turn, as far as others need it', () => {
  using arena = new SlotArena(64 * 3, 0);
  const asked: string[] = [];
  const lenders = ['first', 'second', 'third'].map((name) => {
    const slot = arena.take(64) as Slot;
    const lender = {
      giveBack() {
        asked.push(name);
        arena.give(slot);
      },
    };
    arena.lend(lender);
    return lender;
  });
  const [first, second] = lenders as [(typeof lenders)[0], (typeof lenders)[0]];
  arena.keep(second);
  const slot = arena.take(64, first) as Slot;
  assert.deepEqual(asked, ['third'], 'neither who keeps it, nor who takes');
  assert.equal(arena.take(64 * 3), undefined);
  assert.deepEqual(asked, ['third', 'first'], 'each once');
  arena.give(slot);
  assert.ok(arena.take(64) !== undefined);
  assert.deepEqual(asked, ['third', 'first']);
});

test('who lends its slot is left alone for a while', () => {
  using arena = new SlotArena(64, Number.POSITIVE_INFINITY);
  assert.ok(arena.take(64) !== undefined);
  arena.lend({ giveBack: () => assert.fail('it has not had its time') });
  assert.equal(arena.take(64), undefined);
});
