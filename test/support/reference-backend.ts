/** The backend contract over the plain references: slow, obvious, and what other backends' models are compared with. */

import { at } from '../../src/at.ts';
import { Admission } from '../../src/backend/admission.ts';
import {
  type Backend,
  type Bindings,
  type BoundOperation,
  type Ceilings,
  columns,
  type DeviceBuffer,
  type DownloadOperation,
  type EmbeddingBagsOperation,
  type Executable,
  elementBytes,
  firstRows,
  type HostMemory,
  type Matrix,
  type Operation,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type PlaceOptions,
  type RunReport,
  rowsIn,
  type TransferOperation,
} from '../../src/backend/backend.ts';
import { HostArrays } from '../../src/backend/host-arrays.ts';
import { OneAtATime, stageSeconds, Template } from '../../src/backend/slots.ts';
import {
  REFERENCE_ROW_FUNCTIONS,
  referenceDotInteraction,
  referenceLinear,
} from '../../src/dense/reference.ts';
import type { DeviceDescription } from '../../src/device.ts';
import {
  type BagBatch,
  type BagFindings,
  type EmbeddingTable,
  type IndexArray,
  rowBytes,
} from '../../src/embedding/bag.ts';
import { checkBagShapes } from '../../src/embedding/check-bags.ts';
import { referenceCheckBags, referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import {
  checkRowNumbers,
  checkRowUpdate,
  type RowValues,
  rowNumbers,
  updatePiece,
  viewRows,
} from '../../src/embedding/row-values.ts';
import { DeviceError, PlanError } from '../../src/errors.ts';
import { devicePlacement, type Placement } from '../../src/plan/placement.ts';
import { type Plan, placementKey } from '../../src/plan/plan.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import {
  type HostTensor,
  isHost,
  isStored,
  numberToBfloat16,
  numberToFloat16,
  type Tensor,
  viewElements,
} from '../../src/tensor.ts';
import { rowsTensor } from './cases.ts';
import { CPU_CAPABILITIES } from './devices.ts';
import { Random } from './random.ts';

/** Something that is gone after its disposal. */
class Resource<T> implements Disposable {
  #value: T | undefined;

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    if (this.#value === undefined) throw new DeviceError('DISPOSED', 'memory was used after it was disposed');
    return this.#value;
  }

  [Symbol.dispose](): void {
    this.#value = undefined;
  }
}

class ReferenceBuffer extends Resource<Float32Array> implements DeviceBuffer {
  constructor(
    readonly device: DeviceDescription,
    readonly length: number,
  ) {
    // Uninitialised memory: whoever reads it sees NaN.
    super(new Float32Array(length).fill(Number.NaN));
  }
}

class ReferenceTables implements PlacedTables {
  readonly allocatedBytes = 0;
  readonly notes = [];

  constructor(
    readonly device: DeviceDescription,
    readonly tables: readonly EmbeddingTable[],
    readonly plan: Plan,
    readonly placement: Placement,
    readonly host: Resource<EmbeddingTable[]>,
  ) {}

  async updateRows(t: number, rows: IndexArray, values: RowValues): Promise<void> {
    const table = at(this.tables, t);
    const update = checkRowUpdate(table, rows, values);
    const width = rowBytes(table);
    const { weight } = at(this.host.value, t);
    const bytes = bytesOfRows(weight);
    for (let i = 0; i < update.count; i++) {
      const { values: row } = updatePiece(update, i, 1);
      // Read before the first is written: an update is made whole or not at all.
      if (i === 0) rowNumbers(table, update.rows, 0, update.count);
      bytes.set(row, Number(rows[i]) * width);
    }
    // Whoever gave the rows keeps them.
    const changed = { ...weight, data: viewElements(weight.dtype, bytes) } as HostTensor;
    for (const [other, own] of this.tables.entries())
      if (own.weight === table.weight)
        this.host.value[other] = { ...at(this.host.value, other), weight: changed };
  }

  async readRows(t: number, rows: IndexArray): Promise<RowValues> {
    const table = at(this.tables, t);
    const width = rowBytes(table);
    const bytes = bytesOfRows(at(this.host.value, t).weight);
    const numbers = rowNumbers(table, checkRowNumbers(table, rows), 0, rows.length);
    const read = new Uint8Array(numbers.length * width);
    for (const [i, row] of numbers.entries())
      read.set(bytes.subarray(Number(row) * width, (Number(row) + 1) * width), i * width);
    return viewRows(table, read);
  }

  withPlan(plan: Plan): ReferenceTables {
    if (placementKey(plan) !== placementKey(this.plan)) {
      throw new PlanError('PLAN_ILLEGAL', 'the plan needs another placement');
    }
    return new ReferenceTables(this.device, this.tables, plan, this.placement, this.host);
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}

/** The bytes of a table's rows, a copy. */
function bytesOfRows(weight: Tensor): Uint8Array {
  const { data } = weight as HostTensor;
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
}

class ReferenceBags extends Resource<BagBatch> implements PlacedBags {
  readonly batchSize: number;
  readonly lookups: number;
  readonly kind = 'any';

