/**
 * One operator on a backend. Results go into the middle of a wider matrix full of sentinels, so that strides are always
 * in play and a write outside the result is seen.
 */
import assert from 'node:assert/strict';
import {
  type Activation,
  type Backend,
  columns,
  type DeviceBuffer,
  elementBytes,
  type Matrix,
  matrix,
  type Operation,
  type PlacedTables,
} from '../../src/backend/backend.ts';
import { HostBags } from '../../src/backend/host-arrays.ts';
import { ROW_FUNCTIONS, type RowFunction } from '../../src/backend/row-functions.ts';
import type { ScaledWeight } from '../../src/backend/scaled-weight.ts';
import type { HostArray } from '../../src/cuda/memory.ts';
import { activationsOn, type DensePrecision, type ElementFormat, precisionOn } from '../../src/device.ts';
import type { BagBatch, BagFindings, Bags, EmbeddingTable, IndexChecking } from '../../src/embedding/bag.ts';
import { placeCollection, totalDim } from '../../src/model/collection.ts';
import { type Plan, plainPlan } from '../../src/plan/plan.ts';
import { decoded, encoded, newElements } from './elements.ts';

const SENTINEL = 12344;

/** Columns of sentinels left and right of a framed matrix, which leave its rows unaligned. */
const LEFT = 3;
const RIGHT = 2;

/** A [rows, cols] matrix inside a frame of sentinels. */
class Framed implements Disposable {
  readonly inner: Matrix;
  readonly #buffer: DeviceBuffer;
  readonly #whole: Matrix;

