/** Programs of callers: each operation read once, its matrices inside their buffers, its handles those of the backend. */
import { arrayOf } from '../../checks/arguments.ts';
import { arrayName } from '../../checks/array.ts';
import {
  type Check,
  flag,
  listOf,
  type Members,
  membersOf,
  oneOf,
  optional,
  record,
  refuseOption,
  whole,
} from '../../checks/value.ts';
import { type EmbeddingTable, INDEX_CHECKING } from '../../embedding/bag.ts';
import { arraysChanged } from '../../errors.ts';
import {
  ACTIVATIONS,
  type CopyOperation,
  type DeviceBuffer,
  type DotInteractionOperation,
  type DownloadOperation,
  type EmbeddingBagsOperation,
  elementBytes,
  type LinearOperation,
  type Matrix,
  type Operation,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  POOLED_FORMATS,
  type PooledMatrix,
  type UploadOperation,
} from '../backend.ts';
import { endOf, overlap } from '../overlap.ts';
import type { Handles, Held } from './handles.ts';

/** What one backend gave. */
export interface GivenHandles {
  readonly tables: Handles<PlacedTables, { readonly tables: readonly EmbeddingTable[] }>;
  readonly bags: Handles<
    PlacedBags,
    { readonly tables: readonly EmbeddingTable[]; readonly batchSize: number }
  >;
  readonly linear: Handles<PlacedLinear, { readonly inputs: number; readonly outputs: number }>;
  readonly buffers: Handles<DeviceBuffer, { readonly length: number }>;
}

/** A program that can run, and what it uses. */
export interface CheckedProgram {
  readonly operations: readonly Operation[];
  readonly uses: ReadonlySet<Held>;
  /** Hands over what was downloaded, once the program has run. @throws RequestError ARRAYS_CHANGED. */
  deliver(): void;
}

/** A download into an array that nobody else has, who could free it while it is written, and where the values go then. */
interface Delivery {
  readonly own: DownloadOperation['target'];
  readonly target: DownloadOperation['target'];
}

const OPERATIONS = ['upload', 'download', 'embeddingBags', 'linear', 'dotInteraction', 'copy'] as const;
const MOST_FEATURES = 2 ** 20;
const MOST_OPERATIONS = 2 ** 20;

/**
 * Checks a program.
 * @throws UsageError OPTION_INVALID naming operation and member: for unknown ones, matrices outside of their buffers or of other
 *   sizes than the operation has, and handles that the backend did not give; DeviceError DISPOSED.
 */
export function checkProgram(program: unknown, given: GivenHandles): CheckedProgram {
  const uses = new Set<Held>();
  const deliveries: Delivery[] = [];
  const check = operationOf(given, uses, deliveries);
  const operations = listOf(check)(program, 'run: program');
  if (operations.length > MOST_OPERATIONS)
    refuseOption('run: program', program, `at most ${MOST_OPERATIONS} operations`);
  return { operations, uses, deliver: () => deliveries.forEach(deliver) };
}

function deliver({ own, target }: Delivery): void {
  if (target.length !== own.length) throw arraysChanged('was given away');
  target.set(own);
}

/** Whether two tables are read by the same kernels, from bags placed for either. */
export function areAlike(some: readonly EmbeddingTable[], others: readonly EmbeddingTable[]): boolean {
  return (
    some.length === others.length &&
    some.every((a, t) => {
      const b = others[t] as EmbeddingTable;
      return (
        a.rows === b.rows &&
        a.dim === b.dim &&
        a.rowFormat === b.rowFormat &&
        a.mode === b.mode &&
        a.paddingIdx === b.paddingIdx &&
        a.pruned === b.pruned &&
        (a.rowWeights === undefined) === (b.rowWeights === undefined)
      );
    })
  );
}

