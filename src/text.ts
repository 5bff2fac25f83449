/**
 * Text that files bring, as people may be shown it: names of tensors, keys, ids, values. It may hold what steers a terminal,
 * breaks a line in two, or turns its direction; and it may be of any length.
 */

/** Characters of a name or a value that are shown. */
const USUAL_CHARACTERS = 200;

/** Control characters, halves of characters, ends of lines, marks of direction, and tags, which are never seen. */
const UNPRINTABLE =
  /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/**
 * One line that is safe to show: what is unprintable is escaped as in JavaScript (`\n`, `\x1b`, `\u202e`), and of more than
 * `most` UTF-16 units the middle is left out, with the number of those. Printable text stays as it is.
 */
export function printable(text: string, most = USUAL_CHARACTERS): string {
  return escaped(shortened(text, most));
}

/** As `printable`, of text in several lines: `most` is for each line. */
export function printableLines(text: string, most: number): string {
  return text
    .split(/\r?\n/)
    .map((line) => printable(line, most))
    .join('\n');
}

/** Escapes what is unprintable. */
function escaped(text: string): string {
  return text.replace(UNPRINTABLE, escapeOf);
}

/** JSON in which nothing is unprintable; it means the same. */
export function printableJson(value: unknown): string {
  // Outside of strings JSON has printable characters only.
  return JSON.stringify(value).replace(UNPRINTABLE, (character) =>
    [...Array(character.length).keys()].map((i) => unicode(character.charCodeAt(i))).join(''),
  );
}

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escapeOf(character: string): string {
  const code = character.codePointAt(0) as number;
  if (code > 0xffff) return `\\u{${code.toString(16)}}`;
  return SHORT[character] ?? (code > 0xff ? unicode(code) : `\\x${code.toString(16).padStart(2, '0')}`);
}

function unicode(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}

/** Begin and end of a long text. No character is cut in two. */
function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const begin = text.slice(0, Math.ceil(most * 0.7)).replace(/[\ud800-\udbff]$/, '');
  const end = text.slice(text.length - Math.floor(most * 0.3)).replace(/^[\udc00-\udfff]/, '');
  return `${begin}…(${text.length - begin.length - end.length} characters left out)…${end}`;
}
