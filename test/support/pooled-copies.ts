/** A bottom layer beside pooled rows, a cross layer, and a top layer: a program that reads copies in 8 bits. */
import { mock } from 'node:test';
import { columns, type LinearOperation, type Matrix, type Operation } from '../../src/backend/backend.ts';
import type { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { DenseLibrary } from '../../src/backend/cuda/dense/dense-library.ts';
import type { CudaSwitches } from '../../src/backend/cuda-switches.ts';
import { scaledWeight } from '../../src/backend/scaled-weight.ts';
import { Workspace } from '../../src/backend/workspace.ts';
import type { DensePrecision } from '../../src/device.ts';
import type { BagBatch, EmbeddingTable } from '../../src/embedding/bag.ts';
import { placeCollection, totalDim } from '../../src/model/collection.ts';
import type { PlanChoice } from '../../src/plan/plan.ts';
import { randomBags } from './cases.ts';
import { Random } from './random.ts';

/** Columns of the bottom layer's output. */
export const BESIDE = 16;
const RANK = 16;
const FEATURES = 4;

export interface PooledCase {
  readonly tables: readonly EmbeddingTable[];
  /** Of at most `capacity` samples. */
  readonly batches: readonly BagBatch[];
  readonly capacity: number;
  readonly plan?: PlanChoice;
  /** Of the cross layer's first product; default: float8_e4m3. */
  readonly precision?: DensePrecision;
  /** Whether the cross layer's output goes into a layer in 8 bits, and is no result itself. */
  readonly topped?: boolean;
}

export interface PooledResults {
  /** x0, the product of it, and the cross layer's output, or the top layer's, of each batch. */
  readonly results: readonly Uint16Array[];
  /** The columns that `round_rows` made of each matrix. */
  readonly rounded: readonly number[];
  /** The kernels that pooled. */
  readonly kernels: readonly string[];
}

/** Runs each batch, all by one program; the backend is disposed. */
export async function runPooled(
  open: (switches: CudaSwitches) => CudaBackend,
  switches: CudaSwitches,
  { tables, batches, capacity, plan, precision = 'float8_e4m3', topped = false }: PooledCase,
): Promise<PooledResults> {
  using backend = open(switches);
  using placed = await placeCollection(backend, tables, plan);
  const random = new Random(5);
  const width = BESIDE + totalDim(tables);
  const { block, made } = Workspace.of(backend, (workspace) => {
    const halves = (cols: number) => workspace.matrix(capacity, cols, 'float16');
    const given = workspace.packed(capacity, FEATURES);
    return { given, x0: halves(width), low: halves(RANK), x1: halves(width), top: halves(RANK) };
  });
  using _block = block;
  const { given, x0, low, x1, top } = made;
  const outputs = [x0, low, topped ? top : x1];
  const layer = (input: Matrix, output: Matrix, own: DensePrecision): LinearOperation => {
    const weight = random.reals(output.cols * input.cols).map((w) => w / Math.sqrt(input.cols));
    const stored =
      own === 'float8_e4m3' ? { ...scaledWeight(weight, output.cols), inputScale: 2 ** -4 } : weight;
    const bias = random.reals(output.cols);
    const linear = backend.placeLinear(stored, bias, output.cols, input.cols, own);
    return { op: 'linear', layer: linear, input, output, activation: 'none' };
  };
  const layers = [
    layer(given, columns(x0, 0, BESIDE), 'float16'),
    layer(x0, low, precision),
    { ...layer(low, x1, topped ? precision : 'float16'), cross: { x0, x: x0 } },
    ...(topped ? [layer(x1, top, 'float8_e4m3')] : []),
  ];
  const rounds = mock.method(DenseLibrary.prototype, 'roundRows');
  try {
    const output = columns(x0, BESIDE, width - BESIDE);
    using program = backend.prepare([
      { op: 'embeddingBags', tables: placed, bags: 'bags', output, checking: 'error' },
      { op: 'upload', source: 'given', output: given },
      ...layers,
      ...outputs.map((input, i): Operation => ({ op: 'download', input, target: `out ${i}` })),
    ]);
    const results: Uint16Array[] = [];
    const kernels: string[] = [];
    for (const batch of batches) {
      using bags = backend.placeBags(placed, batch);
      const targets = outputs.map(({ cols }) => new Uint16Array(batch.batchSize * cols));
      const bound = Object.fromEntries(targets.map((target, i) => [`out ${i}`, target]));
      const source = random.reals(batch.batchSize * FEATURES);
      const report = await program.run({ bags, given: source, ...bound }, { timing: 'none' });
      kernels.push(...report.kernels.map(({ id }) => id));
      results.push(...targets);
    }
    const rounded = rounds.mock.calls.map(({ arguments: [, , { cols }] }) => cols);
    return { results, rounded, kernels };
  } finally {
    rounds.mock.restore();
    for (const { layer: own } of layers) own[Symbol.dispose]();
  }
}

/** Random bags of at most `longest` lookups for each table. */
export function pooledBatch(
  tables: readonly EmbeddingTable[],
  batchSize: number,
  seed: number,
  longest = 6,
): BagBatch {
  const random = new Random(seed);
  const lengths = [0, longest] as const;
  return {
    batchSize,
    bags: tables.map(({ rows }) => randomBags(random, { batch: batchSize, rows, lengths })),
  };
}