function operationOf(given: GivenHandles, uses: Set<Held>, deliveries: Delivery[]): Check<Operation> {
  const use =
    <T extends Disposable, F extends object>(handles: Handles<T, F>): Check<{ inner: T; facts: F }> =>
    (value, at) => {
      const { held, facts } = handles.of(value, at);
      uses.add(held);
      return { inner: held.inner, facts };
    };
  const pooledMatrix = matrixOf(use(given.buffers));
  const matrix: Check<Matrix> = (value, at) => {
    const own = pooledMatrix(value, at);
    return own.format === undefined || own.format === 'float32'
      ? { ...own, format: 'float32' }
      : refuseOption(`${at}.format`, own.format, 'float32');
  };
  const checks = {
    upload: uploadOf(matrix),
    download: downloadOf(pooledMatrix, deliveries),
    embeddingBags: bagsOf(use(given.tables), use(given.bags), pooledMatrix),
    linear: linearOf(use(given.linear), matrix),
    dotInteraction: dotOf(matrix),
    copy: copyOf(matrix),
  };
  return (value, at) => checks[oneOf(OPERATIONS)(record(value, at).op, `${at}.op`)](value, at);
}

type Use<T, F> = Check<{ readonly inner: T; readonly facts: F }>;

/** A matrix inside of its buffer. */
function matrixOf(buffer: Use<DeviceBuffer, { readonly length: number }>): Check<PooledMatrix> {
  const members = membersOf<
    Omit<PooledMatrix, 'buffer'> & { buffer: { inner: DeviceBuffer; facts: { length: number } } }
  >({
    buffer,
    offset: whole(),
    rows: whole(),
    cols: whole(),
    stride: whole(),
    format: optional(oneOf(POOLED_FORMATS)),
  });
  return (value, at) => {
    const { buffer: own, ...rest } = members(value, at);
    const matrix: PooledMatrix = { ...rest, buffer: own.inner };
    const { offset, rows, cols, stride } = matrix;
    if (rows > 1 && stride < cols) refuseOption(`${at}.stride`, stride, `at least the ${cols} columns`);
    const room = (own.facts.length * Float32Array.BYTES_PER_ELEMENT) / elementBytes(matrix);
    const end = rows * cols === 0 ? offset : endOf(matrix);
    if (end > room)
      refuseOption(at, value, `a matrix inside of its buffer: it ends at element ${end} of ${room}`);
    return matrix;
  };
}

function uploadOf(matrix: Check<Matrix>): Check<UploadOperation> {
  const members = membersOf<UploadOperation>({ op: oneOf(['upload']), source: floats, output: matrix });
  return (value, at) => {
    const operation = members(value, at);
    checkRows(operation.source.length, operation.output, `${at}.source`);
    return operation;
  };
}

function downloadOf(matrix: Check<PooledMatrix>, deliveries: Delivery[]): Check<DownloadOperation> {
  const members = membersOf<DownloadOperation>({
    op: oneOf(['download']),
    input: matrix,
    target: (value, at) => (arrayName(value) === 'Uint16Array' ? halves : floats)(value, at),
  });
  return (value, at) => {
    const operation = members(value, at);
    const { input, target } = operation;
    const expected = elementBytes(input) === 2 ? 'Uint16Array' : 'Float32Array';
    if (arrayName(target) !== expected) refuseOption(`${at}.target`, target, `a ${expected}`);
    checkRows(target.length, input, `${at}.target`);
    const own = expected === 'Uint16Array' ? new Uint16Array(target.length) : new Float32Array(target.length);
    deliveries.push({ own, target });
    return { ...operation, target: own };
  };
}

function bagsOf(
  tables: Use<PlacedTables, { readonly tables: readonly EmbeddingTable[] }>,
  bags: Use<PlacedBags, { readonly tables: readonly EmbeddingTable[]; readonly batchSize: number }>,
  matrix: Check<PooledMatrix>,
): Check<EmbeddingBagsOperation> {
  const members = membersOf({
    op: oneOf(['embeddingBags'] as const),
    tables,
    bags,
    output: matrix,
    checking: oneOf(INDEX_CHECKING),
  });
  return (value, at) => {
    const { op, tables: own, bags: batch, output, checking } = members(value, at);
    if (!areAlike(own.facts.tables, batch.facts.tables))
      refuseOption(`${at}.bags`, batch.inner, 'bags placed for tables like these');
    const width = own.facts.tables.reduce((sum, { dim }) => sum + dim, 0);
    if (output.cols !== width) refuseOption(`${at}.output.cols`, output.cols, `${width}, the dims added up`);
    if (output.rows < batch.facts.batchSize)
      refuseOption(`${at}.output.rows`, output.rows, `at least ${batch.facts.batchSize}, the batch size`);
    return { op, tables: own.inner, bags: batch.inner, output, checking };
  };
}

