/** docs/paper.md with what the recorded run by the paper's protocol says; without one, that there is none. */
import { existsSync } from 'node:fs';
import { claimsTable, combinationsTable, kernelTable, modelTables } from '../src/bench/render.ts';
import type { BenchResults } from '../src/bench/results.ts';
import { tableText } from '../src/cli/bench-text.ts';
import { benchFindings } from '../src/report/bench-findings.ts';
import { benchOf, codeBlock, fill, ROOT, readPage } from './recorded.ts';

const RECORDED = 'h200-artifact.json';
const NONE = 'No run has been recorded yet.';

type Tables = (results: BenchResults) => (ReturnType<typeof claimsTable> | undefined)[];

/** The page's parts, by the names of their markers. */
const TABLES: Readonly<Record<string, Tables>> = {
  claims: (results) => [claimsTable(results)],
  techniques: (results) => [combinationsTable(results), kernelTable(results)],
  model: (results) => modelTables(results),
};

/** Of the report's rules, those that a page about the claims is about. */
const RULES = ['paper-claims', 'hotness-costs', 'register-cap', 'pinning-pays'];

function findings(results: BenchResults): string {
  const said = benchFindings(results).filter(({ rule }) => RULES.includes(rule));
  return said.map(({ text }) => `- ${text}`).join('\n');
}

/** docs/paper.md of the recorded run, if there is one. */
export function paperPage(): string {
  return paperPageOf(existsSync(`${ROOT}/bench/results/${RECORDED}`) ? benchOf(RECORDED) : undefined);
}

/** The page of a run; undefined: there is none. */
export function paperPageOf(results: BenchResults | undefined): string {
  const text = (tables: Tables) => {
    if (results === undefined) return NONE;
    const own = tables(results).filter((table) => table !== undefined);
    return own.length === 0 ? NONE : codeBlock(own.map(tableText).join('\n\n'));
  };
  const parts: [string, string][] = [
    ...Object.entries(TABLES).map(([name, tables]): [string, string] => [name, text(tables)]),
    ['findings', (results && findings(results)) || NONE],
  ];
  return parts.reduce((page, [name, own]) => fill(page, name, own), readPage('docs/paper.md'));
}
