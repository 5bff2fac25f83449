/** Batches pooled by the fused CUDA kernel on the host, and what they must come to. */
import assert from 'node:assert/strict';
import { bagKinds } from '../../src/backend/cuda/embedding/bag-kinds.ts';
import { blocksPerTable, fusedLayout } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { FusedBagsParams, FusedSegment, FusedTable } from '../../src/backend/cuda/embedding/fused-params.ts';
import {
  type FusedKind,
  type FusedVariant,
  fusedShape,
  fusedSource,
} from '../../src/backend/cuda/embedding/fused-source.ts';
import { type UserRows, userRows } from '../../src/backend/user-rows.ts';
import { type Bags, bagCount } from '../../src/embedding/bag.ts';
import { isQuantized } from '../../src/embedding/row-format.ts';
import { assertPooled } from '../conformance/subject.ts';
import type { Problem } from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { deviceRows, expectedOf } from '../support/cuda-bags.ts';
import { addressOf, emulate, type HostArray } from './emulator.ts';

const SENTINEL = 12345.5;
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
}

interface Pooled {
  /** [B, Σ dim]. */
  readonly pooled: Float32Array;
  readonly findings: bigint;
}

/** Pools a batch in one launch; the output lies inside a frame of sentinels. */
export async function pool({ tables, batch }: Problem, options: Options = {}): Promise<Pooled> {
  const { checking = 'stop', inFlight = 4, pipelined = false, threads = 64 } = options;
  const { bagsPerGroup = 1, backwards = false, laneBytes, turn } = options;
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
    splits: segments.length > 0,
    several: bagsPerGroup > 1,
    flight: { rows: inFlight, pipelined },
    threads,
  };
  const source = fusedSource(variant);
  const emulator = await emulate([source]);

  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  const stride = width + 2 * MARGIN;
  const output = new Float32Array(batchSize * stride).fill(SENTINEL);
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
  const userOutput = new Float32Array((users?.count ?? 0) * (users?.width ?? 0)).fill(SENTINEL);
  const counted = ordinary.map((shape, t) => ({ count: bagCount(bags[t] as Bags, batch), shape }));
  const perTable = blocksPerTable(counted, bagsPerGroup, threads);
  emulator.launch(source.kernel, {
    grid: [segments.length + tables.length * perTable],
    block: [threads],
    params: FusedBagsParams.encode({
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
    writes: [output, userOutput, partials, arrivals, findings],
    backwards,
  });
  assert.ok(
    arrivals.every((count) => count === 0),
    'counters are ready for the next launch',
  );
  const pooled = new Float32Array(batchSize * width);
  for (let b = 0; b < batchSize; b++) {
    const row = output.subarray(b * stride, (b + 1) * stride);
    const frame = [...row.subarray(0, MARGIN), ...row.subarray(MARGIN + width)];
    assert.ok(
      frame.every((x) => x === SENTINEL),
      `row ${b}: something was written beside the output`,
    );
    pooled.set(row.subarray(MARGIN, MARGIN + width), b * width);
  }
  for (const { from, to, columns: count } of users?.spans ?? []) {
    for (let b = 0; b < batchSize; b++) {
      const own = pooled.subarray(b * width + to, b * width + to + count);
      assert.ok(
        own.every((x) => x === SENTINEL),
        `row ${b}: a user's columns were written`,
      );
      const user = (users as UserRows).starts.findLastIndex((start) => start <= b);
      const start = user * (users as UserRows).width + from;
      own.set(userOutput.subarray(start, start + count));
    }
  }
  return { pooled, findings: findings[0] as bigint };
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
