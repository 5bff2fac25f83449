/** Operations of callers: each read once, its matrices inside their buffers, its handles those of the backend. */
import { at } from '../../at.ts';
import { arrayOf } from '../../checks/arguments.ts';
import {
  type Check,
  flag,
  kindsOf,
  type Members,
  membersOf,
  oneOf,
  optional,
  refuseOption,
  text,
  whole,
} from '../../checks/value.ts';
import type { DensePrecision, DeviceDescription } from '../../device.ts';
import { ELEMENT_FORMATS } from '../../device.ts';
import { type EmbeddingTable, INDEX_CHECKING } from '../../embedding/bag.ts';
import {
  ACTIVATIONS,
  type Bindings,
  type CopyOperation,
  type DeviceBuffer,
  type DotInteractionOperation,
  type DownloadOperation,
  type EmbeddingBagsOperation,
  type Extent,
  elementBytes,
  type LinearOperation,
  type Matrix,
  type Operation,
  type PlacedBags,
  type PlacedLinear,
  type PlacedTables,
  type RowFunctionOperation,
  type Slot,
  type TransferOperation,
  type UploadOperation,
} from '../backend.ts';
import { endOf, overlap } from '../overlap.ts';
import { ROW_FUNCTION_NAMES, ROW_FUNCTIONS } from '../row-functions.ts';
import { checkRows } from '../slots.ts';
import type { Entry, Handles, Held } from './handles.ts';

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

export type Bound = Bindings[string];

/** Reads what is bound to a slot, adding to what the run uses and hands over. */
export type BindingCheck = (value: unknown, at: string, run: Run) => Bound;

/** Gathered while operations or bindings are read. */
export interface Run {
  readonly uses: Set<Held>;
  readonly deliveries: Delivery[];
}

/** A download into an array that nobody else has, who could free it while it is written, and where the values go then. */
export interface Delivery {
  readonly own: Float32Array | Uint16Array;
  readonly target: Float32Array | Uint16Array;
}