  constructor(
    backend: Backend,
    readonly rows: number,
    readonly cols: number,
    readonly format: ElementFormat = 'float32',
  ) {
    const stride = LEFT + cols + RIGHT;
    this.#buffer = backend.allocate(Math.ceil((rows * stride * elementBytes({ format })) / 4));
    this.#whole = { ...matrix(this.#buffer, rows, stride), format };
    this.inner = columns(this.#whole, LEFT, cols);
  }

  /** Fills the frame with sentinels and the inside with `values` [rows, cols] (default: sentinels too). */
  fill(values?: Float32Array): Operation[] {
    const { rows, cols, format } = this;
    const stride = this.#whole.cols;
    const { length } = this.#buffer;
    const elements = newElements(format, (length * 4) / elementBytes({ format })).fill(
      encoded(format, SENTINEL),
    );
    for (let i = 0; values !== undefined && i < rows * cols; i++)
      elements[Math.floor(i / cols) * stride + LEFT + (i % cols)] = encoded(format, values[i] as number);
    // The bits as they are: words of the buffer.
    const source = new Float32Array(elements.buffer);
    return [{ op: 'upload', source, output: matrix(this.#buffer, 1, length) }];
  }

  /** Reads the whole matrix back; `inside` checks the frame and gives the values. */
  readBack(): { operation: Operation; inside(): Float32Array } {
    const { rows, cols, format } = this;
    const stride = this.#whole.cols;
    const target = newElements(format, rows * stride);
    return {
      operation: { op: 'download', input: this.#whole, target },
      inside: () => {
        const values = new Float32Array(rows * cols);
        target.forEach((x, i) => {
          const [r, c] = [Math.floor(i / stride), (i % stride) - LEFT];
          if (c >= 0 && c < cols) values[r * cols + c] = decoded(format, x);
          else if (x !== encoded(format, SENTINEL))
            assert.fail(`row ${r}: something was written beside the output`);
        });
        return values;
      },
    };
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

export interface Pooled {
  /** [B, Σ dim]. */
  readonly pooled: Float32Array;
  readonly findings: BagFindings;
}

/** Pools a batch on placed tables. */
export async function poolPlaced(
  backend: Backend,
  placed: PlacedTables,
  batch: BagBatch,
  checking: IndexChecking = 'error',
): Promise<Pooled> {
  using bags = backend.placeBags(placed, batch);
  using output = new Framed(backend, batch.batchSize, totalDim(placed.tables));
  const result = output.readBack();
  const { findings } = await backend.run([
    ...output.fill(),
    { op: 'embeddingBags', tables: placed, bags, output: output.inner, checking },
    result.operation,
  ]);
  return { pooled: result.inside(), findings };
}

/**
 * Pools a batch on placed tables into rows of 16-bit elements, `left` columns of 0xAAAA before and one behind each; the
 * elements' bits, [B, Σ dim].
 */
export async function poolNarrow(
  backend: Backend,
  placed: PlacedTables,
  batch: BagBatch,
  format: Exclude<ElementFormat, 'float32'>,
  left: number,
): Promise<Uint16Array> {
  const cols = totalDim(placed.tables);
  const stride = left + cols + 1;
  const rows = batch.batchSize;
  const words = Math.ceil((rows * stride) / 2);
  using bags = backend.placeBags(placed, batch);
  using buffer = backend.allocate(words);
  const sentinels = new Float32Array(new Uint16Array(2 * words).fill(0xaaaa).buffer);
  const whole: Matrix = { buffer, offset: 0, rows, cols: stride, stride, format };
  const target = new Uint16Array(rows * stride);
  await backend.run([
    { op: 'upload', source: sentinels, output: matrix(buffer, 1, words) },
    {
      op: 'embeddingBags',
      tables: placed,
      bags,
      output: { ...whole, offset: left, cols },
      checking: 'error',
    },
    { op: 'download', input: whole, target },
  ]);
  const pooled = new Uint16Array(rows * cols);
  for (let b = 0; b < rows; b++) {
    const row = target.subarray(b * stride, (b + 1) * stride);
    const frame = [...row.subarray(0, left), ...row.subarray(left + cols)];
    assert.ok(
      frame.every((bits) => bits === 0xaaaa),
      `row ${b}: something was written beside the output`,
    );
    pooled.set(row.subarray(left, left + cols), b * cols);
  }
  return pooled;
}

/** A batch whose arrays lie in host memory of the backend, those that `chosen` takes. */
export function inHostMemory(
  backend: Backend,
  batch: BagBatch,
  chosen: (array: HostArray) => boolean = () => true,
): { readonly batch: BagBatch; [Symbol.dispose](): void } {
  const moved = new HostBags(backend, batch.bags);
  const either = <A extends HostArray>(array: A, home: A): A => (chosen(array) ? home : array);
  const bags = batch.bags.map((own, t) => {
    const home = moved.bags[t] as Bags;
    return {
      ...own,
      indices: either(own.indices, home.indices),
      offsets: either(own.offsets, home.offsets),
      ...(own.weights === undefined || home.weights === undefined
        ? {}
        : { weights: either(own.weights, home.weights) }),
    };
  });
  return { batch: { ...batch, bags }, [Symbol.dispose]: () => moved[Symbol.dispose]() };
}

/** Places tables, by default under the plain plan, and pools a batch. */
export async function poolOn(
  backend: Backend,
  tables: readonly EmbeddingTable[],
  batch: BagBatch,
  options: { readonly plan?: Plan; readonly checking?: IndexChecking } = {},
): Promise<Pooled> {
  const plan = options.plan ?? plainPlan(backend.device.kind);
  using placed = await placeCollection(backend, tables, plan);
  return await poolPlaced(backend, placed, batch, options.checking);
}

export interface LinearProblem {
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly input: Float32Array;
  readonly weight: Float32Array;
  readonly bias?: Float32Array | undefined;
  readonly activation: Activation;
  readonly cross?: { readonly x0: Float32Array; readonly x: Float32Array } | undefined;
}

export interface LinearOptions {
  /** The cross layer's output is its x. */
  readonly inPlace?: boolean;
  /** Default: the device's. */
  readonly precision?: DensePrecision;
  /** Of what is read and written; default: float32. A cross reads what it writes. */
  readonly formats?: readonly [input: ElementFormat, output: ElementFormat];
  /** Placed instead of the problem's weight. */
  readonly scaled?: ScaledWeight;
}

/** A linear layer on a backend. */
export async function linearOn(
  backend: Backend,
  problem: LinearProblem,
  { inPlace = false, precision, formats: [from, to] = ['float32', 'float32'], scaled }: LinearOptions = {},
): Promise<Float32Array> {
  const { batch, inputs, outputs, cross, activation } = problem;
  const multiplied = precisionOn(backend.device, precision);
  const weight = scaled ?? problem.weight;
  using layer = backend.placeLinear(weight, problem.bias, outputs, inputs, multiplied);
  using input = new Framed(backend, batch, inputs, from);
  using output = new Framed(backend, batch, outputs, to);
  using x0 = new Framed(backend, batch, outputs, to);
  using other = new Framed(backend, batch, outputs, to);
  const x = inPlace ? output : other;
  const result = output.readBack();
  await backend.run([
    ...input.fill(problem.input),
    ...output.fill(),
    ...(cross ? [...x0.fill(cross.x0), ...x.fill(cross.x)] : []),
    {
      op: 'linear',
      layer,
      input: input.inner,
      output: output.inner,
      activation,
      ...(cross ? { cross: { x0: x0.inner, x: x.inner } } : {}),
    },
    result.operation,
  ]);
  return result.inside();
}

export interface DotProblem {
  readonly batch: number;
  readonly features: number;
  readonly dim: number;
  readonly input: Float32Array;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
}

/** A dot interaction on a backend, by default in its own precision; matrices have that precision's format. */
export async function dotInteractionOn(
  backend: Backend,
  problem: DotProblem,
  wanted?: DensePrecision,
): Promise<Float32Array> {
  const { batch, features, dim, diagonal, order } = problem;
  const precision = precisionOn(backend.device, wanted);
  const pairs = (features * (features + (diagonal ? 1 : -1))) / 2;
  const format = activationsOn(backend.device, precision);
  using input = new Framed(backend, batch, features * dim, format);
  using output = new Framed(backend, batch, pairs, format);
  const result = output.readBack();
  await backend.run([
    ...input.fill(problem.input),
    ...output.fill(),
    {
      op: 'dotInteraction',
      input: input.inner,
      ...{ features, dim, diagonal, order, precision },
      output: output.inner,
    },
    result.operation,
  ]);
  return result.inside();
}

/** Rows, and the function of each that is wanted. */
export interface RowProblem {
  readonly function: RowFunction;
  readonly batch: number;
  readonly columns: number;
  readonly input: Float32Array;
}

/** A function of rows on a backend. */
export async function rowFunctionOn(
  backend: Backend,
  problem: RowProblem,
  format: ElementFormat = 'float32',
): Promise<Float32Array> {
  const { function: name, batch, columns } = problem;
  using input = new Framed(backend, batch, columns, format);
  using output = new Framed(backend, batch, ROW_FUNCTIONS[name].outputs(columns), format);
  const result = output.readBack();
  await backend.run([
    ...input.fill(problem.input),
    ...output.fill(),
    { op: 'rowFunction', function: name, input: input.inner, output: output.inner },
    result.operation,
  ]);
  return result.inside();
}
