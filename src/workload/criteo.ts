/**
 * Rows of the Criteo display-advertising data as requests: a label, 13 numbers I1–I13, 26 category strings C1–C26.
 * CSV with a header line, or the original TSV without one; gzip too.
 */
import { readFile } from 'node:fs/promises';
import type { Bags } from '../embedding/bag.ts';
import { type ErrorDetails, fileError, UsageError, WorkloadError } from '../errors.ts';
import { openMaybeGzip } from '../formats/gzip.ts';
import type { DlrmRequest } from '../model/request.ts';
import { GrowingArray } from './index-values.ts';

const NUMBERS = 13;
const CATEGORIES = 26;

/** How category strings become rows. */
export type CategoryRows =
  /** A JSON file: per field, the strings in row order. An unknown string is an error, or row `unknownRow` if given. */
  | { readonly vocabulary: string; readonly unknownRow?: number }
  /** The string read as a hexadecimal number, modulo the table's rows, as facebookresearch/dlrm does it; missing → 0. */
  | { readonly tableRows: readonly number[] };

export interface CriteoOptions {
  /** Read this many rows at most; what follows them is not looked at. */
  readonly limit?: number;
}

export interface CriteoRows {
  readonly request: DlrmRequest;
  /** [B], 0 or 1; undefined when the file has none. */
  readonly labels?: Float32Array;
}

/** Where a row's fields stand. */
interface Columns {
  readonly separator: string;
  readonly label: number | undefined;
  readonly numbers: readonly number[];
  readonly categories: readonly number[];
  readonly count: number;
}

/**
 * Reads the rows. Dense features are log(1 + max(x, 0)), missing ones 0; every category is a bag of one lookup.
 * @throws UsageError FILE_*; WorkloadError CRITEO_INVALID naming line and column, VOCABULARY_INVALID; FormatError.
 */
export async function readCriteo(file: string, options: CategoryRows & CriteoOptions): Promise<CriteoRows> {
  const { limit = Number.POSITIVE_INFINITY } = options;
  if (!(limit >= 0)) throw new UsageError('USAGE', `cannot read ${limit} rows`, { value: limit });
  const rowOf =
    'vocabulary' in options
      ? await vocabularyRows(options.vocabulary, options.unknownRow)
      : hashedRows(options.tableRows);
  const dense = new GrowingArray((length) => new Float32Array(length));
  const labels = new GrowingArray((length) => new Float32Array(length));
  const lookups = Array.from(
    { length: CATEGORIES },
    () => new GrowingArray((length) => new Int32Array(length)),
  );
  let columns: Columns | undefined;
  let line = 0;
  for await (const text of lines(file)) {
    line += 1;
    if (text === '') continue;
    if (columns === undefined) {
      const header = headerColumns(file, text);
      columns = header ?? originalColumns(file, text);
      if (header !== undefined) continue;
    }
    if (dense.length >= limit * NUMBERS) break;
    const fields = text.split(columns.separator);
    const reject: Reject = (column, message, details) => invalid(file, line, column, message, details);
    if (fields.length !== columns.count) reject('', `has ${fields.length} fields, expected ${columns.count}`);
    if (columns.label !== undefined) labels.push(parseLabel(fields[columns.label] as string, reject));
    columns.numbers.forEach((at, i) => {
      dense.push(parseNumber(fields[at] as string, `I${i + 1}`, reject));
    });
    columns.categories.forEach((at, i) => {
      lookups[i]?.push(rowOf(i, fields[at] as string, reject));
    });
  }
  if (columns === undefined) throw new WorkloadError('CRITEO_INVALID', `${file} is empty`, { file });
  const batchSize = dense.length / NUMBERS;
  const bags = lookups.map(
    (indices): Bags => ({
      indices: indices.toArray(),
      offsets: Int32Array.from({ length: batchSize }, (_, b) => b),
    }),
  );
  return {
    request: { batchSize, denseFeatures: NUMBERS, dense: dense.toArray(), bags },
    ...(columns.label === undefined ? {} : { labels: labels.toArray() }),
  };
}

type Reject = (column: string, message: string, details?: Pick<ErrorDetails, 'hint' | 'value'>) => never;

function invalid(
  file: string,
  line: number,
  column: string,
  message: string,
  details: Pick<ErrorDetails, 'hint' | 'value'> = {},
): never {
  const where = column === '' ? `${file}, line ${line}` : `${file}, line ${line}, column ${column}`;
  throw new WorkloadError('CRITEO_INVALID', `${where}: ${message}`, {
    file,
    position: line,
    ...details,
  });
}

/** A file's lines without their ends. */
async function* lines(file: string): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of openMaybeGzip(file)) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = parts.pop() as string;
    // No real row comes near: a file without line ends must not be gathered in memory.
    if (rest.length > MAX_LINE)
      throw new WorkloadError('CRITEO_INVALID', `${file}: a line is longer than ${MAX_LINE} characters`, {
        file,
      });
    for (const part of parts) yield part.endsWith('\r') ? part.slice(0, -1) : part;
  }
  if (rest !== '') yield rest;
}

