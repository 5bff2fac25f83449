/** Several things held together: all, or none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Holdable, holdAll } from '../../src/backend/hold-all.ts';
import { DeviceError } from '../../src/errors.ts';

/** Counts who holds it. */
class Thing implements Holdable {
  holds = 0;
  gone = false;

  hold(): Disposable {
    if (this.gone) throw new DeviceError('DISPOSED', 'it is gone');
    this.holds += 1;
    return { [Symbol.dispose]: () => (this.holds -= 1) };
  }
}

const holdsOf = (things: readonly Thing[]) => things.map(({ holds }) => holds);

test('all are held until what was given back is disposed', () => {
  const things = [new Thing(), new Thing(), new Thing()];
  const [first, second] = [holdAll(things), holdAll(things.slice(1))];
  assert.deepEqual(holdsOf(things), [1, 2, 2]);
  first[Symbol.dispose]();
  assert.deepEqual(holdsOf(things), [0, 1, 1]);
  second[Symbol.dispose]();
  assert.deepEqual(holdsOf(things), [0, 0, 0]);
});

test('where one cannot be held, none is', () => {
  const things = [new Thing(), new Thing(), new Thing()] as const;
  things[1].gone = true;
  assert.throws(() => holdAll(things), { code: 'DISPOSED' });
  assert.deepEqual(holdsOf(things), [0, 0, 0]);
});
