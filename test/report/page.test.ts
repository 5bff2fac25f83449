/** The page as text: its figures against the results', hostile names, nothing from outside. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { launchPerTable } from '../../src/bench/comparison.ts';
import type { CounterRow } from '../../src/characterize/results.ts';
import { UsageError } from '../../src/errors.ts';
import { significant } from '../../src/numbers.ts';
import { renderReport } from '../../src/report/page.ts';
import { recordedBench, smallCharacterization } from './results.ts';

const H200 = ['h200-paper.json', 'h200-paper-traces.json', 'h200-paper-sweeps.json'];

/** Every attribute and style of the page that could fetch something. */
function references(page: string): string[] {
  const targets = [...page.matchAll(/(?:href|src|srcset|action|data)="([^"]*)"/g)].map(
    (match) => match[1] ?? '',
  );
  const styles = [...page.matchAll(/url\([^)]*\)|@import[^;]*/g)].map((match) => match[0]);
  return [...targets.filter((target) => !target.startsWith('#')), ...styles];
}

test('all recorded results of the H200 make one page of less than 2 MB that refers to nothing outside', () => {
  const page = renderReport(H200.map(recordedBench));
  assert.ok(Buffer.byteLength(page) < 2e6);
  assert.deepEqual(references(page), []);
  assert.ok(!/<script|<link|<img|<iframe/.test(page));
});

test('ids are unique, and every link leads to one', () => {
  const page = renderReport([
    ...H200.map(recordedBench),
    recordedBench('cpu-zen5-quick.json'),
    smallCharacterization(),
  ]);
  const ids = [...page.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]);
  assert.equal(new Set(ids).size, ids.length);
  const targets = [...page.matchAll(/href="#([^"]+)"|aria-labelledby="([^"]+)"/g)].map(
    (match) => match[1] ?? match[2],
  );
  assert.ok(targets.length > 50);
  for (const target of targets) assert.ok(ids.includes(target), `#${target}`);
});

test('every row of the comparison stands in the page with its speed and time', () => {
  const results = recordedBench('h200-paper.json');
  const page = renderReport([results]);
  for (const row of results.embedding) {
    const { speedup, timing } = row;
    const launch = launchPerTable(row);
    assert.ok(page.includes(`${speedup.toFixed(2)}× · ${timing.medianMs.toFixed(2)} ms`));
    assert.ok(page.includes(`${significant(launch?.medianUs as number)} µs`));
  }
  for (const text of [results.command, 'cuda 13.0', '12 × 500,000 × 128 float32'])
    assert.ok(page.includes(text));
});

describe('names from files are text, whatever they hold', () => {
  const HOSTILE = `"><script>alert(1)</script><img src=x onerror='x'>&`;
  test('of a benchmark', () => {
    const results = recordedBench('cpu-zen5-quick.json');
    for (const row of [...results.embedding, ...results.model]) {
      row.pattern = row.pattern === 'random' ? HOSTILE : row.pattern;
      if (row.implementation !== 'hotrow') row.implementation = HOSTILE;
    }
    results.command = HOSTILE;
    results.notes.push(HOSTILE);
    results.device.name = HOSTILE;
    results.device.versions[HOSTILE] = HOSTILE;
    results.hotness = [{ pattern: HOSTILE, points: [[1, 0.5]] }];
    const page = renderReport([results]);
    assert.ok(!/<script|<img/.test(page));
    assert.ok(page.includes('&quot;&gt;&lt;script&gt;'));
  });
  test('of a characterization', () => {
    const results = smallCharacterization();
    for (const row of results.counters) {
      row.because = HOSTILE;
      row.limiter = HOSTILE;
      row.stalls.push({ reason: HOSTILE, perIssue: 1 });
    }
    for (const row of results.static)
      Object.assign(row, { gpu: HOSTILE, kernel: HOSTILE, instructions: { [HOSTILE]: 2 } });
    results.tools[HOSTILE] = HOSTILE;
    assert.ok(!/<script|<img/.test(renderReport([results])));
  });
});