const MAX_LINE = 1 << 20;

/** The columns that a header line names; undefined: the line is data. */
function headerColumns(file: string, text: string): Columns | undefined {
  const separator = text.includes('\t') ? '\t' : ',';
  const names = text.split(separator);
  if (!names.some((name) => /^[IC]\d+$/.test(name))) return undefined;
  const column = (name: string) => {
    const at = names.indexOf(name);
    return at < 0
      ? invalid(file, 1, name, 'the header lacks it', { hint: 'a header names label, I1–I13 and C1–C26' })
      : at;
  };
  const label = names.indexOf('label');
  return {
    separator,
    label: label < 0 ? undefined : label,
    numbers: Array.from({ length: NUMBERS }, (_, i) => column(`I${i + 1}`)),
    categories: Array.from({ length: CATEGORIES }, (_, i) => column(`C${i + 1}`)),
    count: names.length,
  };
}

/** The original layout: 13 numbers and 26 categories in order, after a label or (the test set) without one. */
function originalColumns(file: string, text: string): Columns {
  const separator = text.includes('\t') ? '\t' : ',';
  const count = text.split(separator).length;
  const first = count - NUMBERS - CATEGORIES;
  if (first !== 0 && first !== 1) {
    invalid(file, 1, '', `has ${count} fields and is no header`, {
      hint: 'Criteo rows have a label, 13 numbers and 26 categories',
    });
  }
  return {
    separator,
    label: first === 1 ? 0 : undefined,
    numbers: Array.from({ length: NUMBERS }, (_, i) => first + i),
    categories: Array.from({ length: CATEGORIES }, (_, i) => first + NUMBERS + i),
    count,
  };
}

/** 0 or 1; data frames write them as 0.0 and 1.0. */
function parseLabel(text: string, reject: Reject): number {
  return /^[01](\.0)?$/.test(text)
    ? Number(text)
    : reject('label', `${quote(text)} is neither 0 nor 1`, { value: shorten(text) });
}

function parseNumber(text: string, column: string, reject: Reject): number {
  if (text === '') return 0;
  if (!/^-?\d{1,15}(\.\d*)?(e[+-]?\d{1,2})?$/i.test(text))
    reject(column, `${quote(text)} is not a number`, { value: shorten(text) });
  return Math.log(1 + Math.max(Number(text), 0));
}

/** A value as an error gives it: a hostile file must not fill the screen. */
const shorten = (text: string) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
const quote = (text: string) => JSON.stringify(shorten(text));

type RowOf = (field: number, category: string, reject: Reject) => number;

async function vocabularyRows(file: string, unknownRow: number | undefined): Promise<RowOf> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw fileError(file, cause);
  });
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (cause) {
    throw new WorkloadError('VOCABULARY_INVALID', `${file} is not JSON: ${(cause as Error).message}`, {
      file,
      cause,
    });
  }
  const isVocabulary =
    Array.isArray(fields) &&
    fields.every((field) => Array.isArray(field) && field.every((word) => typeof word === 'string'));
  if (!isVocabulary || (fields as string[][]).length !== CATEGORIES) {
    throw new WorkloadError('VOCABULARY_INVALID', `${file} is not a list of ${CATEGORIES} lists of strings`, {
      file,
      hint: 'a vocabulary lists, per field C1–C26, the category strings in row order',
    });
  }
  const rows = (fields as string[][]).map((words) => new Map(words.map((word, row) => [word, row])));
  rows.forEach((places, field) => {
    const words = (fields as string[][])[field] as string[];
    if (places.size === words.length) return;
    const twice = words.find((word, row) => places.get(word) !== row) as string;
    throw new WorkloadError('VOCABULARY_INVALID', `${file}: C${field + 1} lists ${quote(twice)} twice`, {
      file,
      value: shorten(twice),
    });
  });
  return (field, category, reject) =>
    rows[field]?.get(category) ??
    unknownRow ??
    reject(`C${field + 1}`, `category ${quote(category)} is not in the vocabulary`, {
      value: shorten(category),
      hint: `add it to ${file}, or use the vocabulary that the model was trained with`,
    });
}

function hashedRows(tableRows: readonly number[]): RowOf {
  if (tableRows.length !== CATEGORIES) {
    throw new WorkloadError(
      'CRITEO_INVALID',
      `Criteo rows have ${CATEGORIES} categories, the model has ${tableRows.length} tables`,
    );
  }
  return (field, category, reject) => {
    if (category === '') return 0;
    if (!/^[0-9a-fA-F]{1,12}$/.test(category))
      reject(`C${field + 1}`, `category ${quote(category)} is not hexadecimal`, {
        value: shorten(category),
        hint: 'categories are hashed as hexadecimal numbers; other strings need a vocabulary',
      });
    return Number.parseInt(category, 16) % (tableRows[field] as number);
  };
}
