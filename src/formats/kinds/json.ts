/** What a JSON text is, by the keys of its outermost value; it may be cut, or go on with further values. */
import type { Kind } from './table.ts';

/** An object, or a list and not just a word in brackets. */
const BEGINS = /^\s*(\{|\[\s*([[{"\]\d-]|true\b|false\b|null\b|$))/;
const LIST_OF_LISTS = /^\s*\[\s*\[\s*(\]|"|$)/;

/** What the keys of an object mean; the first of which all are there. */
const KEYS: readonly (readonly [Kind, readonly string[]])[] = [
  ['safetensors-index', ['weight_map']],
  ['plan', ['device', 'kernel', 'techniques']],
  ['model-description', ['kind', 'version', 'checkpoint']],
  ['results', ['kind', 'version']],
  ['json-request', ['samples']],
  ['json-request', ['candidates']],
  ['json-request', ['features']],
  ['json-request', ['dense']],
];

/** Whether a text begins as JSON objects and lists do. */
export function beginsAsJson(text: string): boolean {
  return BEGINS.test(text.slice(0, 4096));
}

/** The kind of a text that begins as JSON does. */
export function jsonKind(text: string): Kind {
  const { keys, end } = outermost(text);
  if (/^\s*[[{]/.test(text.slice(end, end + 4096))) return 'json-lines';
  if (LIST_OF_LISTS.test(text.slice(0, 4096))) return 'vocabulary';
  return KEYS.find(([, all]) => all.every((key) => keys.has(key)))?.[0] ?? 'json';
}

/** The keys of the first value, if it is an object, and where it ends. */
function outermost(text: string): { readonly keys: ReadonlySet<string>; readonly end: number } {
  const keys = new Set<string>();
  let depth = 0;
  // The last string of the outermost object: a key when a colon follows it.
  let string = '';
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case '"': {
        const begin = ++i;
        for (; text[i] !== '"' && i < text.length; i++) if (text[i] === '\\') i++;
        if (depth === 1) string = text.slice(begin, i);
        break;
      }
      case ':':
        if (depth === 1) keys.add(string);
        break;
      case '{':
      case '[':
        depth += 1;
        break;
      case '}':
      case ']':
        depth -= 1;
        if (depth === 0) return { keys, end: i + 1 };
        break;
    }
  }
  return { keys, end: text.length };
}
