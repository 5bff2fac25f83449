/** Where the fields of Criteo's rows stand in a file: as its header says, or in the original order. */
import {
  CRITEO_CATEGORIES,
  CRITEO_NUMBERS,
  criteoField,
  isCriteoHeader,
  originalLabel,
  splitCriteoLine,
} from '../formats/criteo-columns.ts';
import { quote, type Reject } from './criteo-categories.ts';

/** A field's place in a line, and its name in errors. */
interface Column {
  readonly name: string;
  readonly at: number;
}

export interface CriteoLayout {
  readonly separator: string;
  readonly label: Column | undefined;
  /** I1–I13. */
  readonly numbers: readonly Column[];
  /** C1–C26. */
  readonly categories: readonly Column[];
  /** Fields of a line. */
  readonly count: number;
  /** The line that says so is no row. */
  readonly isHeader: boolean;
}

const NAMES = 'columns are label, I1–I13 and C1–C26, or label, int_0–int_12 and cat_0–cat_25, in any order';

/** The layout that a file's first line tells. `reject` names the line. */
export function criteoLayout(text: string, reject: Reject): CriteoLayout {
  const { separator, fields } = splitCriteoLine(text);
  return isCriteoHeader(fields)
    ? headerLayout(separator, fields, reject)
    : originalLayout(separator, fields, reject);
}

function headerLayout(separator: string, fields: readonly string[], reject: Reject): CriteoLayout {
  const numbers: Column[] = [];
  const categories: Column[] = [];
  let label: Column | undefined;
  for (const [at, text] of fields.entries()) {
    const name = text.trim();
    const field =
      criteoField(name) ??
      reject('', `the header names a column ${quote(name)}`, { hint: `${NAMES}; leave out others` });
    const places = { label: label === undefined ? [] : [label], number: numbers, category: categories }[
      field.part
    ];
    const before = places[field.index];
    if (before !== undefined)
      reject('', `the header has ${quote(before.name)} and ${quote(name)}, which are the same column`, {
        hint: NAMES,
      });
    if (field.part === 'label') label = { name, at };
    else places[field.index] = { name, at };
  }
  const check = (columns: readonly Column[], count: number, names: string) => {
    for (let i = 0; i < count; i++)
      if (columns[i] === undefined) reject('', `the header lacks ${names}${i + 1}`, { hint: NAMES });
  };
  check(numbers, CRITEO_NUMBERS, 'I');
  check(categories, CRITEO_CATEGORIES, 'C');
  return { separator, label, numbers, categories, count: fields.length, isHeader: true };
}

/** 13 numbers and 26 categories in order, after a label or (the test set) without one. */
function originalLayout(separator: string, fields: readonly string[], reject: Reject): CriteoLayout {
  const label = originalLabel(fields);
  const hint = `Criteo rows have a label, 13 numbers and 26 categories; ${NAMES}`;
  if (label === false) reject('', `has ${fields.length} fields and is no header`, { hint });
  // Data frames without names write numbers: as a row, they would be scored.
  if (fields.every((field, i) => field.trim() === String(i)))
    reject('', 'numbers the columns, and does not name them', {
      hint: `write the rows without a header; ${NAMES}`,
    });
  const first = label === undefined ? 0 : 1;
  const column = (name: string, at: number): Column => ({ name, at });
  return {
    separator,
    label: label === undefined ? undefined : column('label', 0),
    numbers: Array.from({ length: CRITEO_NUMBERS }, (_, i) => column(`I${i + 1}`, first + i)),
    categories: Array.from({ length: CRITEO_CATEGORIES }, (_, i) =>
      column(`C${i + 1}`, first + CRITEO_NUMBERS + i),
    ),
    count: fields.length,
    isHeader: false,
  };
}
