/** Which tensors are which table's, while a request is bound; shapes and the rules of features that need no look at elements. */
import { at } from '../../at.ts';
import type { FeatureInput } from '../../model/inputs.ts';
import type { BagsAt, BoundsAt, IntegersAt, PieceAt } from '../records/record.ts';
import type { BodyTensor } from './infer-request.ts';
import type { NativeGroup, NativeRole } from './native-names.ts';

/** The tensors of a group, by role. */
export type GroupTensors = Record<NativeRole, BodyTensor | undefined>;

export function noTensors(): GroupTensors {
  return {
    indices: undefined,
    values: undefined,
    offsets: undefined,
    lengths: undefined,
    weights: undefined,
  };
}

/** A part of the request, the samples' or the users': its bags, and the order of the tables that are in one piece. */
export interface NativePart {
  readonly bags: number;
  readonly order: readonly number[] | undefined;
}

/** Of each method: false when the request must be bound otherwise. */
export class NativeTables {
  readonly tables: (BagsAt | undefined)[];
  readonly pieces: PieceAt[] = [];
  /** Whether a table has bags for the samples themselves. */
  hasOwn = false;
  readonly #features: readonly FeatureInput[];
  readonly #isThere: boolean[];
  /** Where the body begins. */
  readonly #bodyAt: number;

  constructor(features: readonly FeatureInput[], bodyAt: number) {
    this.#features = features;
    this.#bodyAt = bodyAt;
    this.tables = new Array(features.length).fill(undefined);
    this.#isThere = new Array(features.length).fill(false);
  }

  /** `values` and `lengths` of many tables. */
  addPiece(
    { perUser }: NativeGroup,
    { values, lengths, weights, indices, offsets }: GroupTensors,
    { bags, order }: NativePart,
  ): boolean {
    if (values === undefined || lengths === undefined || order === undefined || order.length === 0)
      return false;
    if (indices !== undefined || offsets !== undefined) return false;
    if (!isList(values) || !isIntegers(lengths)) return false;
    const { shape } = lengths;
    if (shape.length === 0 || shape.length > 2 || (shape.length === 2 && shape[0] !== order.length))
      return false;
    if (elementsIn(lengths) !== order.length * bags) return false;
    if (!fitWeights(weights, values)) return false;
    for (const table of order) if (!this.#takesIds(table) || !this.#add(table, weights)) return false;
    if (!perUser) this.hasOwn = true;
    this.pieces.push({
      tables: order,
      values: this.#integers(values),
      lookups: elementsIn(values),
      lengths: this.#integers(lengths),
      perUser,
      ...(weights === undefined ? {} : { weightsAt: this.#bodyAt + weights.byteOffset }),
    });
    return true;
  }

  /** Tensors of one table. */
  addTable(
    { perUser, rowsTable, idsTable }: NativeGroup,
    { indices, values, lengths, offsets, weights }: GroupTensors,
    { bags }: NativePart,
  ): boolean {
    const rows = indices ?? values;
    const table = indices === undefined ? idsTable : rowsTable;
    if (rows === undefined || table === undefined || !isIntegers(rows)) return false;
    if (indices !== undefined && values !== undefined) return false;
    if (lengths !== undefined && offsets !== undefined) return false;
    if (indices === undefined && !this.#takesIds(table)) return false;
    const bounds = this.#bounds(rows, lengths, offsets, bags);
    if (bounds === undefined || !fitWeights(weights, rows) || !this.#add(table, weights)) return false;
    if (!perUser) this.hasOwn = true;
    this.tables[table] = {
      indices: this.#integers(rows),
      lookups: elementsIn(rows),
      bounds,
      perUser,
      ...(weights === undefined ? {} : { weightsAt: this.#bodyAt + weights.byteOffset }),
    };
    return true;
  }

  /** Every table is there, or may be missing. */
  isComplete(): boolean {
    return this.#isThere.every((isThere, table) => isThere || at(this.#features, table).missing === 'empty');
  }

  #bounds(
    rows: BodyTensor,
    lengths: BodyTensor | undefined,
    offsets: BodyTensor | undefined,
    bags: number,
  ): BoundsAt | undefined {
    const given = lengths ?? offsets;
    if (given === undefined)
      return rows.shape.length === 2 && rows.shape[0] === bags ? { kind: 'even' } : undefined;
    if (!isList(rows) || !isList(given)) return undefined;
    const count = elementsIn(given);
    if (offsets === undefined)
      return count === bags ? { kind: 'lengths', ...this.#integers(given) } : undefined;
    if (count !== bags && count !== bags + 1) return undefined;
    return { kind: 'offsets', hasEnd: count > bags, ...this.#integers(given) };
  }

  /** False: the table is there already, or has rules about each bag. */
  #add(table: number, weights: BodyTensor | undefined): boolean {
    const { weighted, longestBag } = at(this.#features, table);
    if (this.#isThere[table] === true || longestBag !== undefined) return false;
    if (weighted !== undefined && weighted !== (weights !== undefined)) return false;
    this.#isThere[table] = true;
    return true;
  }

  #takesIds(table: number): boolean {
    return at(this.#features, table).ids.kind === 'rows';
  }

  #integers({ byteOffset, dtype }: BodyTensor): IntegersAt {
    return { at: this.#bodyAt + byteOffset, int64: dtype === 'int64' };
  }
}

/** Elements of a tensor of int32, int64 or float32. */
export function elementsIn({ dtype, byteLength }: BodyTensor): number {
  return byteLength / (dtype === 'int64' ? 8 : 4);
}

function isIntegers({ dtype }: BodyTensor): boolean {
  return dtype === 'int32' || dtype === 'int64';
}

/** [n] of integers. */
export function isList(tensor: BodyTensor): boolean {
  return tensor.shape.length === 1 && isIntegers(tensor);
}

/** Weights shaped as the values, or none. */
function fitWeights(weights: BodyTensor | undefined, { shape }: BodyTensor): boolean {
  if (weights === undefined) return true;
  const { dtype, shape: own } = weights;
  return (
    dtype === 'float32' && own.length === shape.length && own.every((extent, axis) => extent === shape[axis])
  );
}
