/** What a text that is not JSON is: Criteo rows, a trace, a page. */
import { isCriteoHeader, originalLabel, splitCriteoLine } from '../criteo-columns.ts';
import type { Kind } from './table.ts';

/** Text holds line ends and tabs, and no other control characters. */
const CONTROL = /[^\P{Cc}\t\n\v\f\r\x80-\x9f]/u;

/** The bytes as text, in UTF-8 (the last character may be cut) or of one byte a character; undefined: they are none. */
export function asText(bytes: Uint8Array): string | undefined {
  const text = asUtf8(bytes) ?? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  return CONTROL.test(text) ? undefined : text;
}

function asUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return undefined;
  }
}

/** Bytes at the beginning of a text trace: its first line that is not blank holds digits. */
export function beginsAsTrace(head: Uint8Array): boolean {
  return /^[\r\n]*\d{1,19}\r?\n/.test(
    Buffer.from(head.buffer, head.byteOffset, head.length).toString('latin1', 0, 4096),
  );
}

/** What each kind begins with; the first that fits. */
const BEGINNINGS: readonly (readonly [Kind, RegExp])[] = [
  ['html', /^\s*<(!doctype html|html|head|body)\b/i],
  ['xml', /^\s*<\?xml\b/],
  ['pickle-text', /^(\((dp|lp)\d+\n|c[\w.]+\n\w+\n)/],
];

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Tells the kind of a text that does not begin as JSON does. */
export function textKind(text: string): Kind {
  if (text.trim() === '') return 'empty';
  const begins = BEGINNINGS.find(([, pattern]) => pattern.test(text));
  if (begins !== undefined) return begins[0];
  const [line = ''] = text.trimStart().split('\n', 1);
  const first = line.trim();
  if (/^\d+$/.test(first)) return 'trace';
  if (NUMBER.test(first)) return 'numbers';
  // Not trimmed: a row may begin with an empty field.
  const [row = '', next = row] = text.split(/\r?\n/).filter((candidate) => candidate !== '');
  const { separator, fields } = splitCriteoLine(row);
  if (isCriteoHeader(fields) || originalLabel(fields) !== false) return 'criteo';
  return fields.length > 1 && next.split(separator).length === fields.length ? 'table' : 'text';
}
