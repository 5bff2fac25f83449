/** Whether a peer computes what Hotrow does: bags that it pooled, beside the sum of the rows that it has. */
import type { Bags, EmbeddingTable } from '../embedding/bag.ts';
import { hostRows } from '../embedding/reference.ts';
import { rowBytes, weightShape } from '../embedding/row-format.ts';
import type { HostTensor, TensorData } from '../tensor.ts';

/** One bag as a peer pooled it. */
export interface PeerSample {
  readonly table: number;
  readonly bag: number;
  /** The rows that it looked up [L]. */
  readonly indices: readonly number[];
  /** Their bytes [L, bytes of a row in the peer], padding included, in base64. */
  readonly rows: string;
  /** What came of them [D]. */
  readonly pooled: readonly number[];
}

/**
 * Of the sum of the magnitudes. A peer may add in any order and hold the elements of a row in float16, which keeps 11
 * bits; other rows than those asked for are wrong by far more.
 */
const TOLERANCE = 2 ** -9;

/** @throws Error when the peer looked up other rows, or pooled them to other values. */
export function checkSample(
  { table: t, bag, indices, rows, pooled }: PeerSample,
  tables: readonly EmbeddingTable[],
  bags: readonly Bags[],
): void {
  const table = tables[t];
  const own = bags[t];
  if (table === undefined || own === undefined) throw new Error(`there is no table ${t}`);
  const where = `table ${t}, bag ${bag}`;
  const asked = own.indices.slice(
    Number(own.offsets[bag]),
    Number(own.offsets[bag + 1] ?? own.indices.length),
  );
  if (asked.length !== indices.length || indices.some((index, i) => Number(asked[i]) !== index)) {
    throw new Error(`it looked up other rows than it should: ${where}`);
  }
  const values = rowValues(table, Buffer.from(rows, 'base64'), indices.length);
  const { dim } = table;
  for (let d = 0; d < dim; d++) {
    let sum = 0;
    let magnitude = 0;
    for (let row = 0; row < indices.length; row++) {
      const value = values[row * dim + d] as number;
      sum += value;
      magnitude += Math.abs(value);
    }
    const share = table.mode === 'mean' ? 1 / Math.max(1, indices.length) : 1;
    const got = pooled[d] ?? Number.NaN;
    if (Math.abs(got - share * sum) <= TOLERANCE * share * magnitude) continue;
    throw new Error(
      `it pools other values than it should: ${where}, element ${d}: ${got}, not ${share * sum}`,
    );
  }
}

/** The values [L, D] of rows of a table's format, each padded to any length. */
function rowValues(table: EmbeddingTable, bytes: Uint8Array, count: number): Float32Array {
  const length = rowBytes(table);
  const stride = count === 0 ? length : bytes.length / count;
  const packed = new Uint8Array(count * length);
  for (let row = 0; row < count; row++) {
    packed.set(bytes.subarray(row * stride, row * stride + length), row * length);
  }
  const { dtype, shape } = weightShape({ ...table, rows: count });
  const data: TensorData =
    dtype === 'float32'
      ? new Float32Array(packed.buffer)
      : dtype === 'uint8'
        ? packed
        : new Uint16Array(packed.buffer);
  const weight: HostTensor = { dtype, shape, data };
  return hostRows({ ...table, rows: count, weight });
}
