/** What tables, figures and findings say of several peers in one run: a recorded run, with a made-up second peer. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import Value from 'typebox/value';
import { launchPerTable, peersOf } from '../../src/bench/comparison.ts';
import { benchTables } from '../../src/bench/render.ts';
import { type BenchResults, resultsSchema } from '../../src/bench/results.ts';
import { benchFigures } from '../../src/report/bench-figures.ts';
import { benchFindings } from '../../src/report/bench-findings.ts';
import { recordedBench } from '../report/results.ts';

/** PyTorch's rows once more under another name: half the time for a batch, one launch for all tables in twice that of one. */
function withSecondPeer(): BenchResults {
  const results = recordedBench('h200-paper.json');
  const doubled = results.embedding
    .filter(({ implementation }) => implementation !== 'hotrow')
    .map((row) => ({
      ...structuredClone(row),
      implementation: 'FBGEMM 0.0.1',
      variant: 'a table-batched operator',
      timing: { ...row.timing, medianMs: row.timing.medianMs / 2 },
      launch: { ...(row.launch as NonNullable<typeof row.launch>) },
      tablesPerLaunch: row.tables,
    }));
  for (const { launch } of doubled) launch.medianUs *= 2;
  results.embedding.push(...doubled);
  return results;
}

describe('two peers', () => {
  const results = withSecondPeer();

  test('fit the schema, and are told apart', () => {
    assert.deepEqual([...Value.Errors(resultsSchema, results)], []);
    assert.deepEqual(
      peersOf(results).map(({ name, rows }) => [name, rows.size]),
      [
        ['PyTorch', 5],
        ['FBGEMM', 5],
      ],
    );
  });

  test('a launch for all tables counts by table', () => {
    const [pytorch, fbgemm] = peersOf(results).map(({ rows }) => launchPerTable(rows.get('random') as never));
    assert.equal(fbgemm?.medianUs, ((pytorch?.medianUs as number) * 2) / 12);
  });

  test('each has its ratios in the tables', () => {
    const tables = benchTables(results);
    const over = tables.filter(
      ({ title }) => title.includes('speed over') && title.includes('in the same run'),
    );
    assert.deepEqual(
      over.map(({ title }) => /over (\w+) /.exec(title)?.[1]),
      ['PyTorch', 'FBGEMM'],
    );
    for (const [i, { rows }] of over.entries()) {
      const own = rows.find(([name]) => name?.startsWith(['PyTorch', 'FBGEMM'][i] as string));
      assert.deepEqual(own?.slice(1), Array(5).fill('1.00×'));
    }
    const best = tables.find(({ title }) => title === 'best plan found');
    assert.deepEqual(
      best?.columns.map(({ title }) => title),
      ['pattern', 'distinct', 'GB/s', 'vs PyTorch', 'vs FBGEMM', 'techniques'],
    );
    const ratio = (cell: string | undefined) => Number.parseFloat(cell as string);
    for (const row of best?.rows ?? []) assert.ok(Math.abs(ratio(row[3]) - 2 * ratio(row[4])) < 0.02);
  });

  test('each has its bars, its column and its finding in a report', () => {
    const figures = benchFigures(results);
    for (const id of ['speedup', 'launch-speedup', 'limit', 'bandwidth']) {
      const chart = figures.find((figure) => figure.id === id)?.chart;
      assert.ok(chart?.kind === 'bars');
      for (const { bars } of chart.panels) {
        const peers = bars.filter(({ tone }) => tone === 'peer').map(({ label }) => label.split(' ')[0]);
        assert.deepEqual(peers, ['PyTorch', 'FBGEMM'], id);
      }
    }
    const best = figures.find(({ id }) => id === 'best')?.table;
    assert.deepEqual(
      best?.columns.map(({ title }) => title),
      ['pattern', 'distinct rows', 'median ms', 'speed', 'over PyTorch', 'over FBGEMM', 'techniques'],
    );
    const findings = benchFindings(results).filter(({ rule }) => rule === 'peer');
    assert.deepEqual(
      findings.map(({ text }) => /as fast as (\w+)/.exec(text)?.[1]),
      ['PyTorch', 'FBGEMM'],
    );
  });
});

test('without a peer there is no column for one', () => {
  const results = recordedBench('h200-paper.json');
  results.embedding = results.embedding.filter(({ implementation }) => implementation === 'hotrow');
  const best = benchTables(results).find(({ title }) => title === 'best plan found');
  assert.equal(
    best?.columns.some(({ title }) => title.startsWith('vs')),
    false,
  );
});
