/** Programs of all sizes over one block. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeviceBuffer, Executable } from '../../src/backend/backend.ts';
import { ProgramLane } from '../../src/backend/program-lane.ts';

function lane() {
  const made: number[] = [];
  let [live, blocks] = [0, 1];
  const block = {
    length: 100,
    [Symbol.dispose]: () => {
      blocks -= 1;
    },
  } as unknown as DeviceBuffer;
  const prepare = (capacity: number, given: DeviceBuffer): Executable => {
    assert.equal(given, block);
    made.push(capacity);
    live += 1;
    return {
      run: () => Promise.reject(new Error('not run')),
      [Symbol.dispose]: () => {
        live -= 1;
      },
    };
  };
  const own = new ProgramLane(64, block, prepare);
  const use = (capacity: number, kind: unknown) => {
    const executable = own.lend(capacity, kind);
    own.giveBack();
    return executable;
  };
  return { own, use, made, live: () => live, blocks: () => blocks };
}

test('a size is prepared once, and again for bags of another kind', () => {
  const { own, use, made } = lane();
  const [a, b] = [use(8, 'x'), use(16, 'x')];
  assert.equal(use(8, 'x'), a);
  assert.equal(use(16, 'x'), b);
  assert.notEqual(use(8, 'y'), a);
  assert.deepEqual(made, [8, 16, 8]);
  assert.ok(own.has(8, 'y') && own.has(8, 'x') && !own.has(16, 'y'));
});

test('of many kinds of a size the one that was used least recently serves the next', () => {
  const { own, use, made } = lane();
  const first = use(8, 0);
  for (const kind of [1, 2, 3]) use(8, kind);
  assert.equal(use(8, 4), first);
  assert.equal(made.length, 4);
  assert.ok(own.has(8, 4) && !own.has(8, 0));
});

test('programs have a limit: the oldest goes', () => {
  const { use, live, made } = lane();
  for (let capacity = 1; capacity <= 300; capacity++) use(capacity, 'x');
  assert.equal(live(), 256);
  use(300, 'x');
  use(1, 'x');
  assert.equal(made.length, 301);
});

test('it is idle but while it is lent, and given back then, once', () => {
  const { own, live, blocks } = lane();
  assert.ok(own.isIdle);
  own.lend(8, 'x');
  assert.ok(!own.isIdle);
  own[Symbol.dispose]();
  assert.deepEqual([live(), blocks()], [1, 1], 'it is still lent');
  own.giveBack();
  assert.deepEqual([live(), blocks()], [0, 0]);
  own[Symbol.dispose]();
  assert.deepEqual([live(), blocks()], [0, 0]);
});
