/**
 * Tables whose rows FBGEMM, TorchRec or PyTorch quantised, as tables of Hotrow's rows. Names and shapes say most; where a
 * packed row's scale stands, its bytes do.
 */
import { at } from '../../at.ts';
import { ModelError } from '../../errors.ts';
import { readBytes } from '../../stored-tensor.ts';
import type { StoredTensor } from '../../tensor.ts';
import { inconsistent, type TablePart } from './checkpoint-parts.ts';
import {
  evidenceFor,
  type KnownRows,
  type LayoutEvidence,
  type PackedFormat,
  type PackedLayout,
  packedBytes,
  packedLayouts,
  ROW_HEADERS,
  type RowHeader,
  type SampledRows,
} from './packed-rows.ts';
import { float8Rows, joinedRows, numbersOf, repackedRows } from './repacked-rows.ts';
import { some } from './state-dict.ts';

/** What is known of the tables. */
export interface KnownTables {
  /** By a table's name: what a description says of its rows. */
  readonly described: ReadonlyMap<string, KnownRows>;
  /** What dims are where nothing says it and the shapes allow it: a DLRM's bottom MLP's outputs. */
  readonly usualDim: number | undefined;
}

const DESCRIBE =
  'say the table\'s "dim" and "rowFormat" in a model description, or quantise the original with `hotrow quantize` (docs/file-formats.md)';

function unsupported(part: TablePart, message: string, hint = DESCRIBE): ModelError {
  return new ModelError('CHECKPOINT_UNSUPPORTED', `table ${part.name}: ${message}`, {
    tensor: part.parameter,
    hint,
  });
}

/**
 * The tables with Hotrow's rows, annotated with format and dim; float tables, and those that are annotated, as they are.
 * Notes say, for people, what was found. Reads at most 256 rows of a table.
 * @throws ModelError CHECKPOINT_UNSUPPORTED for rows that fit no known layout, or several; CHECKPOINT_INCONSISTENT for
 * scales and biases that do not fit their rows; as readBytes.
 */
export async function quantizedTables(
  parts: readonly TablePart[],
  known: KnownTables,
): Promise<{ readonly tables: TablePart[]; readonly notes: string[] }> {
  const notes = new Notes();
  const rowsOf = new Map<StoredTensor, StoredTensor>();
  const packed: TablePart[] = [];
  for (const part of parts) {
    const { weight, scale, bias } = part;
    if (weight.annotation !== undefined || rowsOf.has(weight)) continue;
    if (scale !== undefined || bias !== undefined) rowsOf.set(weight, joined(part, known, notes));
    else if (weight.dtype === 'uint8') packed.push(part);
    else if (weight.dtype === 'float8_e4m3') rowsOf.set(weight, float8Rows(part.name, matrix(part)));
    else refuseRows(part);
  }
  for (const [part, layout] of await packedTables(packed, known, notes))
    rowsOf.set(part.weight, repackedRows(part.name, part.weight, layout));
  const tables = parts.map((part) => {
    const rows = rowsOf.get(part.weight);
    if (rows === undefined) return part;
    const { scale: _, bias: __, ...rest } = part;
    return { ...rest, weight: rows };
  });
  return { tables, notes: notes.lines() };
}

/** What was found, for people: tables of one kind together. */
class Notes {
  readonly #tables = new Map<string, string[]>();

  add(table: string, { format, dim }: Pick<PackedLayout, 'format' | 'dim'>, what: string): void {
    const text = `${format} rows of ${dim} elements, ${what}`;
    this.#tables.set(text, [...(this.#tables.get(text) ?? []), table]);
  }

