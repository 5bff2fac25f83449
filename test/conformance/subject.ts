import type { Backend } from '../../src/backend/backend.ts';
import type { UnscaledPrecision } from '../../src/device.ts';
import type { BagBatch, Bags, EmbeddingTable, IndexChecking } from '../../src/embedding/bag.ts';
import { headerOf, storedElement } from '../../src/embedding/quantize.ts';
import { referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { isQuantized, rowBytes } from '../../src/embedding/row-format.ts';
import {
  KERNEL_FAMILIES,
  type Plan,
  plainPlan,
  refusals,
  withKernel,
  withTechniques,
} from '../../src/plan/plan.ts';
import { techniquesOn } from '../../src/plan/techniques/registry.ts';
import type { PlanContext } from '../../src/plan/techniques/technique.ts';
import { toFloat32 } from '../../src/tensor.ts';
import type { Problem } from '../support/cases.ts';
import { hostWeight } from '../support/cases.ts';
import { assertSameValues, assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';

export const DENSE_GROUPS = ['dense operators', 'models', 'models with users', 'golden models'] as const;
export const CASE_GROUPS = [
  'embedding bags',
  'pruned rows',
  'techniques',
  'index checking',
  'users',
  'properties',
  'golden embedding bags',
  'programs',
  'transfers',
  'row updates',
  '8-bit layers',
  ...DENSE_GROUPS,
] as const;
export type CaseGroup = (typeof CASE_GROUPS)[number];

/** What a backend's numbers may do. */
export interface Capabilities {
  /** Rows of a bag are added in index order, so that unweighted results have the reference's bits. Default: true. */
  readonly addsInIndexOrder?: boolean;
  /** Quantised rows too: a device may add their biases up by themselves. Default: true. */
  readonly addsQuantizedInIndexOrder?: boolean;
  /** Longer bags may be added in another order. Default: none. */
  readonly longestInOrder?: number;
  /** How dense operators and models multiply. Default: the device's. */
  readonly precision?: UnscaledPrecision;
  /** Largest relative error of one operand or sum of dense operators. Default: float32's, 2^-24. */
  readonly denseRounding?: number;
  /**
   * Largest error of the fast sums of 8-bit factors' products, of their magnitudes' sum, where a library makes them: where outputs are a
   * multiple of 16. Default: none.
   */
  readonly fastSums?: number;
  /** A sample's result has the same bits in every batch. Default: true. */
  readonly rowsStandAlone?: boolean;
  /** The cases that run: DENSE_GROUPS for one more precision. Default: all. */
  readonly groups?: readonly CaseGroup[];
  /** The plans that are tried. Default: every legal one. */
  readonly plansOf?: (context: PlanContext) => Plan[];
  /** The plans under which golden bags are pooled beside the plain one. Default: each technique by itself. */
  readonly goldenPlansOf?: (context: PlanContext) => Plan[];
  /** Each problem of every width has one width in so many, in turn: a backend that compiles for widths. Default: 1, all. */
  readonly widthsInTurn?: number;
  /** Places of one bad value that are tried in each array of many bags. Default: 20. */
  readonly faultPlaces?: number;
  /** Random problems of each property. Default: 200. */
  readonly propertyRuns?: number;
  /** Calls that update rows or pool them, in any order. Default: 300. */
  readonly rowUpdateCalls?: number;
  /** Of the random problems; default: another one each time. */
  readonly propertySeed?: number | undefined;
  /** Tests that run side by side, for backends that wait for compilers. Default: 1. */
  readonly concurrency?: number;
}

/** Each technique by itself, at its first candidate, on every kernel family; and each family without any. */
export function plansOfOneTechnique(context: PlanContext): Plan[] {
  const { kind } = context.device;
  return KERNEL_FAMILIES[kind]
    .flatMap((kernel) => {
      const bare = withKernel<Plan>(plainPlan(kind), kernel);
      const ofTechnique = techniquesOn(kind).flatMap(({ technique, on }) =>
        on
          .candidates({ ...context, kernel })
          .slice(0, 1)
          .map((parameters) => withTechniques<Plan>(bare, { [technique.name]: parameters })),
      );
      return [bare, ...ofTechnique];
    })
    .filter((plan) => refusals(plan, context).length === 0);
}

/** A backend under test. */
export interface Subject extends Required<Capabilities> {
  readonly backend: Backend;
}

/**
 * Compares pooled rows with the reference: unweighted tables by value, bit for bit, where the backend adds in index
 * order; others within the error that rounding each product and each sum can make, in any order and with or without
 * fused multiply-adds: (lookups + 2) · 2^-24 · Σ |weight · x|.
 */
export function assertPooled(
  subject: Pick<Subject, 'addsInIndexOrder' | 'addsQuantizedInIndexOrder' | 'longestInOrder'>,
  pooled: Float32Array,
  { tables, batch }: Problem,
  what: string,
  checking: IndexChecking = 'error',
): void {
  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  let column = 0;
  tables.forEach((table, t) => {
    const bags = batch.bags[t] as Bags;
    const { batchSize, users } = batch;
    const own = { table, bags, batchSize, ...(users === undefined ? {} : { users }) };
    const out = new Float32Array(batch.batchSize * table.dim);
    for (let b = 0; b < batch.batchSize; b++) {
      const start = b * width + column;
      out.set(pooled.subarray(start, start + table.dim), b * table.dim);
    }
    column += table.dim;
    const label = `${what}: table ${t} (${table.name}, ${table.mode}, dim ${table.dim}, ${table.rowFormat})`;
    const weighted = bags.weights !== undefined || table.rowWeights !== undefined;
    const inOrder = subject.addsInIndexOrder && longestBag(bags) <= subject.longestInOrder;
    const exact =
      inOrder && !weighted && (subject.addsQuantizedInIndexOrder || !isQuantized(table.rowFormat));
    const { expected, magnitudes } = expectedOf(own, exact, checking === 'error');
    if (exact) {
      assertSameValues(out, expected, label);
      return;
    }
    const roundings = bags.indices.length + 2;
    assertWithin(out, expected, (i) => roundings * FLOAT32_ROUNDING * (magnitudes[i] as number), label);
  });
}

/** Whether the backend adds every bag of a problem in index order under every plan. */
export function keepsOrder(
  {
    longestInOrder,
    addsQuantizedInIndexOrder,
  }: Pick<Subject, 'longestInOrder' | 'addsQuantizedInIndexOrder'>,
  { tables, batch }: Problem,
): boolean {
  const ordered = addsQuantizedInIndexOrder || tables.every(({ rowFormat }) => !isQuantized(rowFormat));
  return ordered && batch.bags.every((own) => longestBag(own) <= longestInOrder);
}

/** Lookups of the longest bag, its offsets clamped into the lookups. */
function longestBag({ indices, offsets }: Bags): number {
  const at = Array.from(offsets as Iterable<number | bigint>, (offset) =>
    Math.min(indices.length, Math.max(0, Number(offset))),
  );
  return at.reduce((longest, start, b) => Math.max(longest, (at[b + 1] ?? indices.length) - start), 0);
}

interface Expected {
  readonly expected: Float64Array;
  /** Empty where the values are compared bit for bit. */
  readonly magnitudes: Float64Array;
}

/** References by table and bags: most problems meet many backends and plans. */
const known = new WeakMap<EmbeddingTable, WeakMap<Bags, Map<boolean, Expected>>>();

function expectedOf(own: OneTable, exact: boolean, refuses: boolean): Expected {
  const { table, bags } = own;
  const ofTable = known.get(table) ?? new WeakMap<Bags, Map<boolean, Expected>>();
  known.set(table, ofTable);
  const ofBags = ofTable.get(bags) ?? new Map<boolean, Expected>();
  ofTable.set(bags, ofBags);
  const found = ofBags.get(exact);
  if (found !== undefined) return found;
  const batch = batchOf(own, bags);
  const checking = refuses ? 'error' : 'ignore';
  const { pooled } = referenceEmbeddingBags([table], batch, checking, exact ? 'float32' : 'float64');
  const made = { expected: pooled, magnitudes: exact ? new Float64Array() : magnitudeOf(own) };
  ofBags.set(exact, made);
  return made;
}

/** Σ |weight · x| for every output. */
function magnitudeOf(own: OneTable): Float64Array {
  const { table, bags } = own;
  const absolute = (values: Float32Array) => values.map(Math.abs);
  const { rowWeights, ...rest } = table;
  const { weights, ...lookups } = bags;
  const rows = absoluteRows(table);
  const positive: EmbeddingTable = {
    ...rest,
    rowFormat: 'float32',
    mode: 'sum',
    weight: { dtype: 'float32', shape: [table.rows, table.dim], data: rows },
    ...(rowWeights === undefined ? {} : { rowWeights: absolute(rowWeights) }),
  };
  const positiveBags = { ...lookups, ...(weights === undefined ? {} : { weights: absolute(weights) }) };
  return referenceEmbeddingBags([positive], batchOf(own, positiveBags), 'ignore').pooled;
}

/** `bags` as the only ones of the table's batch. */
function batchOf({ batchSize, users }: OneTable, bags: Bags): BagBatch {
  return { batchSize, bags: [bags], ...(users === undefined ? {} : { users }) };
}

/** |x|; of quantised rows |scale · q| + |bias|, whose sums may be rounded apart. */
function absoluteRows(table: EmbeddingTable): Float32Array {
  const { rowFormat, rows, dim } = table;
  const weight = hostWeight(table);
  if (!isQuantized(rowFormat)) return toFloat32(weight).map(Math.abs);
  const stride = rowBytes({ dim, rowFormat });
  return Float32Array.from({ length: rows * dim }, (_, i) => {
    const row = (weight.data as Uint8Array).subarray(Math.floor(i / dim) * stride).subarray(0, stride);
    const { scale, bias } = headerOf(row, rowFormat);
    return Math.abs(scale * storedElement(row, i % dim, rowFormat)) + Math.abs(bias);
  });
}

interface OneTable {
  readonly table: EmbeddingTable;
  readonly bags: Bags;
  readonly batchSize: number;
  readonly users?: Int32Array;
}
