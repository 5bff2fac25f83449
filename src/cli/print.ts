/** What the commands print: tables and lines on stdout, progress and errors on stderr. */
import { styleText } from 'node:util';
import Table from 'cli-table3';
import { HotrowError } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import { printable, printableJson, printableLines } from '../text.ts';
import { MACHINE_CLOCK, ProgressLine } from './progress-line.ts';

export { formatBytes } from '../numbers.ts';

export type Format = 'table' | 'json';

/** Characters of a cell of a table. */
const CELL_CHARACTERS = 250;
/** Of a note, which may name several things. */
export const NOTE_CHARACTERS = 2000;
/** Of any other line. */
export const LINE_CHARACTERS = 4000;
/** Of a stack, whose end says where it was. */
const STACK_CHARACTERS = 20_000;

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
    head: columns.map(({ title }) => emphasise(printable(title, CELL_CHARACTERS))),
    colAligns: columns.map(({ left }) => (left ? 'left' : 'right')),
    chars: { ...none, 'mid-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) table.push(row.map((cell) => printable(cell, CELL_CHARACTERS)));
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

/** What `emphasise` makes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const EMPHASIS = /(\x1b\[1m|\x1b\[22m)/;

/** Prints lines. Names of files and of what they hold must be `printable` in them, or an end of a line in one ends this one. */
export function printLine(text = ''): void {
  const parts = process.stdout.isTTY ? text.split(EMPHASIS) : [text];
  const shown = parts.map((part) => (EMPHASIS.test(part) ? part : printableLines(part, LINE_CHARACTERS)));
  process.stdout.write(`${shown.join('')}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${printableJson(value)}\n`);
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
  process.stderr.write(`${printable(text, LINE_CHARACTERS)}\n`);
}

/** `error[CODE]: what, where`, a hint, and with `verbose` the stack. */
export function printError(error: unknown, verbose: boolean): void {
  progress('');
  const known = error instanceof HotrowError;
  const text = error instanceof Error ? error.message : String(error);
  // Messages of our own may end in a log; others are by whoever, about whatever.
  const message = known ? printableLines(text, LINE_CHARACTERS) : printable(text, LINE_CHARACTERS);
  const label = `error[${known ? error.code : 'INTERNAL'}]`;
  process.stderr.write(`${process.stderr.isTTY ? styleText('red', label) : label}: ${message}\n`);
  if (known) notice(`hint: ${error.hint}`);
  if (!known && !verbose) notice('hint: this is a defect in Hotrow; run again with --verbose and report it');
  if (!verbose || !(error instanceof Error)) return;
  const stack = (error.stack ?? '').slice(-STACK_CHARACTERS);
  process.stderr.write(`${printableLines(stack, LINE_CHARACTERS)}\n`);
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
