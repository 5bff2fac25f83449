/** Batches pooled by the fused CUDA kernel on the host, and what they must come to. */
import assert from 'node:assert/strict';
import { floatBits } from '../../src/backend/cuda/dense/dense-library.ts';
import { bagKinds } from '../../src/backend/cuda/embedding/bag-kinds.ts';
import { blocksPerTable, fusedLayout } from '../../src/backend/cuda/embedding/fused-layout.ts';
import {
  FusedBagsParams,
  FusedSegment,
  FusedTable,
  RoundedBagsParams,
} from '../../src/backend/cuda/embedding/fused-params.ts';
import {
  type FusedKind,
  type FusedVariant,
  fusedShape,
  fusedSource,
} from '../../src/backend/cuda/embedding/fused-source.ts';
import { type UserRows, userRows } from '../../src/backend/user-rows.ts';
import { type Bags, bagCount } from '../../src/embedding/bag.ts';
import { isQuantized } from '../../src/embedding/row-format.ts';
import { numberToFloat8 } from '../../src/float8.ts';
import { assertPooled } from '../conformance/subject.ts';
import type { Problem } from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { deviceRows, expectedOf } from '../support/cuda-bags.ts';
import { decoded, type Elements, encoded, newElements, roundedTo } from '../support/elements.ts';
import { addressOf, emulate, type HostArray } from './emulator.ts';

/** In float16 too. */
const SENTINEL = 12344;
const SENTINEL_BYTE = 0x55;
const MARGIN = 4;
/** Of the GPU that is emulated. */
const MULTIPROCESSORS = 132;

interface Options extends Partial<Pick<FusedVariant, 'checking' | 'threads'>> {
  readonly inFlight?: number;
  readonly pipelined?: boolean;
  readonly laneBytes?: number;
  readonly turn?: number;
  readonly bagsPerGroup?: number;
  readonly backwards?: boolean;
  /** The output is float16, and written in 8 bits too, by this scale. */
  readonly scale?: number;
}

interface Pooled {
  /** [B, Σ dim]. */
  readonly pooled: Float32Array;
  /** The same in 8 bits, if asked for. */
  readonly copy: Uint8Array;
  readonly findings: bigint;
}

/** Runs all of the cases: what kernels they need is compiled at once, which takes less than one after the other. */
export async function together<T>(cases: readonly T[], run: (own: T) => Promise<void>): Promise<void> {
  await Promise.all(cases.map(run));
}

/** Pools a batch in one launch; the output lies inside a frame of sentinels. */
export async function pool({ tables, batch }: Problem, options: Options = {}): Promise<Pooled> {
  const { checking = 'stop', inFlight = 4, pipelined = false, threads = 64 } = options;
  const { bagsPerGroup = 1, backwards = false, laneBytes, turn, scale } = options;
  const format = scale === undefined ? 'float32' : 'float16';
  const { batchSize, bags } = batch;
  const { distinct, numbers, shapes } = bagKinds(tables, bags);
  const layout = fusedLayout(batch, shapes, MULTIPROCESSORS);
  const users = userRows(batch, tables);
  const { segments, slots, partialWidth } = layout;
  const kinds = distinct.map((kind) => ({
    ...kind,
    ...(laneBytes === undefined ? {} : { laneBytes }),
    ...(turn === undefined ? {} : { turn }),
  }));
  const ordinary = numbers.map((kind) => fusedShape(kinds[kind] as FusedKind));
  const variant: FusedVariant = {
    kinds,
    checking,
    output: format,
    rounds: scale !== undefined,
    splits: segments.length > 0,
    several: bagsPerGroup > 1,
    flight: { rows: inFlight, pipelined },
    threads,
  };
  const source = fusedSource(variant);
  const emulator = await emulate([source]);

  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  const stride = width + 2 * MARGIN;
  const output = newElements(format, batchSize * stride).fill(encoded(format, SENTINEL));
  const copies = new Uint8Array(scale === undefined ? 0 : batchSize * stride).fill(SENTINEL_BYTE);
  let column = MARGIN;
  const columns = tables.map(({ dim }) => {
    column += dim;
    return column - dim;
  });
  const rows = tables.map((table) => deviceRows(table) as HostArray);
  const described = tables.map((table, t) => {
    const { indices, offsets, weights } = bags[t] as Bags;
    return {
      rows: addressOf(rows[t] as HostArray),
      rowCount: table.rows,
      indices: addressOf(indices),
      lookups: indices.length,
      offsets: addressOf(offsets),
      offsetCount: offsets.length,
      weights: weights === undefined ? 0n : addressOf(weights),
      rowWeights: table.rowWeights === undefined ? 0n : addressOf(table.rowWeights),
      paddingIndex: table.paddingIdx ?? -1,
      column: (bags[t] as Bags).perUser === true ? (users?.columns[t] as number) : (columns[t] as number),
      kind: numbers[t] as number,
    };
  });
  const descriptors = FusedTable.encodeAll(described);
  const segmentArray = FusedSegment.encodeAll(segments);
  const arrivals = new Uint32Array(layout.arrivals);
  const partials = new Float32Array(slots * partialWidth);
  const findings = new BigInt64Array(1);
  const userElements = (users?.count ?? 0) * (users?.width ?? 0);
  const userOutput = newElements(format, userElements).fill(encoded(format, SENTINEL));
  const userCopies = new Uint8Array(scale === undefined ? 0 : userElements).fill(SENTINEL_BYTE);
  const counted = ordinary.map((shape, t) => ({ count: bagCount(bags[t] as Bags, batch), shape }));
  const perTable = blocksPerTable(counted, bagsPerGroup, threads);
  const params = {
    tables: addressOf(descriptors),
    batch: batchSize,
    blocksPerTable: perTable,
    bagsPerGroup,
    output: addressOf(output),
    outputStride: stride,
    findings: addressOf(findings),
    split: layout.split,
    segments: addressOf(segmentArray),
    segmentCount: segments.length,
    partials: addressOf(partials),
    partialWidth,
    arrivals: addressOf(arrivals),
    users: users?.count ?? 0,
    userOutput: addressOf(userOutput),
    userOutputStride: users?.width ?? 0,
  };
  emulator.launch(source.kernel, {
    grid: [segments.length + tables.length * perTable],
    block: [threads],
    params:
      scale === undefined
        ? FusedBagsParams.encode(params)
        : RoundedBagsParams.encode({
            ...params,
            rounded: addressOf(copies),
            roundedStride: stride,
            roundedInverse: floatBits(1 / Math.fround(scale)),
            userRounded: addressOf(userCopies),
          }),
    reads: [
      descriptors,
      segmentArray,
      ...rows,
      ...tables.flatMap(({ rowWeights }) => (rowWeights === undefined ? [] : [rowWeights])),
      ...bags.flatMap(({ indices, offsets, weights }) => [
        indices,
        offsets,
        ...(weights === undefined ? [] : [weights]),
      ]),
    ],
    writes: [output, userOutput, copies, userCopies, partials, arrivals, findings],
    backwards,
  });
  assert.ok(
    arrivals.every((count) => count === 0),
    'counters are ready for the next launch',
  );
  const shape = { batchSize, width, users };
  return {
    pooled: Float32Array.from(unframed(output, userOutput, shape, encoded(format, SENTINEL)), (element) =>
      decoded(format, element),
    ),
    copy: Uint8Array.from(scale === undefined ? [] : unframed(copies, userCopies, shape, SENTINEL_BYTE)),
    findings: findings[0] as bigint,
  };
}

