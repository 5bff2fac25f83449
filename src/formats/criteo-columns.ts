/** How Criteo's display-advertising data are laid out in text: a label, 13 numbers and 26 categories per line. */

export const CRITEO_NUMBERS = 13;
export const CRITEO_CATEGORIES = 26;

/** What a column holds; `index` counts from 0. */
export interface CriteoField {
  readonly part: 'label' | 'number' | 'category';
  readonly index: number;
}

/** Whose names: Criteo's and Kaggle's `I1`, `C1`; TorchRec's `int_0`, `cat_0`. */
const NAMES = [
  { pattern: /^i([1-9]\d?)$/, part: 'number', first: 1, count: CRITEO_NUMBERS },
  { pattern: /^c([1-9]\d?)$/, part: 'category', first: 1, count: CRITEO_CATEGORIES },
  { pattern: /^int_(0|[1-9]\d?)$/, part: 'number', first: 0, count: CRITEO_NUMBERS },
  { pattern: /^cat_(0|[1-9]\d?)$/, part: 'category', first: 0, count: CRITEO_CATEGORIES },
] as const;

/** The field that a column's name means, in any case of letters; undefined: none. */
export function criteoField(name: string): CriteoField | undefined {
  const known = name.trim().toLowerCase();
  if (known === 'label') return { part: 'label', index: 0 };
  for (const { pattern, part, first, count } of NAMES) {
    const index = Number(pattern.exec(known)?.[1] ?? Number.NaN) - first;
    if (index >= 0 && index < count) return { part, index };
  }
  return undefined;
}

/** The fields of a line: tabs separate them where it has one, else commas. */
export function splitCriteoLine(text: string): { readonly separator: string; readonly fields: string[] } {
  const separator = text.includes('\t') ? '\t' : ',';
  return { separator, fields: text.split(separator) };
}

/**
 * Whether a line names columns. Numbers are never called `I1`, categories may be called `c1`: two names of numbers, or
 * names in most columns, make a header.
 */
export function isCriteoHeader(fields: readonly string[]): boolean {
  const known = fields.flatMap((name) => criteoField(name) ?? []);
  const numbers = known.filter(({ part }) => part === 'number').length;
  return numbers >= 2 || (known.length >= 2 && known.length > fields.length / 2);
}

/** Where the label would stand in a line without a header: 0, or undefined in the test set; false: not such a line. */
export function originalLabel(fields: readonly string[]): 0 | undefined | false {
  const without = CRITEO_NUMBERS + CRITEO_CATEGORIES;
  if (fields.length === without) return undefined;
  return fields.length === without + 1 ? 0 : false;
}