const MOST_FEATURES = 2 ** 20;
/** Whether two tables are read by the same kernels, from bags placed for either. */
export function areAlike(some: readonly EmbeddingTable[], others: readonly EmbeddingTable[]): boolean {
  return (
    some.length === others.length &&
    some.every((a, t) => {
      const b = at(others, t);
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

type Takes = (slot: string, check: BindingCheck) => void;

/** Reads one operation, adding to what the run uses and hands over; `takes` is told of its slots. */
export function operationOf(
  given: GivenHandles,
  { capabilities }: DeviceDescription,
  run: Run,
  takes: Takes,
): Check<Operation> {
  const used = <T extends Disposable, F extends object>({ held, facts }: Entry<T, F>) => {
    run.uses.add(held);
    return { inner: held.inner, facts };
  };
  const use =
    <T extends Disposable, F extends object>(handles: Handles<T, F>): Check<{ inner: T; facts: F }> =>
    (value, at) =>
      used(handles.of(value, at));
  const matrix = matrixOf(use(given.buffers));
  return kindsOf<Operation['op'], Operation>('op', {
    upload: uploadOf(matrix, run, takes),
    download: downloadOf(matrix, run, takes),
    embeddingBags: bagsOf(use(given.tables), given.bags, matrix, run, takes),
    linear: linearOf(use(given.linear), matrix),
    dotInteraction: dotOf(matrix, oneOf(capabilities.precisions)),
    rowFunction: rowFunctionOf(matrix),
    copy: copyOf(matrix),
    transfer: transferOf(
      matrixOf((value, at) => used(given.buffers.ofAny(value, at))),
      given.buffers,
    ),
  });
}

type Use<T, F> = Check<{ readonly inner: T; readonly facts: F }>;

/** A matrix inside of its buffer. What lies behind its columns, and who needs it, is not a caller's to promise. */
function matrixOf(buffer: Use<DeviceBuffer, { readonly length: number }>): Check<Matrix> {
  const members = membersOf<
    Omit<Matrix, 'buffer' | 'padding' | 'transient'> & {
      buffer: { inner: DeviceBuffer; facts: { length: number } };
    }
  >({
    buffer,
    offset: whole(),
    rows: whole(),
    cols: whole(),
    stride: whole(),
    format: optional(oneOf(ELEMENT_FORMATS)),
  });
  return (value, at) => {
    const { buffer: own, ...rest } = members(value, at);
    const matrix: Matrix = { ...rest, buffer: own.inner };
    const { offset, rows, cols, stride } = matrix;
    if (rows > 1 && stride < cols) refuseOption(`${at}.stride`, stride, `at least the ${cols} columns`);
    const room = (own.facts.length * Float32Array.BYTES_PER_ELEMENT) / elementBytes(matrix);
    const end = rows * cols === 0 ? offset : endOf(matrix);
    if (end > room)
      refuseOption(at, value, `a matrix inside of its buffer: it ends at element ${end} of ${room}`);
    return matrix;
  };
}

/** An operation whose member is to be read. */
type Unbound<O, M extends keyof O> = Omit<O, M> & { readonly [K in M]: unknown };

/** Reads what an operation has: the name of a slot, whose `check` waits for a run, or what is given right away. */
function slotOr(check: BindingCheck, value: unknown, at: string, run: Run, takes: Takes): Bound | Slot {
  if (typeof value !== 'string') return check(value, at, run);
  if (value === '') return refuseOption(at, value, 'the name of a slot');
  takes(value, check);
  return value;
}

function uploadOf(matrix: Check<Matrix>, run: Run, takes: Takes): Check<UploadOperation> {
  const members = membersOf<Unbound<UploadOperation, 'source'>>({
    op: oneOf(['upload']),
    source: anything,
    output: matrix,
    stage,
  });
  return (value, at) => {
    const { source, ...rest } = members(value, at);
    const check: BindingCheck = (array, place) => {
      const own = floats(array, place);
      checkRows(own.length, rest.output, place);
      return own;
    };
    const given = slotOr(check, source, `${at}.source`, run, takes) as UploadOperation['source'];
    return { ...rest, source: given };
  };
}

function downloadOf(matrix: Check<Matrix>, run: Run, takes: Takes): Check<DownloadOperation> {
  const members = membersOf<Unbound<DownloadOperation, 'target'>>({
    op: oneOf(['download']),
    input: matrix,
    target: anything,
    stage,
  });
  return (value, at) => {
    const { target, ...rest } = members(value, at);
    const isHalf = elementBytes(rest.input) === 2;
    const check: BindingCheck = (array, place, { deliveries }) => {
      const into = (isHalf ? halves : floats)(array, place);
      checkRows(into.length, rest.input, place);
      const own = isHalf ? new Uint16Array(into.length) : new Float32Array(into.length);
      deliveries.push({ own, target: into });
      return own;
    };
    const given = slotOr(check, target, `${at}.target`, run, takes) as DownloadOperation['target'];
    return { ...rest, target: given };
  };
}

function bagsOf(
  tables: Use<PlacedTables, { readonly tables: readonly EmbeddingTable[] }>,
  bags: GivenHandles['bags'],
  matrix: Check<Matrix>,
  run: Run,
  takes: Takes,
): Check<EmbeddingBagsOperation> {
  type Given = Omit<Unbound<EmbeddingBagsOperation, 'bags'>, 'tables'> & {
    readonly tables: {
      readonly inner: PlacedTables;
      readonly facts: { readonly tables: readonly EmbeddingTable[] };
    };
  };
  const members = membersOf<Given>({
    op: oneOf(['embeddingBags']),
    tables,
    bags: anything,
    output: matrix,
    checking: oneOf(INDEX_CHECKING),
    stage,
  } as Members<Given>);
  return (value, at) => {
    const { tables: own, bags: batch, ...rest } = members(value, at);
    const { output } = rest;
    const width = own.facts.tables.reduce((sum, { dim }) => sum + dim, 0);
    if (output.cols !== width) refuseOption(`${at}.output.cols`, output.cols, `${width}, the dims added up`);
    const check: BindingCheck = (handle, place, { uses }) => {
      const { held, facts } = bags.of(handle, place);
      uses.add(held);
      if (!areAlike(own.facts.tables, facts.tables))
        refuseOption(place, held.inner, 'bags placed for tables like these');
      if (output.rows < facts.batchSize)
        refuseOption(`${at}.output.rows`, output.rows, `at least ${facts.batchSize}, the batch size`);
      return held.inner;
    };
    const given = slotOr(check, batch, `${at}.bags`, run, takes) as EmbeddingBagsOperation['bags'];
    return { ...rest, tables: own.inner, bags: given };
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
    stage,
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

function dotOf(matrix: Check<Matrix>, precision: Check<DensePrecision>): Check<DotInteractionOperation> {
  const members = membersOf<DotInteractionOperation>({
    op: oneOf(['dotInteraction']),
    input: matrix,
    features: whole(0, MOST_FEATURES),
    dim: whole(),
    diagonal: flag,
    order: oneOf(['lower', 'upper']),
    precision,
    output: matrix,
    stage,
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

function rowFunctionOf(matrix: Check<Matrix>): Check<RowFunctionOperation> {
  const members = membersOf<RowFunctionOperation>({
    op: oneOf(['rowFunction']),
    function: oneOf(ROW_FUNCTION_NAMES),
    input: matrix,
    output: matrix,
    stage,
  });
  return (value, at) => {
    const operation = members(value, at);
    const { input, output, function: name } = operation;
    checkSize(input, output.rows, input.cols, `${at}.input`);
    checkSize(output, output.rows, ROW_FUNCTIONS[name].outputs(input.cols), `${at}.output`);
    checkApart(input, output, `${at}.output`);
    return operation;
  };
}

function copyOf(matrix: Check<Matrix>): Check<CopyOperation> {
  const members = membersOf<CopyOperation>({ op: oneOf(['copy']), input: matrix, output: matrix, stage });
  return (value, at) => {
    const operation = members(value, at);
    const { input, output } = operation;
    checkSize(input, output.rows, output.cols, `${at}.input`);
    checkApart(input, output, `${at}.output`);
    return operation;
  };
}

function transferOf(matrix: Check<Matrix>, buffers: GivenHandles['buffers']): Check<TransferOperation> {
  const members = membersOf<TransferOperation>({
    op: oneOf(['transfer']),
    input: matrix,
    output: matrix,
    stage,
  });
  return (value, at) => {
    const operation = members(value, at);
    const { input, output } = operation;
    const { format = 'float32' } = output;
    checkSize(input, output.rows, output.cols, `${at}.input`);
    if ((input.format ?? 'float32') !== format) refuseOption(`${at}.input.format`, input.format, format);
    checkApart(input, output, `${at}.output`);
    if (!buffers.gave(input.buffer) && !buffers.gave(output.buffer))
      refuseOption(at, value, 'a transfer to or from a buffer that this backend gave');
    return operation;
  };
}

export const anything: Check<unknown> = (value) => value;
const stage = optional(text);

const floats = arrayOf('Float32Array');
const halves = arrayOf('Uint16Array');

function checkSize(matrix: Extent, rows: number, cols: number, at: string): void {
  if (matrix.rows !== rows) refuseOption(`${at}.rows`, matrix.rows, `${rows}`);
  if (matrix.cols !== cols) refuseOption(`${at}.cols`, matrix.cols, `${cols}`);
}

function checkApart(input: Matrix, output: Matrix, at: string): void {
  if (overlap(input, output)) refuseOption(`${at}.offset`, output.offset, 'a place apart from the input');
}
