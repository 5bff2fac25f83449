/** Programs as the CPU library reads them: one fixed-size record of 64-bit words per operator. */
import { at } from '../../at.ts';
import type { DensePrecision, DeviceDescription, ElementFormat } from '../../device.ts';
import { rowLayout } from '../../embedding/row-format.ts';
import {
  ACTIVATION,
  CHECK_REPORT_WORDS,
  OPERATOR,
  OPERATOR_WORDS,
  PREFETCH_LEVEL,
} from '../../ffi/cpu-operators.ts';
import { addressOf, type HostPtr, NativeMemory, NULL_PTR } from '../../ffi/host-memory.ts';
import type { ThreadPool } from '../../ffi/thread-pool.ts';
import {
  type BoundOperation,
  type CopyOperation,
  type DotInteractionOperation,
  type EmbeddingBagsOperation,
  type Extent,
  elementBytes,
  firstRows,
  type LinearOperation,
  ownBy,
  type PlacedBags,
  type PlacedLinear,
  packedBytes,
  type RowFunctionOperation,
  rowsIn,
  type TransferOperation,
} from '../backend.ts';
import { HostBuffer, hostStart } from '../host-buffer.ts';
import { ROW_FUNCTIONS } from '../row-functions.ts';
import type { ScaledWeight } from '../scaled-weight.ts';
import type { UserRows } from '../user-rows.ts';
import { CpuBags } from './bags.ts';
import { CpuTables } from './placement.ts';

type BoundBags = EmbeddingBagsOperation<PlacedBags>;

export class CpuLinear implements PlacedLinear {
  constructor(
    readonly device: DeviceDescription,
    readonly precision: DensePrecision,
    readonly outputs: number,
    readonly inputs: number,
    readonly packed: NativeMemory,
    readonly bias: Float32Array | undefined,
    /** Of an 8-bit weight, whose elements are packed. */
    readonly scales: Pick<ScaledWeight, 'scales' | 'inputScale'> | undefined,
    /** The pool that the weight was packed for: instruction sets pack differently. */
    readonly pool: ThreadPool,
  ) {}

  [Symbol.dispose](): void {
    this.packed[Symbol.dispose]();
  }
}

/** What the library found in the bags of some tables: CHECK_REPORT_WORDS, an `hr_check_report`. */
export interface BagReport {
  readonly tables: CpuTables;
  readonly words: BigInt64Array;
}

/** Operations whose records are the same in every run: matrices on both sides, and no slot. */
type FixedOperation =
  | LinearOperation
  | DotInteractionOperation
  | RowFunctionOperation
  | CopyOperation
  | TransferOperation;

interface FixedRecord {
  readonly words: BigInt64Array;
  /** What it has addresses of. */
  readonly memory: readonly NativeMemory[];
  readonly estimatedBytes: number;
}

/** The records of a program that stay between its runs. */
export class FixedRecords {
  readonly #pool: ThreadPool;
  readonly #known = new Map<FixedOperation, FixedRecord>();

  constructor(pool: ThreadPool) {
    this.#pool = pool;
  }

  /** The record of an operation. @throws DeviceError DISPOSED for memory that is gone. */
  of(operation: FixedOperation): FixedRecord {
    const record = this.#known.get(operation) ?? this.#encode(operation);
    for (const memory of record.memory) void memory.address;
    return record;
  }

