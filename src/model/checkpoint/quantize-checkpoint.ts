/** A checkpoint with its tables' rows in another format: row by row, so that no table is in memory as a whole. */
import { at } from '../../at.ts';
import type { ScaledWeight } from '../../backend/scaled-weight.ts';
import { abortSignal, throwIfAborted } from '../../checks/abort.ts';
import {
  type Check,
  called,
  listOf,
  membersOf,
  oneOf,
  optional,
  path,
  refuseOption,
  text,
} from '../../checks/value.ts';
import type { EmbeddingTable } from '../../embedding/bag.ts';
import { checkTables } from '../../embedding/check-tables.ts';
import { addErrors, NO_ERROR, type QuantizationError, quantizeRows } from '../../embedding/quantize.ts';
import {
  isQuantized,
  ROW_FORMATS,
  type RowFormat,
  rowBytes,
  weightShape,
} from '../../embedding/row-format.ts';
import { distinctTables } from '../../embedding/shared-tables.ts';
import { ModelError } from '../../errors.ts';
import { type StreamedTensor, writeSafetensors } from '../../formats/safetensors.ts';
import type { OnProgress } from '../../progress.ts';
import { chunksOf, filesOf } from '../../stored-tensor.ts';
import {
  type HostTensor,
  numberToBfloat16,
  numberToFloat16,
  type StoredTensor,
  type StoredTensors,
  type Tensor,
  toFloat32,
  viewElements,
} from '../../tensor.ts';
import { storedTensors } from '../check-tensors.ts';
import { TABLE_ORDER_KEY } from './checkpoint.ts';
import { inTable } from './in-table.ts';
import { quantizedRowsText } from './quantized-rows.ts';

/** Bytes that are read and written at a time. */
const CHUNK_BYTES = 8 << 20;

export interface QuantizedTable {
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  readonly from: RowFormat;
  readonly to: RowFormat;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly error: QuantizationError;
}

export interface QuantizeOptions {
  readonly tensors: StoredTensors;
  /** The tables to convert, to `rows`; their weights are among the tensors, under their names. Default: none. */
  readonly tables?: readonly EmbeddingTable[];
  readonly rows?: RowFormat;
  /** Weights of dense layers in 8 bits, by the names of the tensors whose place they take. */
  readonly layers?: ReadonlyMap<string, ScaledWeight>;
  /** The tables' names in the model's order, which the file then carries. */
  readonly tableOrder?: readonly string[];
  /** The file to write; it appears only when it is whole. */
  readonly out: string;
  /** Told of every table. */
  readonly onProgress?: OnProgress;
  /** Gives the conversion up, between pieces of tensors; what was written is removed. */
  readonly signal?: AbortSignal;
}

/** Weights that `calibrate` made. */
const scaledWeights: Check<ReadonlyMap<string, ScaledWeight>> = (value, at) =>
  value instanceof Map ? value : refuseOption(at, value, 'a Map of weights in 8 bits by name');

const OPTIONS = membersOf<QuantizeOptions>({
  tensors: storedTensors,
  tables: optional(checkTables),
  rows: optional(oneOf(ROW_FORMATS)),
  layers: optional(scaledWeights),
  tableOrder: optional(listOf(text)),
  out: path,
  onProgress: optional(called<OnProgress>()),
  signal: optional(abortSignal),
});

/**
 * Writes the checkpoint with the rows of some tables in another format, and weights of layers in 8 bits, all else as it was; says what that lost. A tensor under
 * several names is written once, and metadata names it again (tied-names.ts). A table of several features, or under several
 * names, is told of once, by its first feature.
 * @throws ModelError CHECKPOINT_UNSUPPORTED for rows that are quantised already, VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE;
 * UsageError FILE_* (a file of the checkpoint is not replaced), OPTION_INVALID; FormatError FILE_TRUNCATED; AbortError once `signal`
 * is aborted: nothing is written then.
 */
