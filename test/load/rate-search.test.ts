import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateSearch, SEARCH_LIMITS } from '../../src/load/rate-search.ts';
import fc from '../support/properties.ts';

/** Runs a search against a server that keeps up to `capacity`; `odd(run)` runs fail or pass although they should not. */
function search(capacity: number, startRate = 100, odd: (run: number) => boolean = () => false) {
  const own = new RateSearch({ startRate });
  const steps: [string, number][] = [];
  for (let next = own.next; next !== undefined; next = own.next) {
    steps.push([next.step, next.rate]);
    assert.ok(steps.length <= SEARCH_LIMITS.mostRuns, 'it ends');
    own.tell(next.rate <= capacity !== odd(steps.length));
  }
  return { found: own.found, steps };
}

test('finds the capacity to within its resolution, from below, from wherever it starts', () => {
  const rates = fc.double({ min: 1, max: 50_000, noNaN: true });
  fc.assert(
    fc.property(rates, rates, (capacity, startRate) => {
      fc.pre(capacity / startRate < 1000 && startRate / capacity < 1000);
      const { found = 0 } = search(capacity, startRate);
      assert.ok(found <= capacity && found * 1.0501 >= capacity, `${found} of ${capacity}`);
    }),
  );
});

test('what it finds has passed three times, the last two of them in a row', () => {
  const { found, steps } = search(730);
  assert.equal(steps.filter(([, rate]) => rate === found).length, 3);
  assert.deepEqual(steps.slice(-2), [
    ['confirm', found],
    ['confirm', found],
  ]);
});

test('one failure that is none changes nothing; a rate that fails again is left', () => {
  const { found: usual } = search(730);
  // The first run fails, though 100/s are no trouble.
  const { found, steps } = search(730, 100, (run) => run === 1);
  assert.equal(found, usual);
  assert.deepEqual(steps.slice(0, 2), [
    ['bracket', 100],
    ['bracket', 100],
  ]);
  const never = search(0, 100);
  assert.equal(never.found, undefined);
});

test('a rate that passed by luck is given up when it is confirmed', () => {
  const own = new RateSearch({ startRate: 100, failures: 1 });
  let lucky = true;
  for (let next = own.next; next !== undefined; next = own.next) {
    // 400/s pass once.
    const passes = next.rate <= 300 || (next.rate === 400 && lucky);
    if (next.rate === 400) lucky = false;
    own.tell(passes);
  }
  const { found = 0 } = own;
  assert.ok(found <= 300 && found > 280, `${found}`);
});

test('a server without an end is left after the most runs', () => {
  const { found, steps } = search(Number.POSITIVE_INFINITY);
  assert.equal(found, undefined);
  assert.equal(steps.length, SEARCH_LIMITS.mostRuns);
});
