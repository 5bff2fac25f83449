/** Other weights in a model's place: which fit there, and rows that are written over those that a device has. */
import type { PlacedTables } from '../backend/backend.ts';
import { kindOf } from '../dense/blocks.ts';
import { type EmbeddingTable, type IndexArray, rowBytes } from '../embedding/bag.ts';
import type { RowValues } from '../embedding/row-values.ts';
import { distinctTables, tableNumbers } from '../embedding/shared-tables.ts';
import { ModelError } from '../errors.ts';
import type { OnProgress } from '../progress.ts';
import { chunksOf } from '../stored-tensor.ts';
import { isStored, type Tensor, viewElements } from '../tensor.ts';
import type { ModelArchitecture } from './architecture.ts';
import { type Head, headOf } from './head.ts';

/** Rows are written so many bytes at a time. */
const PIECE_BYTES = 32 << 20;
const MOST_INT32 = 2 ** 31;

/** What of a model's shape differs from another's is told in these words. */
const tableText = ({ rows, dim, rowFormat, mode, paddingIdx, pruned = false }: EmbeddingTable) =>
  `${rows} rows of ${dim} ${rowFormat}, ${mode}${paddingIdx === undefined ? '' : `, padding row ${paddingIdx}`}${pruned ? ', pruned rows' : ''}`;

/**
 * Checks that a model's weights can be written over another's: the same tables, the same head, what predictions give alike.
 * @throws ModelError WEIGHTS_MISFIT, with both figures.
 */
export function checkOverwrites(before: ModelArchitecture, after: ModelArchitecture): void {
  same('the model', 'dense features', before.denseFeatures, after.denseFeatures);
  same('the model', 'features', before.tables.length, after.tables.length);
  const shared = tableNumbers(before.tables);
  const sharing = tableNumbers(after.tables);
  before.tables.forEach((table, t) => {
    const other = after.tables[t] as EmbeddingTable;
    same(`feature ${t}`, 'name', table.name, other.name);
    same(`table ${table.name}`, 'shape', tableText(table), tableText(other));
    same(`table ${table.name}`, 'number', shared[t], sharing[t]);
    if (table.rowWeights !== undefined || other.rowWeights !== undefined)
      throw misfit(`table ${table.name} has learned weights of rows, which are not written over`);
  });
  for (const { name, weight } of after.tables)
    if (!isStored(weight) && !('data' in weight)) throw misfit(`the rows of table ${name} lie in no file`);
  same('the model', 'output', before.output ?? 'probability', after.output ?? 'probability');
  const [own, other] = [headOf(before), headOf(after)];
  same('the head', 'outputs', namesOf(own), namesOf(other));
  same('the head', 'blocks', blocksText(own), blocksText(other));
}

const namesOf = ({ outputs }: Head) => outputs.map(({ name }) => name).join(', ');

/** Blocks with their inputs, sizes and what else they are, without weights. */
export function blocksText({ blocks }: Head): string {
  return blocks
    .map(({ block, inputs, vectors }) => {
      const kind = kindOf(block);
      const from = inputs.map(({ name }) => name).join(' + ');
      const said = JSON.stringify(kind.describe(block));
      return `${block.name}: ${kind.title(block, vectors)} of ${from} ${said}, ${kind.parameters(block)} weights`;
    })
    .join('; ');
}

function same<T extends string | number | undefined>(what: string, of: string, before: T, after: T): void {
  if (before !== after) throw misfit(`${what}: ${of} ${after}, where ${before} is served`);
}

function misfit(message: string): ModelError {
  return new ModelError('WEIGHTS_MISFIT', message);
}

/** Writes the rows of `tables`, which `checkOverwrites` has checked, over those placed. @throws UsageError, FormatError for files; DeviceError. */
export async function overwriteRows(
  placed: Pick<PlacedTables, 'updateRows'>,
  tables: readonly EmbeddingTable[],
  onProgress: OnProgress,
  pieceBytes = PIECE_BYTES,
): Promise<void> {
  const own = distinctTables(tables);
  for (const [i, table] of own.entries()) {
    onProgress(`writing table ${table.name} over`, i + 1, own.length);
    const count = Math.max(1, Math.floor(pieceBytes / rowBytes(table)));
    let first = 0;
    for await (const values of piecesOf(table.weight, count)) {
      const rows = numbersFrom(first, Math.min(count, table.rows - first));
      await placed.updateRows(tables.indexOf(table), rows, values);
      first += rows.length;
    }
  }
}

function numbersFrom(first: number, count: number): IndexArray {
  if (first + count > MOST_INT32) return BigInt64Array.from({ length: count }, (_, i) => BigInt(first + i));
  const rows = new Int32Array(count);
  for (let i = 0; i < count; i++) rows[i] = first + i;
  return rows;
}

/** A table's rows as it stores them, so many at a time. */
async function* piecesOf(weight: Tensor, rows: number): AsyncGenerator<RowValues> {
  const [, width = 0] = weight.shape;
  if ('data' in weight) {
    const data = weight.data as RowValues;
    for (let at = 0; at < data.length; at += rows * width) yield data.subarray(at, at + rows * width);
    return;
  }
  if (!isStored(weight)) throw misfit('rows lie in no file');
  const { dtype, shape, byteLength } = weight;
  const ofRow = byteLength / Math.max(1, shape[0] ?? 0);
  for await (const bytes of chunksOf(weight, rows * ofRow)) yield viewElements(dtype, bytes) as RowValues;
}