  #encode(operation: FixedOperation): FixedRecord {
    const { input, output } = operation;
    const cross = operation.op === 'linear' ? operation.cross : undefined;
    const matrices = [input, output, ...(cross === undefined ? [] : [cross.x0, cross.x])];
    const memory = matrices.map(({ buffer }) => ownBy(HostBuffer, buffer).memory);
    if (operation.op === 'linear') memory.push(ownBy(CpuLinear, operation.layer).packed);
    const record = {
      words: BigInt64Array.from(encodeOperation(operation, this.#pool)),
      memory,
      estimatedBytes: estimateBytes(operation),
    };
    this.#known.set(operation, record);
    return record;
  }
}

/** One encoded program. Keeps every array alive whose address it holds; dispose it once the program has run. */
export class EncodedProgram implements Disposable {
  readonly words: BigInt64Array;
  readonly seconds: Float64Array;
  /** What the checks of `warn` mode find. */
  readonly warnings: BagReport[] = [];
  /** What stopped the program, in `error` mode. */
  readonly stops: BagReport[] = [];
  /** Rough cost of the whole program, to choose where it runs. */
  readonly estimatedBytes: number;
  readonly #program: readonly BoundOperation[];
  /** The operation that each record is a part of. */
  readonly #owners: number[] = [];
  /** Pooled rows that wait to be narrowed, or spread. */
  readonly #scratch: NativeMemory[] = [];

  /** `fixed`: of this program's runs before. */
  constructor(program: readonly BoundOperation[], pool: ThreadPool, fixed = new FixedRecords(pool)) {
    this.#program = program;
    const records: (readonly bigint[] | BigInt64Array)[] = [];
    const append = (owner: number, record: readonly bigint[] | BigInt64Array) => {
      records.push(record);
      this.#owners.push(owner);
    };
    // Checks come first: in `warn` mode nothing runs on what was not looked at.
    program.forEach((operation, i) => {
      if (warns(operation)) append(i, this.#encodeCheck(operation));
    });
    let bytes = 0;
    program.forEach((operation, i) => {
      if (isFixed(operation)) {
        const { words, estimatedBytes } = fixed.of(operation);
        append(i, words);
        bytes += estimatedBytes;
        return;
      }
      for (const record of this.#encode(operation, pool)) append(i, record);
      bytes += estimateBytes(operation);
    });
    this.words = new BigInt64Array(records.length * OPERATOR_WORDS);
    for (let i = 0; i < records.length; i++) put(this.words, i * OPERATOR_WORDS, at(records, i));
    this.seconds = new Float64Array(records.length);
    this.estimatedBytes = bytes;
  }

  /** Seconds of each operation of the program, with all of its records. */
  operationSeconds(): Float64Array {
    const seconds = new Float64Array(this.#program.length);
    this.#owners.forEach((owner, i) => {
      seconds[owner] = (seconds[owner] as number) + (this.seconds[i] as number);
    });
    return seconds;
  }

  [Symbol.dispose](): void {
    for (const memory of this.#scratch.splice(0)) memory[Symbol.dispose]();
  }

  #encode(operation: BoundOperation, pool: ThreadPool): bigint[][] {
    if (operation.op !== 'embeddingBags') return [encodeOperation(operation, pool)];
    const { output } = operation;
    const { format = 'float32' } = output;
    if (format === 'float32') return this.#encodeLookups(operation, hostStart(output), output.stride);
    // Kernels pool in float32; what they made is rounded once, afterwards.
    const { batchSize } = operation.bags;
    const pooled = this.#reserve(batchSize * output.cols);
    const rows = firstRows(output, batchSize);
    return [
      ...this.#encodeLookups(operation, pooled, output.cols),
      encodeCopy(pooled, output.cols, hostStart(output), output.stride, rows, { narrowTo: format }),
    ];
  }

  /** Pools bags, and spreads what was pooled for users to their candidates. */
  #encodeLookups(operation: BoundBags, output: HostPtr, stride: number): bigint[][] {
    const bags = ownBy(CpuBags, operation.bags);
    const { users } = bags;
    if (users === undefined) return [encodeBags(operation, { output, stride }, this.stops)];
    const ofUsers = { users, output: this.#reserve(users.count * users.width) };
    return [
      encodeBags(operation, { output, stride, ofUsers }, this.stops),
      [
        BigInt(OPERATOR.spreadRows),
        threadsOf(ownBy(CpuTables, operation.tables)),
        ofUsers.output,
        BigInt(users.width),
        output,
        BigInt(stride),
        addressOf(users.starts),
        BigInt(users.count),
        addressOf(bags.spans),
        BigInt(users.spans.length),
      ],
    ];
  }

  /** Memory for pooled rows, until the program has run. */
  #reserve(elements: number): HostPtr {
    const memory = new NativeMemory(Math.max(1, elements) * Float32Array.BYTES_PER_ELEMENT);
    this.#scratch.push(memory);
    return memory.address;
  }