export async function quantizeCheckpoint(options: QuantizeOptions): Promise<QuantizedTable[]> {
  const chosen = OPTIONS(options, 'quantizeCheckpoint');
  const { tensors, tables = [], rows: to = 'float32', tableOrder, out, onProgress, signal } = chosen;
  if ((chosen.tables === undefined) !== (chosen.rows === undefined))
    refuseOption('quantizeCheckpoint: rows', chosen.rows, 'given together with tables');
  throwIfAborted(signal, 'quantizeCheckpoint');
  for (const { name, rowFormat } of tables) {
    if (!isQuantized(rowFormat)) continue;
    throw new ModelError('CHECKPOINT_UNSUPPORTED', `table ${name} has ${rowFormat} rows already`, {
      tensor: name,
      hint: 'convert the original checkpoint, or leave the table out with --tables',
    });
  }
  const converted = new Map<Tensor, QuantizedTable>();
  const byWeight = new Map<Tensor, EmbeddingTable>(
    distinctTables(tables).map((table) => [table.weight, table]),
  );
  let converting = 0;
  const names = new Map([...tensors].reverse().map(([name, tensor]) => [tensor, name]));
  const tied = [...tensors].flatMap(([name, tensor]) => {
    const kept = names.get(tensor);
    return kept === undefined || kept === name ? [] : [[name, kept] as const];
  });
  const layers = new Map(
    [...(chosen.layers ?? [])].map(([name, scaled]) => [
      tensors.get(name) ?? refuseOption('quantizeCheckpoint: layers', name, 'the name of a tensor'),
      scaled,
    ]),
  );
  const given = (chunks: AsyncIterable<Uint8Array>) => unlessAborted(chunks, signal);
  const streamed = [...names].reverse().map(([tensor, name]): [string, HostTensor | StreamedTensor] => {
    const scaled = layers.get(tensor);
    if (scaled !== undefined)
      return [name, { dtype: 'float8_e4m3', shape: tensor.shape, data: scaled.elements }];
    const table = byWeight.get(tensor);
    if (table === undefined) return [name, { ...tensor, chunks: () => given(chunksOf(tensor, CHUNK_BYTES)) }];
    const { name: tableName, rows, dim, rowFormat: from } = table;
    const bytesAfter = rows * rowBytes({ dim, rowFormat: to });
    const record = (error: QuantizationError) => {
      const bytesBefore = rows * rowBytes(table);
      converted.set(tensor, { name: tableName, rows, dim, from, to, bytesBefore, bytesAfter, error });
    };
    return [
      name,
      {
        ...weightShape({ rows, dim, rowFormat: to }),
        byteLength: bytesAfter,
        ...(isQuantized(to) ? { annotation: quantizedRowsText({ format: to, dim }) } : {}),
        chunks: () => {
          converting += 1;
          onProgress?.(`converting ${tableName}`, converting, byWeight.size);
          return given(convertedChunks(tableName, tensor, dim, to, record));
        },
      },
    ];
  });
  const order = tableOrder === undefined ? {} : { [TABLE_ORDER_KEY]: JSON.stringify(tableOrder) };
  const sources = [...new Set([...tensors.values()].flatMap(filesOf))];
  const scales = [...layers].flatMap(([tensor, scaled]) => scaleTensors(names.get(tensor) as string, scaled));
  const tiedScales = tied.flatMap(([name, kept]) =>
    scales
      .filter(([scale]) => scale.startsWith(`${kept}_`))
      .map(([scale]) => [name + scale.slice(kept.length), scale] as const),
  );
  const metadata = { ...Object.fromEntries([...tied, ...tiedScales]), ...order };
  // Behind all else, so that tables stay where mapping finds them aligned.
  await writeSafetensors(out, new Map([...streamed, ...scales]), metadata, { sources });
  return [...converted.values()];
}

/** The scales that stand beside a weight in 8 bits. */
function scaleTensors(name: string, { scales, inputScale }: ScaledWeight): [string, HostTensor][] {
  const ofInputs: [string, HostTensor][] =
    inputScale === undefined
      ? []
      : [[`${name}_input_scale`, { dtype: 'float32', shape: [1], data: Float32Array.of(inputScale) }]];
  return [[`${name}_scale`, { dtype: 'float32', shape: [scales.length], data: scales }], ...ofInputs];
}

/** Pieces as long as nobody gives the call up. @throws AbortError. */
async function* unlessAborted(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  throwIfAborted(signal, 'quantizeCheckpoint');
  for await (const chunk of chunks) {
    throwIfAborted(signal, 'quantizeCheckpoint');
    yield chunk;
  }
}

async function* convertedChunks(
  name: string,
  tensor: StoredTensor,
  dim: number,
  to: RowFormat,
  record: (error: QuantizationError) => void,
): AsyncGenerator<Uint8Array> {
  const bytesOfRow = tensor.byteLength / at(tensor.shape, 0);
  const rowsAtOnce = Math.max(1, Math.floor(CHUNK_BYTES / bytesOfRow));
  let error = NO_ERROR;
  let firstRow = 0;
  for await (const bytes of chunksOf(tensor, rowsAtOnce * bytesOfRow)) {
    const values = toFloat32({
      dtype: tensor.dtype,
      shape: [bytes.length / bytesOfRow, dim],
      data: viewElements(tensor.dtype, bytes),
    });
    const converted = inTable(name, () => convertRows(values, dim, to, firstRow));
    error = addErrors(error, converted.error);
    firstRow += bytes.length / bytesOfRow;
    yield converted.data;
  }
  record(error);
}

function convertRows(
  values: Float32Array,
  dim: number,
  to: RowFormat,
  firstRow: number,
): { readonly data: Uint8Array; readonly error: QuantizationError } {
  if (isQuantized(to)) return quantizeRows(values, dim, to, firstRow);
  if (to === 'float32') return { data: bytesOf(values), error: errorBetween(values, values) };
  const half = Uint16Array.from(values, to === 'float16' ? numberToFloat16 : numberToBfloat16);
  const shape = [values.length];
  return {
    data: bytesOf(half),
    error: errorBetween(values, toFloat32({ dtype: to, shape, data: half })),
  };
}

function bytesOf(array: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function errorBetween(values: Float32Array, rounded: Float32Array): QuantizationError {
  let maxAbsolute = 0;
  let sumSquaredError = 0;
  let sumSquares = 0;
  let saturated = 0;
  values.forEach((x, i) => {
    const y = rounded[i] as number;
    if (Number.isFinite(x) && !Number.isFinite(y)) saturated += 1;
    const difference = Math.abs(y - x);
    if (!Number.isFinite(difference)) return;
    maxAbsolute = Math.max(maxAbsolute, difference);
    sumSquaredError += difference * difference;
    sumSquares += x * x;
  });
  return { elements: values.length, maxAbsolute, sumSquaredError, sumSquares, saturated };
}