  constructor(batch: BagBatch) {
    super(batch);
    this.batchSize = batch.batchSize;
    this.lookups = batch.bags.reduce((sum, { indices }) => sum + indices.length, 0);
  }
}

class ReferenceLinearLayer
  extends Resource<{ readonly weight: Float32Array; readonly bias: Float32Array | undefined }>
  implements PlacedLinear
{
  readonly precision = 'float32';

  constructor(
    readonly device: DeviceDescription,
    readonly outputs: number,
    readonly inputs: number,
    weight: Float32Array,
    bias: Float32Array | undefined,
  ) {
    super({ weight: weight.slice(), bias: bias?.slice() });
  }
}

function own<T>(type: new (...args: never[]) => T, value: unknown): T {
  if (value instanceof type) return value;
  throw new TypeError(`${type.name} expected: the value belongs to another backend`);
}

/** Row `r` of `m`, in place. */
function rowOf(m: Matrix, r: number): Float32Array {
  const { value } = own(ReferenceBuffer, m.buffer);
  const start = m.offset + r * m.stride;
  if (start < 0 || start + m.cols > value.length) throw new RangeError(`row ${r} lies outside its buffer`);
  return value.subarray(start, start + m.cols);
}

/** A matrix's elements, packed. */
function gather(m: Matrix): Float32Array {
  const packed = new Float32Array(m.rows * m.cols);
  for (let r = 0; r < m.rows; r++) packed.set(rowOf(m, r), r * m.cols);
  return packed;
}

function scatter(values: Float32Array | Float64Array, m: Matrix): void {
  if (values.length !== m.rows * m.cols)
    throw new RangeError(`${values.length} elements are not [${m.rows}, ${m.cols}]`);
  for (let r = 0; r < m.rows; r++) rowOf(m, r).set(values.subarray(r * m.cols, (r + 1) * m.cols));
}

class ReferenceExecutable extends OneAtATime {
  readonly #runOne: (bindings: Bindings | undefined) => Promise<RunReport>;

  constructor(runOne: (bindings: Bindings | undefined) => Promise<RunReport>) {
    super();
    this.#runOne = runOne;
  }

  async run(bindings?: Bindings): Promise<RunReport> {
    using _run = this.enter();
    return await this.#runOne(bindings);
  }

  protected override giveBack(): void {}
}

export class ReferenceBackend implements Backend {
  readonly device: DeviceDescription = {
    kind: 'cpu',
    id: 'reference',
    name: 'plain TypeScript',
    architecture: 'none',
    threads: 1,
    memoryBytes: Number.MAX_SAFE_INTEGER,
    versions: {},
    capabilities: CPU_CAPABILITIES,
  };
  readonly admission = new Admission();
  readonly #live = new Resource(true);

  async placeTables(
    tables: readonly EmbeddingTable[],
    plan: Plan,
    { placement = devicePlacement(tables) }: PlaceOptions = {},
  ): Promise<PlacedTables> {
    this.#live.value;
    const host: EmbeddingTable[] = [];
    for (const table of tables) host.push(await toHost(table));
    return new ReferenceTables(this.device, tables, plan, placement, new Resource(host));
  }

  placeBags({ tables }: PlacedTables, batch: BagBatch): PlacedBags {
    return new ReferenceBags(checkBagShapes(tables, batch));
  }

  placeLinear(
    weight: Float32Array,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
  ): PlacedLinear {
    this.#live.value;
    return new ReferenceLinearLayer(this.device, outputs, inputs, weight, bias);
  }

  allocateHost(bytes: number): HostMemory {
    return new HostArrays(new ArrayBuffer(bytes));
  }

  allocate(length: number): DeviceBuffer {
    this.#live.value;
    return new ReferenceBuffer(this.device, length);
  }

  async run(program: readonly Operation[]): Promise<RunReport> {
    return this.runBound(new Template(program, this.device).bind());
  }

  prepare(program: readonly Operation[]): Executable {
    const template = new Template(program, this.device);
    return new ReferenceExecutable(async (bindings) => this.runBound(template.bind(bindings)));
  }

  protected async runBound(operations: readonly BoundOperation[]): Promise<RunReport> {
    this.#live.value;
    const findings = checkAll(operations);
    operations.forEach(execute);
    const seconds = new Float64Array(operations.length);
    return { seconds, stages: stageSeconds(operations, seconds), findings, launches: [], kernels: [] };
  }

  /** Room for more than what is asked for, as GPUs have. */
  capacityFor(batchSize: number): number {
    return batchSize + (batchSize % 3);
  }

  async observe(): Promise<void> {}

  memoryUse(): undefined {}

  async measureCeilings(): Promise<Ceilings> {
    return { readBytesPerSecond: 1, multiplyAddsPerSecond: 1 };
  }