  #encodeCheck(operation: BoundBags): bigint[] {
    const tables = ownBy(CpuTables, operation.tables);
    const bags = ownBy(CpuBags, operation.bags);
    return [
      BigInt(OPERATOR.checkBags),
      threadsOf(tables),
      addressOf(tables.descriptors),
      bags.address,
      BigInt(bags.bags.length),
      BigInt(bags.batchSize),
      BigInt(bags.users?.count ?? 0),
      addReport(this.warnings, tables),
    ];
  }
}

/** Copies a record; a list word by word, which typed arrays take longer for. */
function put(words: BigInt64Array, start: number, record: readonly bigint[] | BigInt64Array): void {
  if (record instanceof BigInt64Array) words.set(record, start);
  else for (let w = 0; w < record.length; w++) words[start + w] = at(record, w);
}

function isFixed(operation: BoundOperation): operation is FixedOperation {
  switch (operation.op) {
    case 'linear':
    case 'dotInteraction':
    case 'rowFunction':
    case 'copy':
    case 'transfer':
      return true;
    default:
      return false;
  }
}

/** Whether an operator of its own checks the operation's bags. */
function warns(operation: BoundOperation): operation is BoundBags {
  return operation.op === 'embeddingBags' && operation.checking === 'warn';
}

/** The address of a new report in `reports`. */
function addReport(reports: BagReport[], tables: CpuTables): HostPtr {
  const words = new BigInt64Array(CHECK_REPORT_WORDS);
  reports.push({ tables, words });
  return addressOf(words);
}

/** Threads of the embedding stage: one, unless the plan says otherwise. */
function threadsOf(tables: CpuTables): bigint {
  return BigInt(tables.plan.techniques.threads?.count ?? 1);
}

/** Where pooled rows go: those of samples, and those of users if there are any. */
interface PooledRows {
  readonly output: HostPtr;
  readonly stride: number;
  readonly ofUsers?: { readonly users: UserRows; readonly output: HostPtr };
}

function encodeBags(
  operation: BoundBags,
  { output, stride, ofUsers }: PooledRows,
  stops: BagReport[],
): bigint[] {
  const tables = ownBy(CpuTables, operation.tables);
  const bags = ownBy(CpuBags, operation.bags);
  const { prefetch } = tables.plan.techniques;
  return [
    BigInt(OPERATOR.embeddingBags),
    threadsOf(tables),
    addressOf(tables.descriptors),
    bags.address,
    BigInt(bags.bags.length),
    BigInt(bags.batchSize),
    output,
    BigInt(stride),
    BigInt(prefetch?.distance ?? 0),
    BigInt(PREFETCH_LEVEL[prefetch?.level ?? 'L1']),
    operation.checking === 'error' ? addReport(stops, tables) : NULL_PTR,
    BigInt(ofUsers?.users.count ?? 0),
    ofUsers?.output ?? NULL_PTR,
    BigInt(ofUsers?.users.width ?? 0),
  ];
}

