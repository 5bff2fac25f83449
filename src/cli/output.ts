/** What the commands print: tables and lines on stdout, progress and errors on stderr. */
import { styleText } from 'node:util';
import Table from 'cli-table3';
import { HotrowError } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import { MACHINE_CLOCK, ProgressLine } from './progress-line.ts';

export { formatBytes } from '../numbers.ts';

export type Format = 'table' | 'json';

/** A column: right-aligned unless `left`. */
export interface Column {
  readonly title: string;
  readonly left?: boolean;
}

/** Rows under headings, without borders: reads well in 80 columns and when piped. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const none = Object.fromEntries(
    ['top', 'bottom', 'left', 'right', 'mid'].flatMap((side) =>
      ['', '-mid', '-left', '-right'].map((part) => [`${side}${part}`, '']),
    ),
  );
  const table = new Table({
    head: columns.map(({ title }) => emphasise(title)),
    colAligns: columns.map(({ left }) => (left ? 'left' : 'right')),
    chars: { ...none, 'mid-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  table.push(...rows.map((row) => [...row]));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .join('\n');
}

/** Bold on a terminal, plain when piped. */
export function emphasise(text: string): string {
  return process.stdout.isTTY ? styleText('bold', text) : text;
}

export function printLine(text = ''): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const line = new ProgressLine(process.stderr, MACHINE_CLOCK);

/** Tells what is under way; an empty text: nothing any more. Stdout stays as it is. */
export const progress: OnProgress = (what, n, of) => {
  if (what === '') line.end();
  else line.report(what, n, of);
};

/** A line that the user should see whatever stdout is used for. */
export function notice(text: string): void {
  line.erase();
  process.stderr.write(`${text}\n`);
}

/** `error[CODE]: what, where`, a hint, and with `verbose` the stack. */
export function printError(error: unknown, verbose: boolean): void {
  progress('');
  const known = error instanceof HotrowError;
  const code = known ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  const label = `error[${code}]`;
  process.stderr.write(`${process.stderr.isTTY ? styleText('red', label) : label}: ${message}\n`);
  if (known) process.stderr.write(`hint: ${error.hint}\n`);
  if (!known && !verbose)
    process.stderr.write('hint: this is a defect in Hotrow; run again with --verbose and report it\n');
  if (verbose && error instanceof Error) process.stderr.write(`${error.stack}\n`);
}

/** 1234567 → `1,234,567`. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** Three significant digits: 0.0123, 1.23, 12.3, 123. */
export function formatMs(ms: number): string {
  if (ms >= 100) return ms.toFixed(0);
  if (ms >= 10) return ms.toFixed(1);
  if (ms >= 1) return ms.toFixed(2);
  return ms.toFixed(3);
}

export function formatPercent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}
