/**
 * Rows of the Criteo display-advertising data as requests: a label, 13 numbers I1–I13, 26 category strings C1–C26.
 * With a header line (Criteo's names, or TorchRec's int_0–int_12 and cat_0–cat_25), or in the original order without
 * one; separated by tabs or commas; gzip too.
 */
import {
  type FilePath,
  listOf,
  membersOf,
  oneOf,
  optional,
  path,
  refuseOption,
  whole,
} from '../checks/value.ts';
import type { Bags } from '../embedding/bag.ts';
import { fromFile, WorkloadError } from '../errors.ts';
import { CRITEO_CATEGORIES, CRITEO_NUMBERS } from '../formats/criteo-columns.ts';
import { expectKind } from '../formats/file-kind.ts';
import { openMaybeGzip } from '../formats/gzip.ts';
import { type ModelInputs, PREPROCESSING, type Preprocessing } from '../model/inputs.ts';
import { samplesRequest } from '../model/request/json-request.ts';
import type { JsonSample } from '../model/request/json-samples.ts';
import { outsideDomain, preprocess } from '../model/request/preprocess.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { type CategoryRows, categoryRows, quote, type Reject, shorten } from './criteo-categories.ts';
import { type CriteoLayout, criteoLayout } from './criteo-layout.ts';
import { GrowingArray, MAX_INDEX } from './index-values.ts';
import { joinRequests } from './join-requests.ts';

export type { CategoryRows } from './criteo-categories.ts';

export interface CriteoOptions {
  /**
   * What the model's numbers are. facebookresearch/dlrm trains on log(1 + max(x, 0)) (dlrm_data_pytorch.py), TorchRec on
   * log(x + 3) (torchrec/datasets/criteo.py, tsv_to_npys: int32 with 0 for what is missing, plus 3, then the logarithm,
   * with nothing clipped).
   */
  readonly preprocessing: Preprocessing;
  /** Read this many rows at most; what follows them is not looked at. */
  readonly limit?: number;
}

export interface CriteoRows {
  readonly request: DlrmRequest;
  /** [B], 0 or 1; undefined when the file has none. */
  readonly labels?: Float32Array;
}

/** Rows that are held in memory at most: 1.5 GB. */
const MAX_ROWS = 1 << 23;

/** Rows that become a request at a time: until then each takes some 7 KB. */
const ROWS_AT_ONCE = 1 << 14;

/** A row as it stands in the file. */
interface CriteoRow {
  /** Undefined when the file has no labels. */
  readonly label: number | undefined;
  /** I1–I13; '' where one is missing. */
  readonly numbers: readonly string[];
  /** C1–C26. */
  readonly categories: readonly string[];
  readonly layout: CriteoLayout;
  /** Of the file, from 1 on. */
  readonly line: number;
  readonly reject: Reject;
}

/** The rows of a file, `limit` at most; `onLayout` is told where fields stand before the first. @throws UsageError FILE_*; WorkloadError CRITEO_INVALID; FormatError FORMAT_UNKNOWN. */
async function* criteoRows(
  file: string,
  limit = Number.POSITIVE_INFINITY,
  onLayout: (layout: CriteoLayout) => void = () => {},
): AsyncGenerator<CriteoRow> {
  await expectKind(file, 'criteo');
  let layout: CriteoLayout | undefined;
  let line = 0;
  let rows = 0;
  const reject: Reject = (column, message, details = {}) => {
    const where = column === '' ? `${file}, line ${line}` : `${file}, line ${line}, column ${column}`;
    throw new WorkloadError('CRITEO_INVALID', `${where}: ${message}`, { file, position: line, ...details });
  };
  for await (const text of lines(file)) {
    line += 1;
    if (text === '') continue;
    if (layout === undefined) {
      layout = criteoLayout(text, reject);
      onLayout(layout);
      if (layout.isHeader) continue;
    }
    if (rows++ >= limit) return;
    if (rows > MAX_ROWS)
      throw new WorkloadError('CRITEO_INVALID', `${file} has more than ${MAX_ROWS} rows`, {
        file,
        position: line,
        hint: 'read a part of it: --limit, or head -n',
      });
    const fields = text.split(layout.separator);
    if (fields.length !== layout.count) reject('', `has ${fields.length} fields, expected ${layout.count}`);
    const { label } = layout;
    yield {
      label: label === undefined ? undefined : parseLabel(fields[label.at] as string, reject),
      numbers: layout.numbers.map(({ at }) => fields[at] as string),
      categories: layout.categories.map(({ at }) => fields[at] as string),
      layout,
      line,
      reject,
    };
  }
  if (layout === undefined) throw new WorkloadError('CRITEO_INVALID', `${file} is empty`, { file });
}

/** Rows are int32. */
const row = whole(0, MAX_INDEX);

const OPTIONS = membersOf<CriteoOptions & EitherRows>({
  preprocessing: oneOf(PREPROCESSING),
  limit: optional(whole()),
  vocabulary: optional(path),
  unknownRow: optional(row),
  tableRows: optional(listOf(whole(1, MAX_INDEX))),
  hexadecimal: optional(oneOf(['unsigned', 'int32'] as const)),
});

/** The members of every kind of CategoryRows. */
interface EitherRows {
  readonly vocabulary?: string;
  readonly unknownRow?: number;
  readonly tableRows?: readonly number[];
  readonly hexadecimal?: 'unsigned' | 'int32';
}