  async close(): Promise<void> {
    this[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [Symbol.dispose](): void {
    this.#live[Symbol.dispose]();
  }
}

async function toHost(table: EmbeddingTable): Promise<EmbeddingTable> {
  const { weight, rows, dim, rowFormat } = table;
  if (isHost(weight)) return table;
  if (isStored(weight)) return { ...table, weight: await readTensor(weight) };
  return { ...table, weight: rowsTensor(new Random(weight.seed).reals(rows * dim), rows, dim, rowFormat) };
}

type Download = DownloadOperation<Float32Array | Uint16Array>;

function isBags(operation: BoundOperation): operation is EmbeddingBagsOperation<PlacedBags> {
  return operation.op === 'embeddingBags';
}

/** Checks the bags of the whole program before any of it runs. */
function checkAll(program: readonly BoundOperation[]): BagFindings {
  let findings: BagFindings = { badIndices: 0, badOffsets: 0 };
  for (const { tables, bags, checking } of program.filter(isBags)) {
    if (checking !== 'error' && checking !== 'warn') continue;
    const found = referenceCheckBags(tables.tables, own(ReferenceBags, bags).value);
    if (checking === 'error' && found.first !== undefined) throw found.first;
    const first = findings.first ?? found.first;
    findings = {
      badIndices: findings.badIndices + found.badIndices,
      badOffsets: findings.badOffsets + found.badOffsets,
      ...(first === undefined ? {} : { first }),
    };
  }
  return findings;
}

/** The elements of a matrix of 16 bits, row by row. */
function halfRow(m: Matrix, r: number): Uint16Array {
  const { value } = own(ReferenceBuffer, m.buffer);
  const halves = new Uint16Array(value.buffer, value.byteOffset, 2 * value.length);
  return halves.subarray(m.offset + r * m.stride, m.offset + r * m.stride + m.cols);
}

const NARROW = { float16: numberToFloat16, bfloat16: numberToBfloat16 } as const;

/** Rounds packed rows into a matrix of 16 bits. */
function narrow(values: Float32Array | Float64Array, m: Matrix, to: 'float16' | 'bfloat16'): void {
  for (let r = 0; r * m.cols < values.length; r++)
    halfRow(m, r).set(Array.from(values.subarray(r * m.cols, (r + 1) * m.cols), NARROW[to]));
}

function downloadInto({ input, target }: Download): void {
  if (input.format === undefined || input.format === 'float32') {
    target.set(gather(firstRows(input as Matrix, rowsIn(target, input))));
    return;
  }
  for (let r = 0; r < rowsIn(target, input); r++) target.set(halfRow(input, r), r * input.cols);
}

/** Halves are copied as they are, so that no bits of NaN change; the engine copies float32 so too. */
function transfer({ input, output }: TransferOperation): void {
  if (elementBytes(input) === 4) scatter(gather(input as Matrix), output as Matrix);
  else for (let r = 0; r < input.rows; r++) halfRow(output, r).set(halfRow(input, r));
}

function execute(operation: BoundOperation): void {
  if (operation.op === 'download') {
    downloadInto(operation);
    return;
  }
  if (operation.op === 'transfer') {
    transfer(operation);
    return;
  }
  if (operation.op === 'embeddingBags') {
    const { format = 'float32' } = operation.output;
    if (format !== 'float32') {
      narrow(resultOf(operation), operation.output, format);
      return;
    }
  }
  const output = operation.output as Matrix;
  const result = resultOf(operation);
  // Uploads and lookups may fill the first rows only.
  const partial = operation.op === 'upload' || operation.op === 'embeddingBags';
  scatter(result, partial && output.cols > 0 ? firstRows(output, result.length / output.cols) : output);
}

function resultOf(
  operation: Exclude<BoundOperation, Download | TransferOperation>,
): Float32Array | Float64Array {
  switch (operation.op) {
    case 'upload':
      return operation.source;
    case 'copy':
      return gather(operation.input);
    case 'embeddingBags': {
      const tables = own(ReferenceTables, operation.tables).host.value;
      const batch = own(ReferenceBags, operation.bags).value;
      return referenceEmbeddingBags(tables, batch, operation.checking, 'float32').pooled;
    }
    case 'linear': {
      const { layer, input, output, activation, cross } = operation;
      const { inputs, outputs } = layer;
      return referenceLinear({
        ...own(ReferenceLinearLayer, layer).value,
        batch: output.rows,
        inputs,
        outputs,
        activation,
        input: gather(columns(input, 0, inputs)),
        cross: cross && { x0: gather(cross.x0), x: gather(cross.x) },
      });
    }
    case 'dotInteraction': {
      const { input, features, dim, diagonal, order } = operation;
      const z = gather(columns(input, 0, features * dim));
      return referenceDotInteraction({ batch: input.rows, features, dim, input: z, diagonal, order });
    }
    case 'rowFunction': {
      const { input, function: name } = operation;
      return REFERENCE_ROW_FUNCTIONS[name]({ batch: input.rows, columns: input.cols, input: gather(input) });
    }
    default:
      return operation satisfies never;
  }
}