function encodeOperation(operation: Exclude<BoundOperation, BoundBags>, pool: ThreadPool): bigint[] {
  switch (operation.op) {
    case 'linear': {
      const layer = ownBy(CpuLinear, operation.layer);
      if (layer.pool !== pool) throw new TypeError('a linear layer ran on a backend that did not place it');
      const { cross } = operation;
      return [
        BigInt(OPERATOR.linear),
        0n,
        hostStart(operation.input),
        BigInt(operation.input.stride),
        layer.packed.address,
        layer.bias === undefined ? NULL_PTR : addressOf(layer.bias),
        hostStart(operation.output),
        BigInt(operation.output.stride),
        BigInt(operation.output.rows),
        BigInt(layer.inputs),
        BigInt(layer.outputs),
        BigInt(ACTIVATION[operation.activation]),
        cross === undefined ? NULL_PTR : hostStart(cross.x0),
        BigInt(cross?.x0.stride ?? 0),
        cross === undefined ? NULL_PTR : hostStart(cross.x),
        BigInt(cross?.x.stride ?? 0),
        layer.scales === undefined ? NULL_PTR : addressOf(layer.scales.scales),
        doubleBits(layer.scales?.inputScale ?? 0),
      ];
    }
    case 'dotInteraction':
      return [
        BigInt(OPERATOR.dotInteraction),
        0n,
        hostStart(operation.input),
        BigInt(operation.input.stride),
        hostStart(operation.output),
        BigInt(operation.output.stride),
        BigInt(operation.input.rows),
        BigInt(operation.features),
        BigInt(operation.dim),
        operation.diagonal ? 1n : 0n,
        operation.order === 'lower' ? 0n : 1n,
      ];
    case 'rowFunction':
      return [
        BigInt(OPERATOR.rowFunction),
        0n,
        BigInt(ROW_FUNCTIONS[operation.function].number),
        hostStart(operation.input),
        BigInt(operation.input.stride),
        hostStart(operation.output),
        BigInt(operation.output.stride),
        BigInt(operation.input.rows),
        BigInt(operation.input.cols),
        BigInt(operation.output.cols),
      ];
    case 'upload': {
      const { source, output } = operation;
      const rows = firstRows(output, rowsIn(source, output));
      return encodeCopy(addressOf(source), output.cols, hostStart(output), output.stride, rows);
    }
    case 'download': {
      const { input, target } = operation;
      const rows = firstRows(input, rowsIn(target, input));
      const format = { elementBytes: elementBytes(input) };
      return encodeCopy(hostStart(input), input.stride, addressOf(target), input.cols, rows, format);
    }
    case 'copy':
    case 'transfer': {
      const { input, output } = operation;
      const format = { elementBytes: elementBytes(input) };
      return encodeCopy(hostStart(input), input.stride, hostStart(output), output.stride, output, format);
    }
    default:
      return operation satisfies never;
  }
}

function encodeCopy(
  input: HostPtr,
  inputStride: number,
  output: HostPtr,
  outputStride: number,
  { rows, cols }: Extent,
  format: { readonly elementBytes?: number; readonly narrowTo?: ElementFormat } = {},
): bigint[] {
  const { elementBytes: bytes = Float32Array.BYTES_PER_ELEMENT, narrowTo = 'float32' } = format;
  return [
    BigInt(OPERATOR.copy),
    1n,
    input,
    BigInt(inputStride),
    output,
    BigInt(outputStride),
    BigInt(rows),
    BigInt(cols),
    BigInt(bytes),
    BigInt(rowLayout(narrowTo).number),
  ];
}

/** A double as the word that holds it. */
function doubleBits(value: number): bigint {
  return new BigInt64Array(Float64Array.of(value).buffer)[0] ?? 0n;
}

/** Bytes that an operation moves, a multiply-add counted as a quarter of a byte. */
function estimateBytes(operation: BoundOperation): number {
  switch (operation.op) {
    case 'embeddingBags': {
      const widest = Math.max(...operation.tables.tables.map((table) => table.dim));
      return operation.bags.lookups * widest * 4;
    }
    case 'linear':
      return (operation.output.rows * operation.layer.inputs * operation.layer.outputs) / 4;
    case 'dotInteraction':
      return (operation.input.rows * operation.features ** 2 * operation.dim) / 4;
    case 'rowFunction':
      return operation.input.rows * operation.input.cols * 4;
    case 'upload':
    case 'copy':
    case 'transfer':
      return packedBytes(operation.output);
    case 'download':
      return packedBytes(operation.input);
    default:
      return operation satisfies never;
  }
}
