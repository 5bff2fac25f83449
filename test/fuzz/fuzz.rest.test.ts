/** A few changed files of every family. `npx tsx scripts/fuzz.ts 50000` runs more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED } from '../support/seed.ts';
import { FAMILIES } from './families.ts';
import { fuzz } from './fuzz.ts';

/** Cases of a family; the first of them are its valid files. */
const CASES = 60;

test('changed files are read, or refused by a HotrowError', async () => {
  const families = FAMILIES.map(({ name }) => name);
  const { outcomes, failure } = await fuzz({ families, first: 0, count: CASES, seed: SEED });
  assert.equal(failure, undefined, `HOTROW_SEED=${SEED} ${JSON.stringify(failure)}`);
  for (const name of families) {
    const counts = outcomes[name] ?? {};
    const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
    assert.equal(all, CASES, `${name}: ${JSON.stringify(counts)}`);
    // Else its files are no longer valid, or changes do nothing.
    assert.ok((counts.read ?? 0) > 0 && (counts.read ?? 0) < CASES, `${name}: ${JSON.stringify(counts)}`);
  }
});

test('the watchdog sees a process that ends', async () => {
  const { failure } = await fuzz({ families: ['plan'], first: 0, count: 1, seed: 1, folder: '/nonexistent' });
  assert.match(failure?.what ?? '', /the process ended/);
});