function chosenRows({ vocabulary, unknownRow, tableRows, hexadecimal }: EitherRows): CategoryRows {
  if (vocabulary !== undefined) {
    if (tableRows !== undefined) refuseOption('readCriteo: tableRows', tableRows, 'none beside vocabulary');
    if (hexadecimal !== undefined)
      refuseOption('readCriteo: hexadecimal', hexadecimal, 'none beside vocabulary');
    return { vocabulary, ...(unknownRow === undefined ? {} : { unknownRow }) };
  }
  if (tableRows === undefined)
    return refuseOption('readCriteo: vocabulary', vocabulary, 'a file, or tableRows');
  if (unknownRow !== undefined) refuseOption('readCriteo: unknownRow', unknownRow, 'none beside tableRows');
  return { tableRows, ...(hexadecimal === undefined ? {} : { hexadecimal }) };
}

/**
 * Reads the rows. A missing number counts as 0 before its preprocessing; every category is a bag of one lookup.
 * @throws UsageError FILE_*, OPTION_INVALID; WorkloadError CRITEO_INVALID naming line and column, VOCABULARY_INVALID; FormatError,
 * FORMAT_UNKNOWN naming what the file is instead.
 */
export async function readCriteo(
  given: FilePath,
  options: CategoryRows & CriteoOptions,
): Promise<CriteoRows> {
  const file = path(given, 'readCriteo: file');
  const { limit, preprocessing, ...categories } = OPTIONS(options, 'readCriteo');
  const rowOf = await categoryRows(chosenRows(categories));
  const dense = new GrowingArray((length) => new Float32Array(length));
  const labels = new GrowingArray((length) => new Float32Array(length));
  const lookups = Array.from(
    { length: CRITEO_CATEGORIES },
    () => new GrowingArray((length) => new Int32Array(length)),
  );
  const values = new Float64Array(CRITEO_NUMBERS);
  let labelled = false;
  const rows = criteoRows(file, limit, ({ label }) => {
    labelled = label !== undefined;
  });
  for await (const { label, numbers, categories, layout, reject } of rows) {
    if (label !== undefined) labels.push(label);
    numbers.forEach((text, i) => {
      values[i] = parseNumber(text, layout.numbers[i]?.name ?? '', preprocessing, reject) ?? 0;
    });
    for (const value of preprocess(values, preprocessing)) dense.push(value);
    categories.forEach((text, i) => {
      lookups[i]?.push(rowOf(i, text, layout.categories[i]?.name ?? '', reject));
    });
  }
  const batchSize = dense.length / CRITEO_NUMBERS;
  const bags = lookups.map(
    (indices): Bags => ({
      indices: indices.toArray(),
      offsets: Int32Array.from({ length: batchSize }, (_, b) => b),
    }),
  );
  return {
    request: { batchSize, denseFeatures: CRITEO_NUMBERS, dense: dense.toArray(), bags },
    ...(labelled ? { labels: labels.toArray() } : {}),
  };
}

/**
 * Reads the rows as samples of a model whose inputs say what ids and numbers become: I1–I13 are its numbers, C1–C26 its
 * features, in their order. An empty category is an id where the vocabulary has it, else the feature is missing.
 * @throws as readCriteo; RequestError naming the line, UNKNOWN_ID for one.
 */
export async function readDescribedCriteo(
  file: string,
  inputs: ModelInputs,
  { limit }: Pick<CriteoOptions, 'limit'> = {},
): Promise<CriteoRows> {
  const known = inputs.features.map(
    ({ ids }) => ids.kind === 'vocabulary' && new Set<unknown>(ids.values).has(''),
  );
  const requests: DlrmRequest[] = [];
  let samples: JsonSample[] = [];
  const labels: number[] = [];
  const bind = async () => {
    requests.push(await fromFile(file, () => samplesRequest({ samples }, inputs)));
    samples = [];
  };
  for await (const { label, numbers, categories, layout, line, reject } of criteoRows(file, limit)) {
    if (label !== undefined) labels.push(label);
    const dense = inputs.dense.map(({ name, preprocessing = 'none' }, i) => {
      const value = parseNumber(numbers[i] as string, layout.numbers[i]?.name ?? '', preprocessing, reject);
      return [name, value] as const;
    });
    const features = inputs.features.flatMap(({ name }, i) => {
      const id = categories[i] as string;
      return id === '' && known[i] !== true ? [] : [[name, { ids: [id] }] as const];
    });
    samples.push({
      name: `line ${line}`,
      number: samples.length,
      dense: new Map(dense),
      features: new Map(features),
    });
    if (samples.length === ROWS_AT_ONCE) await bind();
  }
  if (samples.length > 0 || requests.length === 0) await bind();
  return {
    request: joinRequests(requests),
    ...(labels.length > 0 ? { labels: Float32Array.from(labels) } : {}),
  };
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

/** 0 or 1; data frames write them as 0.0 and 1.0. */
function parseLabel(text: string, reject: Reject): number {
  return /^[01](\.0)?$/.test(text)
    ? Number(text)
    : reject('label', `${quote(text)} is neither 0 nor 1`, { value: shorten(text) });
}

/** A number that `preprocessing` takes; null where it is missing. */
function parseNumber(
  text: string,
  column: string,
  preprocessing: Preprocessing,
  reject: Reject,
): number | null {
  if (text === '') return null;
  if (!/^-?\d{1,15}(\.\d*)?(e[+-]?\d{1,2})?$/i.test(text))
    reject(column, `${quote(text)} is not a number`, { value: shorten(text) });
  const value = Number(text);
  if (outsideDomain(value, preprocessing))
    reject(column, `${preprocessing} has no value for ${quote(text)}`, {
      value: shorten(text),
      hint: 'TorchRec would train on an infinity or NaN here: leave the row out, or choose the preprocessing that the model was trained with',
    });
  return value;
}
