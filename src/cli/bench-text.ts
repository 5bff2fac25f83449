/** Benchmark results as the terminal shows them, and as the docs quote them. */
import { benchFacts } from '../bench/facts.ts';
import { benchTables, type RenderedTable } from '../bench/render.ts';
import type { BenchResults } from '../bench/results.ts';
import { printable } from '../text.ts';
import { emphasise, NOTE_CHARACTERS, renderTable } from './print.ts';

/** `reason`: why this device was chosen. */
export function benchText(results: BenchResults, reason?: string): string {
  const head = benchFacts(results).map(([name, text]) => `${name.padEnd(10)}${printable(text)}`);
  if (reason !== undefined) head.splice(1, 0, `          (${printable(reason)})`);
  const tables = benchTables(results).flatMap((table) => ['', tableText(table)]);
  const remarks = results.notes.map((note) => `note: ${printable(note, NOTE_CHARACTERS)}`);
  return [...head, ...tables, ...(remarks.length > 0 ? ['', ...remarks] : [])].join('\n');
}

/** A table under its title. */
export function tableText({ title, columns, rows }: RenderedTable): string {
  return `${emphasise(title)}\n${renderTable(columns, rows)}`;
}