  lines(): string[] {
    return [...this.#tables].map(([text, tables]) => `quantised tables ${some(tables)}: ${text}`);
  }
}

/** Refuses what says by its dtype that it is quantised, and cannot be read. */
function refuseRows(part: TablePart): void {
  if (part.weight.dtype === 'float8_e5m2') {
    throw unsupported(
      part,
      'its rows are float8_e5m2, which is not supported: float8 rows are float8_e4m3',
      'convert the original with `hotrow quantize --rows float8_e4m3`',
    );
  }
  if (part.weight.dtype === 'int8') {
    throw unsupported(
      part,
      `its rows are int8, and nothing says by which scale: ${part.parameter}_qscale is missing`,
      'save the scale of each row under that name, or quantise the original with `hotrow quantize`',
    );
  }
}

function matrix({ name, parameter, weight }: TablePart): StoredTensor {
  const [rows, width] = weight.shape;
  if (weight.shape.length === 2 && rows && width) return weight;
  throw inconsistent(`table ${name} has shape [${weight.shape}], not [rows, bytes of a row]`, parameter);
}

/** A table whose scales and biases stand apart. */
function joined(part: TablePart, { described, usualDim }: KnownTables, notes: Notes): StoredTensor {
  const { name, parameter, scale, bias } = part;
  const weight = matrix(part);
  const [rows, width] = weight.shape as [number, number];
  if (weight.dtype !== 'uint8' && weight.dtype !== 'int8')
    throw inconsistent(`table ${name} has scales or biases apart, and ${weight.dtype} rows`, parameter);
  if (scale === undefined)
    throw inconsistent(`${parameter}_qscale is missing, ${parameter}_qbias is there`, parameter);
  if (bias === undefined && weight.dtype === 'uint8')
    throw inconsistent(`${parameter}_qbias is missing, ${parameter}_qscale is there`, parameter);
  const row = splitRow(part, width, described.get(name) ?? {}, usualDim);
  const scales = rowNumbers(scale, rows, `${parameter}_qscale`);
  const biases = bias === undefined ? undefined : rowNumbers(bias, rows, `${parameter}_qbias`);
  const exact = scales.dtype === 'float16' && (biases?.dtype ?? 'float16') === 'float16';
  notes.add(name, row, `scales and biases apart${exact ? '' : ROUNDED}`);
  const numbers = {
    scale: numbersOf(scales, rows),
    bias: biases === undefined ? undefined : numbersOf(biases, rows),
  };
  return joinedRows(name, weight, numbers, row, biases === undefined ? [scales] : [scales, biases]);
}

const ROUNDED = '; these become float16, which moves an element by at most about half a level of its row';

/** Format and dim of rows whose elements take `width` bytes; where nothing is known, int8. */
function splitRow(
  part: TablePart,
  width: number,
  { dim, rowFormat }: KnownRows,
  usualDim: number | undefined,
): { readonly format: PackedFormat; readonly dim: number } {
  const formats = part.weight.dtype === 'int8' ? (['int8'] as const) : (['int8', 'int4'] as const);
  const fits = (own: number) =>
    formats.find((format) => (rowFormat ?? format) === format && packedBytes(format, own) === width);
  const of = dim ?? usualDim;
  const format = of === undefined ? undefined : fits(of);
  if (of !== undefined && format !== undefined) return { format, dim: of };
  if (dim !== undefined) {
    const wanted = rowFormat === undefined ? '' : ` ${rowFormat}`;
    throw inconsistent(
      `table ${part.name} has ${width} bytes of elements a row, which are not ${dim}${wanted} elements`,
      part.parameter,
    );
  }
  return rowFormat === 'int4' ? { format: 'int4', dim: 2 * width } : { format: 'int8', dim: width };
}

/** Scales or biases, one for each row or one for all; pairs of bytes are float16. */
function rowNumbers(tensor: StoredTensor, rows: number, name: string): StoredTensor {
  const { dtype, shape } = tensor;
  const [first, second = 1, ...more] = shape;
  const halves = dtype === 'uint8' && second === 2 && more.length === 0;
  const asNumbers: StoredTensor = halves ? { ...tensor, dtype: 'float16', shape: [first ?? 1] } : tensor;
  const perRow = first === rows && (second === 1 || halves) && more.length === 0;
  const forAll = shape.every((extent) => extent === 1);
  if (!(perRow || forAll) || !/^b?float(16|32|64)$/.test(asNumbers.dtype))
    throw inconsistent(
      `${name} is ${dtype} [${shape}], not one floating-point number for each of ${rows} rows`,
      name,
    );
  return asNumbers;
}

/** A table with its sampled rows, and the layouts that they allow under each header. */
interface PackedTable {
  readonly part: TablePart;
  readonly candidates: ReadonlyMap<RowHeader, readonly Candidate[]>;
}

interface Candidate extends LayoutEvidence {
  readonly layout: PackedLayout;
}

/** Layouts that leave a smaller share of the rows at full range are not believed by that alone. */
const MOST = 0.9;

/** The layout of each table of packed rows. All tables of a checkpoint have their scales in one place. */
async function packedTables(
  parts: readonly TablePart[],
  known: KnownTables,
  notes: Notes,
): Promise<Map<TablePart, PackedLayout>> {
  const tables = await Promise.all(parts.map((part) => candidatesOf(part, known)));
  const header = commonHeader(tables);
  const layouts = new Map<TablePart, PackedLayout>();
  for (const { part, candidates } of tables) {
    const layout = chooseLayout(part, candidates.get(header as RowHeader) ?? []);
    layouts.set(part, layout);
    const { dtype, title } = layout.header;
    notes.add(part.name, layout, dtype === 'float16' ? title : `${title}${ROUNDED}`);
  }
  return layouts;
}

async function candidatesOf(part: TablePart, { described, usualDim }: KnownTables): Promise<PackedTable> {
  const weight = matrix(part);
  const width = at(weight.shape, 1);
  const own = described.get(part.name) ?? {};
  const under = (dim: number | undefined) =>
    ROW_HEADERS.map((header) => [header, packedLayouts(width, header, { ...own, dim })] as const);
  const of = own.dim ?? usualDim;
  const usual = under(of);
  const fits = own.dim !== undefined || (of !== undefined && usual.some(([, layouts]) => layouts.length > 0));
  const rows = await sample(weight);
  const candidates = (fits ? usual : under(undefined)).map(([header, layouts]) => {
    const evidence = layouts.map((layout) => ({ layout, ...evidenceFor(layout, rows) }));
    return [header, evidence.filter(({ possible }) => possible)] as const;
  });
  if (candidates.every(([, possible]) => possible.length === 0)) {
    const wanted = own.dim === undefined ? '' : ` of ${own.dim} elements`;
    throw unsupported(
      part,
      `its rows of ${width} bytes are no quantised rows${wanted} in a layout that is known`,
    );
  }
  if (!fits && endsWithZeros(rows))
    throw unsupported(
      part,
      `its rows of ${width} bytes end with zeros, and nothing says how many are elements`,
    );
  return { part, candidates: new Map(candidates) };
}

/** Rows that are read to tell layouts apart, in as many pieces. */
const SAMPLED_ROWS = 256;
const SAMPLED_PIECES = 4;

async function sample(weight: StoredTensor): Promise<SampledRows> {
  const [rows, width] = weight.shape as [number, number];
  const pieces = rows <= SAMPLED_ROWS ? 1 : SAMPLED_PIECES;
  const count = Math.min(rows, SAMPLED_ROWS) / pieces;
  const bytes = new Uint8Array(pieces * count * width);
  for (let piece = 0; piece < pieces; piece++) {
    const first = pieces === 1 ? 0 : Math.floor(((rows - count) * piece) / (pieces - 1));
    await readBytes(
      weight,
      bytes.subarray(piece * count * width, (piece + 1) * count * width),
      first * width,
    );
  }
  return { bytes, width };
}

/** Rows that are not all zeros, and whose last byte is 0 in all of them. */
function endsWithZeros({ bytes, width }: SampledRows): boolean {
  for (let end = width - 1; end < bytes.length; end += width) if (bytes[end] !== 0) return false;
  return bytes.some((byte) => byte !== 0);
}

/** Where the tables' scales stand; undefined where there is no table. */
function commonHeader(tables: readonly PackedTable[]): RowHeader | undefined {
  const [first] = tables;
  if (first === undefined) return undefined;
  const of = ({ candidates }: PackedTable, header: RowHeader) => candidates.get(header) ?? [];
  const possible = ROW_HEADERS.filter((header) => tables.every((table) => of(table, header).length > 0));
  if (possible.length === 1) return possible[0];
  const untold = tables.every((table) =>
    possible.every((header) => of(table, header).every(({ telling }) => telling === 0)),
  );
  // Rows without a difference in them have the values of their biases: of several headers the usual one.
  if (possible.length > 0 && untold) return possible[0];
  const full = possible.filter((header) =>
    tables.every((table) => of(table, header).some(({ fullRange }) => fullRange >= MOST)),
  );
  if (full.length === 1) return full[0];
  throw unsupported(
    first.part,
    possible.length === 0
      ? 'its quantised rows and those of other tables have no layout in common'
      : `its quantised rows may have their ${possible.map(({ title }) => title).join(', or their ')}`,
    'quantise the original with `hotrow quantize`, or save scales and biases apart, as NAME_qscale and NAME_qbias',
  );
}

/** int8 before int4 where rows have its full range; int8 rows read as int4 nearly always have it. */
function chooseLayout(part: TablePart, candidates: readonly Candidate[]): PackedLayout {
  const [only] = candidates;
  if (candidates.length === 1 && only !== undefined) return only.layout;
  const full = candidates.find(({ fullRange }) => fullRange >= MOST);
  if (full !== undefined) return full.layout;
  const several = candidates.map(({ layout }) => `${layout.dim} ${layout.format} elements`).join(' or ');
  throw unsupported(part, `its quantised rows may be ${several}`);
}
