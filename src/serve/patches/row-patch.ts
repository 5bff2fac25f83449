/**
 * Row patches: a safetensors file of new values for rows of a model's tables. For each table `rows.{table}` int32 or int64 [n] and
 * `values.{table}` [n, D] float32, or as the table stores rows; tables go by the names of their features, or by their numbers. Its
 * metadata say `model`, `version` and `sequence`, all as text. docs/model-repository.md.
 */
import type { EmbeddingTable, IndexArray } from '../../embedding/bag.ts';
import {
  checkRowUpdate,
  pieceRows,
  type RowUpdate,
  type RowValues,
  updatePiece,
} from '../../embedding/row-values.ts';
import { HotrowError, ServeError } from '../../errors.ts';
import { safetensorsIn } from '../../formats/safetensors.ts';
import { type FileTensor, viewElements } from '../../tensor.ts';
import { shortName } from '../protocol/refuse.ts';

/** What of a table a patch must fit. */
export type PatchedTable = Pick<EmbeddingTable, 'name' | 'rows' | 'dim' | 'rowFormat'>;

/** New rows of one table. */
export interface TablePatch {
  /** The table's number. */
  readonly table: number;
  readonly rows: IndexArray;
  readonly values: RowValues;
}

export interface RowPatch {
  readonly model: string;
  readonly version: string;
  readonly sequence: number;
  /** In the order of the tables. */
  readonly updates: readonly TablePatch[];
}

/** What a patch must be for. */
export interface PatchedModel {
  readonly name: string;
  readonly version: string;
  readonly tables: readonly PatchedTable[];
}

const invalid = (message: string, cause?: unknown) => new ServeError('PATCH_INVALID', message, { cause });

/**
 * Reads a patch and checks all of it: what it is for, names, dtypes, shapes, row numbers, and that every value can be stored. Nothing
 * of a patch that passes can be refused later but for want of memory.
 * @throws ServeError PATCH_INVALID; FormatError SAFETENSORS_INVALID; RequestError TENSOR_DTYPE, TENSOR_SHAPE, INDEX_OUT_OF_RANGE,
 *   TABLE_UNEXPECTED; ModelError VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE of quantised rows.
 */
export function readPatch(bytes: Uint8Array, name: string, model: PatchedModel): RowPatch {
  const { tensors, metadata } = safetensorsIn(bytes, name);
  const said = (key: string) => {
    const value = metadata[key];
    if (value === undefined) throw invalid(`its metadata do not say "${key}"`);
    return value;
  };
  const [forModel, version, number] = [said('model'), said('version'), said('sequence')];
  if (forModel !== model.name) throw invalid(`it is for model ${shortName(forModel)}, not for ${model.name}`);
  if (version !== model.version)
    throw invalid(`it is for version ${shortName(version)}, and ${model.version} is served`);
  if (!/^[1-9]\d{0,8}$/.test(number))
    throw invalid(`its sequence is ${shortName(number)}, not a whole number from 1 to 999999999`);
  const updates = tablesOf(tensors, model.tables).map(({ table, rows, values }) => {
    const view = ({ dtype, byteOffset, byteLength }: FileTensor) =>
      viewElements(dtype, bytes.subarray(byteOffset, byteOffset + byteLength));
    // Arrays of other elements are refused below.
    return { table, rows: view(rows) as IndexArray, values: view(values) as RowValues };
  });
  for (const { table, rows, values } of updates)
    checkAll(checkRowUpdate(tableAt(model, table), rows, values));
  return { model: forModel, version, sequence: Number(number), updates };
}

/** Rows of all tables. */
export function patchedRows({ updates }: RowPatch): number {
  return updates.reduce((sum, { rows }) => sum + rows.length, 0);
}

interface TableTensors {
  readonly table: number;
  readonly rows: FileTensor;
  readonly values: FileTensor;
}

function tablesOf(tensors: ReadonlyMap<string, FileTensor>, tables: readonly PatchedTable[]): TableTensors[] {
  const parts = new Map<number, { rows?: FileTensor; values?: FileTensor }>();
  for (const [name, tensor] of tensors) {
    const [, part, of = ''] = /^(rows|values)\.(.+)$/s.exec(name) ?? [];
    if (part === undefined) throw invalid(`tensor ${shortName(name)} is none of a patch`);
    const table = tableOf(of, tables);
    const own = parts.get(table) ?? {};
    if (own[part as 'rows' | 'values'] !== undefined)
      throw invalid(`${part} of table ${shortName(of)} are there twice: by name and by number`);
    own[part as 'rows' | 'values'] = tensor;
    parts.set(table, own);
  }
  if (parts.size === 0) throw invalid('it has no rows');
  return [...parts]
    .sort(([a], [b]) => a - b)
    .map(([table, { rows, values }]) => {
      const { name, dim } = tables[table] as PatchedTable;
      if (rows === undefined || values === undefined)
        throw invalid(
          `table ${name} has ${rows === undefined ? 'values without rows' : 'rows without values'}`,
        );
      if (rows.shape.length !== 1) throw invalid(`rows.${name} has ${rows.shape.length} axes, not 1`);
      if (values.shape.length !== 2 || values.shape[0] !== rows.shape[0])
        throw invalid(`values.${name} is [${values.shape}], not [${rows.shape[0]}, ${dim}]`);
      return { table, rows, values };
    });
}

function tableOf(name: string, tables: readonly PatchedTable[]): number {
  const named = tables.findIndex((table) => table.name === name);
  const isOne = named >= 0 && tables.findLastIndex((table) => table.name === name) === named;
  if (isOne) return named;
  if (/^\d{1,9}$/.test(name) && Number(name) < tables.length) return Number(name);
  throw invalid(
    named >= 0
      ? `several tables are called ${shortName(name)}: name them by their numbers`
      : `there is no table ${shortName(name)}`,
  );
}

function tableAt({ tables }: PatchedModel, number: number): PatchedTable {
  return tables[number] as PatchedTable;
}

/** Converts all of an update as storing it does. */
function checkAll(update: RowUpdate): void {
  const most = pieceRows(update);
  for (let first = 0; first < update.count; first += most)
    updatePiece(update, first, Math.min(most, update.count - first));
}

/** A file's name says the number of its patch. @throws ServeError PATCH_INVALID. */
export function checkSequence({ sequence }: RowPatch, named: number): void {
  if (sequence !== named) throw invalid(`its sequence is ${sequence}, and its name says ${named}`);
}

/** An error of a patch that lies in a file names it. */
export function inPatchFile(error: unknown, file: string): unknown {
  return error instanceof HotrowError ? error.inFile(file) : error;
}
