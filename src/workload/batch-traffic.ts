/** What a batch of lookups must move: rows, distinct rows, bytes. */
import { at } from '../at.ts';
import type { BagBatch, Bags, EmbeddingTable, IndexArray } from '../embedding/bag.ts';
import { rowContentBytes } from '../embedding/row-format.ts';
import { tableNumbers } from '../embedding/shared-tables.ts';
import type { PlanTraffic } from '../plan/saved-plans.ts';
import { countRows } from './hotness.ts';
import { asInt32 } from './index-values.ts';
import { onceEach } from './once-each.ts';

export interface Traffic {
  readonly lookups: number;
  /** Distinct rows, tables counted apart. */
  readonly distinct: number;
  /** Bytes of the distinct rows: these come from memory at least once. */
  readonly distinctRowBytes: number;
  /** Bytes of the rows of all lookups: these come from a cache at least. */
  readonly lookupRowBytes: number;
  /** Indices, offsets, weights and pooled rows. */
  readonly otherBytes: number;
}

/** Distinct rows over lookups, in [0, 1]: how cold a batch is. */
export function distinctShare({ lookups, distinct }: Traffic): number {
  return lookups === 0 ? 0 : distinct / lookups;
}

/** What decides which of a model's saved plans fits a batch. */
export function planTrafficOf(batch: BagBatch, tables: readonly EmbeddingTable[]): PlanTraffic {
  return { distinctShare: distinctShare(trafficOf(batch, tables)), batchSize: batch.batchSize };
}

/** Without the marks of pruned rows, and other indices that are no rows. */
export function lookedUpRows(indices: IndexArray): Int32Array {
  const rows = asInt32(indices);
  return rows.some((row) => row < 0) ? rows.filter((row) => row >= 0) : rows;
}

/** How many rows of their table some features look up. */
function distinctRows(features: readonly Bags[], rowsOf: (indices: IndexArray) => Int32Array): number {
  const [rows] = features.map(({ indices }) => rowsOf(indices));
  if (features.length === 1) return rows?.length ?? 0;
  return new Set(features.flatMap(({ indices }) => [...rowsOf(indices)])).size;
}

/** What a batch must move, whatever the kernel. */
export function trafficOf({ batchSize, bags }: BagBatch, tables: readonly EmbeddingTable[]): Traffic {
  const rowsOf = onceEach((indices: IndexArray) => countRows(lookedUpRows(indices)).rows);
  const numbers = tableNumbers(tables);
  const parts = bags.map(({ indices, offsets, weights }, t): Traffic => {
    const table = at(tables, t);
    const bytes = rowContentBytes(table);
    const number = at(numbers, t);
    const sharers = bags.filter((_, other) => numbers[other] === number);
    // Rows of a table that several features read are counted with the first.
    const distinct = numbers.indexOf(number) === t ? distinctRows(sharers, rowsOf) : 0;
    const inputBytes = indices.byteLength + offsets.byteLength + (weights?.byteLength ?? 0);
    return {
      lookups: indices.length,
      distinct,
      distinctRowBytes: distinct * bytes,
      lookupRowBytes: indices.length * bytes,
      otherBytes: inputBytes + batchSize * table.dim * Float32Array.BYTES_PER_ELEMENT,
    };
  });
  const sum = (key: keyof Traffic) => parts.reduce((total, part) => total + part[key], 0);
  return {
    lookups: sum('lookups'),
    distinct: sum('distinct'),
    distinctRowBytes: sum('distinctRowBytes'),
    lookupRowBytes: sum('lookupRowBytes'),
    otherBytes: sum('otherBytes'),
  };
}