/** [batchSize, width] from between its margins, with the rows of users at their candidates. */
function unframed(
  output: Elements | Uint8Array,
  userOutput: Elements | Uint8Array,
  { batchSize, width, users }: { batchSize: number; width: number; users: UserRows | undefined },
  sentinel: number,
): number[] {
  const stride = width + 2 * MARGIN;
  const all: number[] = [];
  for (let b = 0; b < batchSize; b++) {
    const row = Array.from(output.subarray(b * stride, (b + 1) * stride));
    const frame = [...row.slice(0, MARGIN), ...row.slice(MARGIN + width)];
    assert.ok(
      frame.every((x) => x === sentinel),
      `row ${b}: something was written beside the output`,
    );
    const own = row.slice(MARGIN, MARGIN + width);
    for (const { from, to, columns: count } of users?.spans ?? []) {
      assert.ok(
        own.slice(to, to + count).every((x) => x === sentinel),
        `row ${b}: a user's columns were written`,
      );
      const user = (users as UserRows).starts.findLastIndex((start) => start <= b);
      const start = user * (users as UserRows).width + from;
      own.splice(to, count, ...userOutput.subarray(start, start + count));
    }
    all.push(...own);
  }
  return all;
}

/** Asserts that pooled rows in float16 and in 8 bits are what those in float32 come to, bit for bit; some of them saturate. */
export async function assertRounded(problem: Problem, options: Options, what: string): Promise<void> {
  const { pooled } = await pool(problem, options);
  const finite = pooled.filter(Number.isFinite);
  const largest = finite.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const scale = Math.fround(largest / 448 / 1.5) || 1;
  const made = await pool(problem, { ...options, scale });
  const halves = Float32Array.from(pooled, (x) => roundedTo('float16', x));
  assertSameValues(made.pooled, Float64Array.from(halves), `${what}, in float16`);
  const inverse = Math.fround(1 / scale);
  const expected = Uint8Array.from(halves, (x) => numberToFloat8(Math.fround(x * inverse)));
  assert.deepEqual(made.copy, expected, `${what}, in 8 bits`);
  if (largest > 0)
    assert.ok(
      expected.some((bits) => (bits & 0x7f) === 0x7e),
      `${what}: something saturates`,
    );
}

/** Rows of floats bit for bit; quantised ones, whose biases are added up by themselves, within rounding. */
export function assertExact(pooled: Float32Array, { tables, batch }: Problem, what: string): void {
  const order = {
    addsInIndexOrder: true,
    addsQuantizedInIndexOrder: false,
    longestInOrder: Number.POSITIVE_INFINITY,
  };
  assertPooled(order, pooled, { tables, batch }, what);
  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  let column = 0;
  tables.forEach((table, t) => {
    const expected = expectedOf(table, batch.bags[t] as Bags, batch.batchSize);
    const own = new Float32Array(batch.batchSize * table.dim);
    for (let b = 0; b < batch.batchSize; b++) {
      const start = b * width + column;
      own.set(pooled.subarray(start, start + table.dim), b * table.dim);
    }
    column += table.dim;
    if (isQuantized(table.rowFormat)) return;
    assertSameValues(own, expected, `${what}: table ${t} (${table.name}, ${table.mode})`);
  });
}
