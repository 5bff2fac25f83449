/** What kernels must be compiled for to pool the bags of a batch. */
import type { Bags, EmbeddingTable, IndexArray } from '../../../embedding/bag.ts';
import type { IntegerWidth, RowWeights } from '../kernels/source.ts';
import type { BagKind } from './bag-kind.ts';
import { type FusedShape, fusedShape, kindId } from './fused-source.ts';

export interface BagKinds {
  /** One a table. */
  readonly kinds: readonly BagKind[];
  /** Each kind once, in the order of the tables. */
  readonly distinct: readonly BagKind[];
  /** The place of each table's kind among the distinct ones. */
  readonly numbers: readonly number[];
  /** How each table's rows are shared by lanes. */
  readonly shapes: readonly FusedShape[];
}

export function bagKinds(tables: readonly EmbeddingTable[], bags: readonly Bags[]): BagKinds {
  const kinds = tables.map((table, t) => kindOf(table, bags[t] as Bags));
  const ids = kinds.map(kindId);
  const distinct = [...new Map(kinds.map((kind, t) => [ids[t] as string, kind])).values()];
  const numbers = new Map(distinct.map((kind, i) => [kindId(kind), i]));
  return {
    kinds,
    distinct,
    numbers: ids.map((id) => numbers.get(id) as number),
    shapes: kinds.map(fusedShape),
  };
}

/** The kinds of some tables' bags, worked out once for batches of the same types. */
export class BagKindsCache {
  readonly #tables: readonly EmbeddingTable[];
  readonly #known = new Map<string, BagKinds>();

  constructor(tables: readonly EmbeddingTable[]) {
    this.#tables = tables;
  }

  of(bags: readonly Bags[]): BagKinds {
    const types = bags.map(typesCode).join('');
    const known = this.#known.get(types) ?? bagKinds(this.#tables, bags);
    this.#known.set(types, known);
    return known;
  }
}

/** A digit for the types of a table's arrays, and for whether it has a bag per user. */
function typesCode({ indices, offsets, weights, perUser }: Bags): string {
  const ofUsers = perUser === true ? 8 : 0;
  const wideIndices = indices instanceof BigInt64Array ? 4 : 0;
  const wideOffsets = offsets instanceof BigInt64Array ? 2 : 0;
  return (ofUsers + wideIndices + wideOffsets + (weights === undefined ? 0 : 1)).toString(16);
}

/** From this row count on, row numbers need more than 32 bits. */
const WIDE_ROWS = 2 ** 31;

function kindOf(table: EmbeddingTable, bags: Bags): BagKind {
  return {
    rowFormat: table.rowFormat,
    dim: table.dim,
    index: widthOf(bags.indices),
    offset: widthOf(bags.offsets),
    pooling: table.mode,
    weights: weightsOf(table, bags),
    padding: table.paddingIdx !== undefined,
    pruned: table.pruned === true,
    wideRows: table.rows > WIDE_ROWS,
    perUser: bags.perUser === true,
  };
}

function widthOf(values: IndexArray): IntegerWidth {
  return values instanceof BigInt64Array ? 'int64' : 'int32';
}

function weightsOf(table: EmbeddingTable, bags: Bags): RowWeights {
  if (bags.weights !== undefined) return 'sample';
  return table.rowWeights === undefined ? 'none' : 'row';
}
