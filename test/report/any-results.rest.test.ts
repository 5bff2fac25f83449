/** A report of whatever the schemas of results allow is a page of finite numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Value from 'typebox/value';
import { resultsSchema } from '../../src/bench/results.ts';
import { characterizationSchema } from '../../src/characterize/results.ts';
import { evaluateSchema } from '../../src/evaluate/results.ts';
import { loadSchema } from '../../src/load/results.ts';
import { renderReport } from '../../src/report/page.ts';
import { parseResults, type Results } from '../../src/report/read-results.ts';
import { arbitraryOf } from '../support/arbitrary-schema.ts';
import fc from '../support/properties.ts';
import { UNPRINTABLE } from '../support/text.ts';

/** Longer runs: HOTROW_FUZZ_RUNS=10000. */
const numRuns = Number(process.env.HOTROW_FUZZ_RUNS ?? 60);

/** Few names, so that rows meet their baselines. */
const TEXTS: Readonly<Record<string, readonly string[]>> = {
  implementation: ['hotrow', 'hotrow', 'hotrow', 'PyTorch 2.11.0+cu130', 'FBGEMM'],
  pattern: ['random', 'med_hot', 'one_item'],
  variant: [
    'standard',
    'standard',
    'standard + RPF d6',
    'standard + prefetch d8 L1',
    'fused',
    'embedding_bag',
  ],
  sweep: ['prefetch', 'pinning', 'occupancy', 'threads'],
  limiter: ['DRAM bandwidth', 'memory latency', 'registers'],
  measured: ['emb_l.0', 'emb_l.1'],
  createdAt: ['2026-11-23T08:58:48.044Z', ''],
  key: ['node', 'cuda', 'integer', 'global load', '__proto__', ''],
};
const texts = (member: string) =>
  TEXTS[member] ?? ['x', '', '<b>&"', 'é😀', '0', 'x'.repeat(400), '\x1b[2J\0\n\u202e'];

/** Elements without an end. */
const VOID = new Set(['meta', 'br', 'hr']);

/** What is wrong with a page; undefined: nothing. */
function wrongIn(page: string): string | undefined {
  const number = /\b(NaN|Infinity|undefined|null)\b|\[object /.exec(
    page.replaceAll('font-variant-numeric', ''),
  );
  if (number !== null) return `${number[0]} in …${page.slice(number.index - 200, number.index + 60)}…`;
  if (UNPRINTABLE.test(page)) return 'an unprintable character';
  const open: string[] = [];
  for (const [, close, name = '', self] of page.matchAll(
    /<(\/?)([a-z][a-z0-9]*)(?:"[^"]*"|[^">])*?(\/?)>/gi,
  )) {
    if (close === '/') {
      if (open.pop() !== name) return `</${name}> closes another element`;
    } else if (self !== '/' && !VOID.has(name)) open.push(name);
  }
  if (open.length > 0) return `<${open.at(-1)}> is not closed`;
  const ids = [...page.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id as string);
  const twice = ids.find((id, i) => ids.indexOf(id) !== i);
  if (twice !== undefined) return `id ${twice} stands twice`;
  const bad = ids.find((id) => id === '' || /\s/.test(id));
  if (bad !== undefined) return `id ${JSON.stringify(bad)} has spaces`;
  const links = [...page.matchAll(/ href="#([^"]*)"/g)].map(([, id]) => id as string);
  const dead = links.find((id) => !ids.includes(id));
  if (dead !== undefined) return `a link leads to ${dead}, which is not there`;
  const outside = /(?:width|height|x\d?|y\d?)="-?\d*\.?\d+e[+-]?\d+"/.exec(page);
  return outside === null ? undefined : `a length of ${outside[0]}`;
}

for (const [kind, schema] of [
  ['bench', resultsSchema],
  ['characterize', characterizationSchema],
  ['load', loadSchema],
  ['evaluate', evaluateSchema],
] as const) {
  test(`${kind}: any results`, () => {
    fc.assert(
      fc.property(arbitraryOf(schema, { texts }), (value) => {
        assert.deepEqual([...Value.Errors(schema, value)].slice(0, 1), []);
        const page = renderReport([parseResults(JSON.parse(JSON.stringify(value)))] as Results[]);
        assert.equal(wrongIn(page), undefined);
      }),
      { numRuns, includeErrorInReport: true },
    );
  });
}
