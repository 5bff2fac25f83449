/** What the scripts share that put recorded results into docs. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { BenchResults } from '../src/bench/results.ts';
import { benchText } from '../src/cli/bench-text.ts';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The page with `text` between its markers of that name. */
export function fill(page: string, name: string, text: string): string {
  const marked = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- /${name} -->)`);
  if (!marked.test(page)) throw new Error(`the page has no marker ${name}`);
  return page.replace(marked, (_, begin, end) => `${begin}${text}\n${end}`);
}

export const readPage = (path: string) => readFileSync(`${ROOT}/${path}`, 'utf8');
export const recorded = (name: string) => readPage(`bench/results/${name}`);
export const codeBlock = (text: string) => `\`\`\`\n${text.trimEnd()}\n\`\`\``;
export const benchOf = (name: string) => JSON.parse(recorded(name)) as BenchResults;
export const recordedBench = (name: string) => codeBlock(benchText(benchOf(name)));

/** A Markdown table. */
export function markdownTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('\n');
}

export function groupBy<T>(values: readonly T[], key: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const name = key(value);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [value]);
    else group.push(value);
  }
  return groups;
}