test('devices have sections of their own', () => {
  const page = renderReport(
    ['h200-paper.json', 'cpu-zen5-quick.json', 'h200-paper-traces.json'].map(recordedBench),
  );
  const sections = page.split('<section ').slice(1);
  assert.equal(sections.length, 2);
  assert.match(sections[0] ?? '', /<h2[^>]*>NVIDIA H200/);
  assert.match(sections[1] ?? '', /<h2[^>]*>AMD EPYC/);
  assert.equal((sections[0] ?? '').split('<article ').length, 3, 'both runs on the H200');
  assert.ok(!sections[1]?.includes('RPF'), 'no row of the GPU among those of the CPU');
});

test('the same results given twice are shown once, and that is said', () => {
  const twice = renderReport([recordedBench('h200-paper.json'), recordedBench('h200-paper.json')]);
  const once = renderReport([recordedBench('h200-paper.json')]);
  assert.equal(twice.split('<article ').length, 2);
  assert.match(twice, /1 of the 2 results given repeat/);
  assert.doesNotMatch(once, /results given repeat/);
});

test('no results are refused', () => assert.throws(() => renderReport([]), UsageError));

test('hotness curves and shares of the limit are shown where they were recorded', () => {
  const results = recordedBench('cpu-zen5-quick.json');
  const without = renderReport([results]);
  assert.ok(!without.includes('id="run-1-hotness"') && !without.includes('id="run-1-limit"'));
  results.hotness = [
    {
      pattern: 'random',
      points: [
        [1, 0.001],
        [100, 0.0123],
        [1000, 0.25],
      ],
    },
  ];
  for (const row of results.embedding) Object.assign(row, { limitMs: 0.5, limitShare: 0.372 });
  const page = renderReport([results]);
  assert.ok(page.includes('id="run-1-hotness"') && page.includes('1.23 %'));
  assert.ok(page.includes('id="run-1-limit"') && page.includes('37 %'));
});

test('a run without rows is a page with its facts only', () => {
  const page = renderReport([{ ...recordedBench('cpu-zen5-quick.json'), embedding: [], model: [] }]);
  assert.ok(!page.includes('<figure') && page.includes('AMD EPYC'));
});

test('a static characterization needs no device', () => {
  const { device: _, ...results } = smallCharacterization();
  const page = renderReport([{ ...results, counters: [] }]);
  assert.match(page, /no device: static reports of kernels/);
  assert.ok(page.includes('id="run-1-static"') && page.includes('id="run-1-instructions"'));
  assert.ok(!page.includes('id="run-1-warps"'));
});

test('a characterization without counters shows the times of launches; one with a model, its stages', () => {
  const results = smallCharacterization();
  const { pattern, variant, plan } = results.counters[0] as CounterRow;
  const launches = [{ pattern, variant, plan, launches: 24, timeUs: 123.4, tablesPerLaunch: 1 }];
  const { model } = recordedBench('cpu-zen5-quick.json');
  const page = renderReport([{ ...results, counters: [], launches, model }]);
  const [, figure = ''] = page.split('id="run-1-launches"');
  assert.match(figure.split('</figure>')[0] ?? '', /random|one_item.*123/s);
  assert.ok(page.includes('id="run-1-model"') && !page.includes('id="run-1-warps"'));
  assert.ok(!renderReport([results]).includes('id="run-1-launches"'));
});

test('stall reasons beyond what a legend can tell apart are shown together, and each in the table', () => {
  const results = smallCharacterization();
  for (const row of results.counters)
    row.stalls = Array.from({ length: 12 }, (_, i) => ({ reason: `reason ${i}`, perIssue: 12 - i }));
  const [, figure = ''] = renderReport([results]).split('id="run-1-stalls"');
  const [legend = '', rest = ''] = figure.split('</ul>');
  assert.equal(legend.split('<li>').length - 1, 8);
  assert.match(legend, /reason 6<\/li>.*other<\/li>/);
  assert.match(rest.split('</figure>')[0] ?? '', /<th scope="col">reason 11<\/th>/);
});

test('results of zeros and of one row draw without NaN', () => {
  const results = recordedBench('h200-paper-sweeps.json');
  const [row] = results.embedding;
  assert.ok(row);
  results.embedding = [row, { ...row, sweep: 'prefetch' }];
  row.timing = { ...row.timing, medianMs: 0 };
  row.speedup = 0;
  row.gigabytesPerSecond = 0;
  const page = renderReport([results]);
  assert.doesNotMatch(page, /NaN|Infinity|undefined/);
});
