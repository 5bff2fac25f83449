/** What may change between two runs of a kept program: sources, targets, and bags. */
import { refuseOption } from '../../checks/value.ts';
import type { Operation } from '../backend.ts';

const FREE: ReadonlySet<string> = new Set(['source', 'target', 'bags']);

/** @throws UsageError OPTION_INVALID naming the operation and the member that differs from the first run's. */
export function checkSameProgram(first: readonly Operation[], next: readonly Operation[]): void {
  if (first.length !== next.length)
    refuseOption('run: program.length', next.length, `${first.length}, as in the first run`);
  for (const [i, operation] of first.entries())
    compare(operation, next[i] as Operation, `run: program[${i}]`);
}

/** Compares the members of plain objects; all else, buffers and placed tables, must be the same. */
function compare(a: object, b: object, at: string): void {
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    if (FREE.has(key)) continue;
    const [one, other] = [(a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]];
    if (isPlain(one) && isPlain(other)) compare(one, other, `${at}.${key}`);
    else if (one !== other) refuseOption(`${at}.${key}`, other, 'what it was in the first run');
  }
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
