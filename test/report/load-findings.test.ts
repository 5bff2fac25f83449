/** What a load's report shows and says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LoadResults } from '../../src/load/results.ts';
import { loadFigures } from '../../src/report/load-figures.ts';
import { loadFindings } from '../../src/report/load-findings.ts';
import { renderReport } from '../../src/report/page.ts';
import { smallLoad } from './results.ts';

const rules = (change: (results: LoadResults) => unknown = () => {}) => {
  const results = smallLoad();
  change(results);
  return loadFindings(results).map(({ rule }) => rule);
};

test('the rate found, and what became of requests beyond it', () => {
  const [held, beyond, ...others] = loadFindings(smallLoad());
  assert.equal(held?.text, 'The server holds p99 ≤ 10.0 ms up to 1000 requests/s.');
  assert.equal(beyond?.text, 'At 1300 requests/s, 62 % are in time, 38 % are refused or dropped.');
  assert.deepEqual(others, []);
});

test('rules speak past their thresholds alone', () => {
  assert.deepEqual(
    rules(({ search }) => Object.assign(search ?? {}, { rate: undefined })),
    ['overload-in-time'],
  );
  assert.deepEqual(
    rules(({ runs }) => Object.assign(runs[2] ?? {}, { inTime: 12_500 })),
    ['rate-holds'],
  );
  // A search's runs are meant to fail.
  assert.deepEqual(
    rules(({ runs }) => Object.assign(runs[2] ?? {}, { step: 'bracket' })),
    ['rate-holds'],
  );
  const late = { lag: { p50Ms: 0.1, p99Ms: 0.9, mostMs: 2 } };
  assert.deepEqual(rules(({ runs }) => Object.assign(runs[0] ?? {}, late)).at(-1), 'generator-late');
  assert.deepEqual(
    rules((results) => Object.assign(results, { runs: [] })),
    [],
  );
});

test('figures: runs by rate, the tail of what was no search, outcomes', () => {
  const [latency, tail, outcomes] = loadFigures(smallLoad());
  assert.deepEqual(
    latency?.table.rows.map(([rate, , , , , p99, , , , bound]) => [rate, p99, bound]),
    [
      ['1000', '8.00 (7.50–8.60)', 'held'],
      ['1050', '8.00 (7.50–8.60)', 'p99 12.0 ms'],
      ['1300', '8.00 (7.50–8.60)', 'held'],
    ],
  );
  assert.deepEqual(
    tail?.table.columns.map(({ title }) => title),
    ['one in', 'ms at 1300/s'],
  );
  assert.deepEqual(tail?.table.rows.at(-1), ['1,000', '10.0']);
  assert.equal(outcomes?.table.rows[2]?.at(-1), '4000 × 503 OVERLOADED');
});

test('a page of a server and of nothing', () => {
  const page = renderReport([smallLoad()]);
  for (const text of [
    'http://gpu:8000',
    'load of dlrm',
    'deadline 10 ms',
    'Latency against rate',
    'one in (log scale)',
  ])
    assert.ok(page.includes(text), text);
  assert.ok(renderReport([{ ...smallLoad(), runs: [] }]).includes('load of dlrm'));
});
