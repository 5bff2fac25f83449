import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { drawLookups, type LookupDraw } from '../../src/ffi/draw-lookups.ts';
import { createPool, destroyPool } from '../../src/ffi/thread-pool.ts';

const one = createPool(1, 'portable');
const three = createPool(3, 'portable');
after(() => {
  destroyPool(one);
  destroyPool(three);
});

const draw = (count: number, change: Partial<LookupDraw> = {}): LookupDraw => ({
  indices: new BigInt64Array(count),
  seed: 7,
  skipped: 1,
  first: 0,
  rows: 1000,
  step: 617,
  start: 12,
  popularity: { kind: 'uniform' },
  ...change,
});

/** More than a thread takes at a time, of several draws. */
const COUNTS = [100_001, 0, 1, 70_000];

test('what is drawn does not depend on threads', () => {
  const drawn = [one, three, undefined].map((pool) => {
    const draws = COUNTS.map((count, seed) => draw(count, { seed }));
    drawLookups(draws, pool);
    return draws.map(({ indices }) => indices);
  });
  assert.deepEqual(drawn[1], drawn[0]);
  assert.deepEqual(drawn[2], drawn[0]);
  assert.equal(new Set(drawn[0]?.[0]).size, 1000);
});

test('a stream may be cut anywhere, far from its beginning too', () => {
  for (const begin of [0, 1, 32_767, 2 ** 40 + 3]) {
    const whole = draw(1000, { first: begin });
    drawLookups([whole]);
    const parts = [1, 499, 500].map((count, i) => draw(count, { first: begin + ([0, 1, 500][i] as number) }));
    drawLookups(parts);
    assert.deepEqual(
      parts.flatMap(({ indices }) => [...indices]),
      [...whole.indices],
    );
  }
});

test('the last rank has a row of the table, however its number is rounded on the way', () => {
  for (const [rows, step] of [
    [2 ** 31 - 1, 2 ** 30 + 3],
    [2 ** 31 - 1, 2 ** 31 - 2],
    [1000, 617],
    [2 ** 52, 1],
    [2 ** 53 - 1, 1],
  ] as const) {
    // All lookups are of the second stratum, the last rank alone, whose row is the last one.
    const popularity = {
      kind: 'strata',
      limits: Float64Array.of(0, 1),
      bounds: Float64Array.of(0, rows - 1, rows),
    } as const;
    const last = draw(1000, { rows, step, start: step - 1, popularity });
    drawLookups([last]);
    assert.ok(last.indices.includes(BigInt(rows - 1)), `${rows} rows, steps of ${step}`);
    assert.deepEqual(
      last.indices.filter((index) => index < 0n || index >= BigInt(rows)),
      new BigInt64Array(0),
    );
    if (step === 1) assert.ok(last.indices.every((index) => index >= BigInt(rows) - 3n));
  }
});

test('nothing is drawn for arguments out of range', () => {
  const strata = { limits: new Float64Array(), bounds: Float64Array.of(0) };
  for (const change of [
    { rows: 0 },
    { rows: 2 ** 53 },
    { start: 1000 },
    { step: 0 },
    { first: -1 },
    { popularity: { kind: 'logUniform', touched: 1001 } },
    { popularity: { kind: 'strata', ...strata } },
  ] as Partial<LookupDraw>[]) {
    const good = draw(10);
    assert.throws(
      () => drawLookups([good, draw(10, change)]),
      { code: 'KERNEL_FAILED' },
      JSON.stringify(change),
    );
    assert.ok(good.indices.every((index) => index === 0n));
  }
});