function linearOf(
  layer: Use<PlacedLinear, { readonly inputs: number; readonly outputs: number }>,
  matrix: Check<Matrix>,
): Check<LinearOperation> {
  type Given = Omit<LinearOperation, 'layer'> & {
    readonly layer: {
      readonly inner: PlacedLinear;
      readonly facts: { readonly inputs: number; readonly outputs: number };
    };
  };
  const members = membersOf<Given>({
    op: oneOf(['linear']),
    layer,
    input: matrix,
    output: matrix,
    activation: oneOf(ACTIVATIONS),
    cross: optional(membersOf<NonNullable<LinearOperation['cross']>>({ x0: matrix, x: matrix })),
  } as Members<Given>);
  return (value, at) => {
    const { layer: own, ...rest } = members(value, at);
    const { input, output, activation, cross } = rest;
    const { inputs, outputs } = own.facts;
    const { rows } = output;
    checkSize(input, rows, inputs, `${at}.input`);
    checkSize(output, rows, outputs, `${at}.output`);
    checkApart(input, output, `${at}.output`);
    if (cross !== undefined) {
      checkSize(cross.x0, rows, outputs, `${at}.cross.x0`);
      checkSize(cross.x, rows, outputs, `${at}.cross.x`);
      if (activation !== 'none') refuseOption(`${at}.activation`, activation, 'none beside cross');
    }
    return { ...rest, layer: own.inner };
  };
}

function dotOf(matrix: Check<Matrix>): Check<DotInteractionOperation> {
  const members = membersOf<DotInteractionOperation>({
    op: oneOf(['dotInteraction']),
    input: matrix,
    features: whole(0, MOST_FEATURES),
    dim: whole(),
    diagonal: flag,
    order: oneOf(['lower', 'upper']),
    output: matrix,
  });
  return (value, at) => {
    const operation = members(value, at);
    const { input, output, features, dim, diagonal } = operation;
    checkSize(input, output.rows, features * dim, `${at}.input`);
    checkSize(output, output.rows, (features * (features + (diagonal ? 1 : -1))) / 2, `${at}.output`);
    checkApart(input, output, `${at}.output`);
    return operation;
  };
}

function copyOf(matrix: Check<Matrix>): Check<CopyOperation> {
  const members = membersOf<CopyOperation>({ op: oneOf(['copy']), input: matrix, output: matrix });
  return (value, at) => {
    const operation = members(value, at);
    const { input, output } = operation;
    checkSize(input, output.rows, output.cols, `${at}.input`);
    checkApart(input, output, `${at}.output`);
    return operation;
  };
}

const floats = arrayOf('Float32Array');
const halves = arrayOf('Uint16Array');

/** An array holds whole rows of a matrix, at most all. */
function checkRows(length: number, { rows, cols }: PooledMatrix, at: string): void {
  if (length <= rows * cols && (cols === 0 || length % cols === 0)) return;
  refuseOption(`${at}.length`, length, `whole rows of ${cols} elements, at most ${rows}`);
}

function checkSize(matrix: Matrix, rows: number, cols: number, at: string): void {
  if (matrix.rows !== rows) refuseOption(`${at}.rows`, matrix.rows, `${rows}`);
  if (matrix.cols !== cols) refuseOption(`${at}.cols`, matrix.cols, `${cols}`);
}

function checkApart(input: Matrix, output: Matrix, at: string): void {
  if (overlap(input, output)) refuseOption(`${at}.offset`, output.offset, 'a place apart from the input');
}
