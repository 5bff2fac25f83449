/** A head on a device: its blocks' weights, and the operations of a batch over matrices that are laid out for it. */
import { at } from '../at.ts';
import { columns, formatOf, type Matrix, type Operation } from '../backend/backend.ts';
import { keepingPlaced } from '../backend/keep-placed.ts';
import type { Workspace } from '../backend/workspace.ts';
import { throwIfAborted } from '../checks/abort.ts';
import { type BlockKind, type PlacedBlock, type PlacementTarget, sum } from '../dense/block.ts';
import { kindOf } from '../dense/blocks.ts';
import type { WeightedLayer } from '../dense/layer-scales.ts';
import { layerPrecision } from '../dense/place-layer.ts';
import { activationsOn, type DensePrecision, type DeviceDescription, type ElementFormat } from '../device.ts';
import type { Part } from './block-list.ts';
import type { Head, Value } from './head.ts';

/** What a program of a head has: where inputs go, what is done, where outputs are. */
export interface HeadProgram {
  /** Undefined where the model has no dense features. */
  readonly dense?: Matrix;
  readonly pooled: Matrix;
  readonly operations: readonly Operation[];
  /** In the order of the head's outputs. */
  readonly outputs: readonly Matrix[];
}

/** The stage of a part's operations. */
const STAGE = { bottom: 'bottomMs', interaction: 'interactionMs', top: 'topMs' } as const satisfies Record<
  Part,
  string
>;

export class PlacedHead implements Disposable {
  readonly #head: Head;
  readonly #placed: readonly PlacedBlock[];
  /** Of the matrices between blocks. */
  readonly #format: ElementFormat;
  /** How layers multiply, where that is not one precision for all, for people. */
  readonly notes: readonly string[];

  private constructor(
    head: Head,
    placed: readonly PlacedBlock[],
    format: ElementFormat,
    notes: readonly string[],
  ) {
    this.#head = head;
    this.#placed = placed;
    this.#format = format;
    this.notes = notes;
  }

  /**
   * Reads the blocks' weights and places them; `signal` is looked at between blocks.
   * @throws AbortError; DeviceError OUT_OF_MEMORY; UsageError, FormatError for files.
   */
  static async place(
    given: Omit<PlacementTarget, 'isCalibrated'>,
    head: Head,
    signal?: AbortSignal,
  ): Promise<PlacedHead> {
    const on = { ...given, isCalibrated: isCalibrated(head) || given.scaled !== undefined };
    return keepingPlaced(async (keep) => {
      const placed: PlacedBlock[] = [];
      for (const { block, vectors } of head.blocks) {
        throwIfAborted(signal, 'placing the head');
        placed.push(keep(await kindOf(block).place(on, block, vectors)));
      }
      const format = activationsOn(on.backend.device, on.precision);
      return new PlacedHead(head, placed, format, precisionNotes(on, head));
    });
  }

  /** The program for batches of at most `capacity` samples, over matrices of `workspace`. @throws DeviceError OUT_OF_MEMORY. */
  program(capacity: number, workspace: Workspace): HeadProgram {
    const { dense, pooled, blocks, outputs } = this.#head;
    const layout = new Layout(this.#head, capacity, workspace, this.#format);
    const inputs = {
      ...(dense === undefined ? {} : { dense: layout.write(dense) }),
      pooled: layout.write(pooled),
    };
    const operations = blocks.flatMap((wired, i) => {
      const kind = kindOf(wired.block);
      const output = layout.write(wired.output, kind);
      const input = layout.read(wired.inputs, kind);
      const own = at(this.#placed, i).operations(input, output, workspace);
      const stage = STAGE[wired.part];
      return [...layout.copies(), ...own].map((operation) => ({ ...operation, stage }));
    });
    const exchanged = outputs.map((output) => layout.packed(output));
    const last = layout.copies().map((operation) => ({ ...operation, stage: 'copyMs' }));
    return { ...inputs, operations: [...operations, ...last], outputs: exchanged };
  }

  [Symbol.dispose](): void {
    for (const block of this.#placed) block[Symbol.dispose]();
  }
}

/** All layers of a head, in the order of its linear operations. */
export function layersOf({ blocks }: Head): WeightedLayer[] {
  return blocks.flatMap(({ block }) => kindOf(block).layers(block));
}

/** Whether scales of its layers say which of them are in 8 bits. */
export function isCalibrated(head: Head): boolean {
  return layersOf(head).some(({ scales }) => scales !== undefined);
}

/** The precision of a head's stored layers, where they have one and the device has it. */
export function storedPrecision({ capabilities }: DeviceDescription, head: Head): DensePrecision | undefined {
  const own = isCalibrated(head) ? 'float8_e4m3' : undefined;
  return own !== undefined && capabilities.precisions.includes(own) ? own : undefined;
}

function precisionNotes(on: PlacementTarget, head: Head): string[] {
  const layers = layersOf(head);
  const scaled = layers.filter(({ scales }) => scales !== undefined).length;
  const all = `${layers.length} dense layers`;
  if (on.precision === 'float8_e4m3') {
    const wide = layers.map((layer) => layerPrecision(on, layer)).filter((own) => own !== on.precision);
    const [other] = wide;
    const why = on.isCalibrated ? 'as the checkpoint says' : 'inputs by a scale for each row';
    const rest = other === undefined ? '' : `; the others in ${other}`;
    return [`${layers.length - wide.length} of ${all} multiply in ${on.precision}, ${why}${rest}`];
  }
  if (scaled === 0) return [];
  return [
    `${scaled} of ${all} are float8_e4m3 in the checkpoint: their values multiply in ${on.precision}, and inputs are not rounded to 8 bits`,
  ];
}

/** Values that blocks take side by side: one matrix. */
interface Joined {
  readonly values: readonly Value[];
  /** Its padding is written with the last value, if it is written there by what writes padding. */
  matrix: Matrix;
  /** Values that are there. */
  readonly filled: Set<Value>;
}

/** What a kind of block says of its matrices. */
type Kind = Pick<BlockKind<never>, 'takesFloat32' | 'givesFloat32' | 'writesPadding'>;

/** The pooling kernels write any format. */
const POOLING: Kind = { givesFloat32: true };

/**
 * Where values lie. One that some block takes beside others is made where they stand together, so that nothing is copied on
 * the way in; other blocks that take it beside others get a copy. Dense features and outputs are float32 and lie without gaps between
 * rows, as the host has them; what else there is has the format of the activations.
 */
class Layout {
  readonly #capacity: number;
  readonly #workspace: Workspace;
  readonly #format: ElementFormat;
  /** Several inputs of a block, each list once, in the blocks' order. */
  readonly #lists = new Map<string, readonly Value[]>();
  readonly #joined = new Map<string, Joined>();
  readonly #places = new Map<Value, Matrix>();
  /** Copies of float32 values in the format of the activations. */
  readonly #narrowed = new Map<Value, Matrix>();
  /** What the host fills or reads. */
  readonly #exchanged: ReadonlySet<Value>;
  readonly #copies: Operation[] = [];

  constructor(
    { blocks, dense, outputs }: Head,
    capacity: number,
    workspace: Workspace,
    format: ElementFormat,
  ) {
    this.#capacity = capacity;
    this.#workspace = workspace;
    this.#format = format;
    this.#exchanged = new Set(dense === undefined ? outputs : [dense, ...outputs]);
    for (const { inputs } of blocks) if (inputs.length > 1) this.#lists.set(keyOf(inputs), inputs);
  }

  /** Where a value is made by a block of this kind; it is there from now on. */
  write(value: Value, kind: Kind = POOLING): Matrix {
    const isApart = value.name === 'dense' || this.#formatOf(value, kind) !== this.#format;
    const lists = isApart ? [] : [...this.#lists];
    const [key] = lists.find(([, values]) => values.includes(value)) ?? [];
    const place = key === undefined ? this.#alone(value, kind) : this.#within(key, value, kind);
    this.#places.set(value, place);
    return place;
  }

  /** Where values that are there stand side by side, for a block of this kind. */
  read(values: readonly Value[], { takesFloat32 = false }: Kind): Matrix {
    const [first] = values as readonly [Value];
    if (values.length === 1) {
      const place = this.#places.get(first) as Matrix;
      return takesFloat32 || formatOf(place) === this.#format ? place : this.#narrow(first, place);
    }
    const joined = this.#join(keyOf(values));
    this.#fill(joined);
    return joined.matrix;
  }

  /** Copies that are to be made before the next block. */
  copies(): Operation[] {
    return this.#copies.splice(0);
  }

  /** Where a value that is there lies in float32 without gaps between rows, as arrays of the host do: a device copies it in one piece. */
  packed(value: Value): Matrix {
    const place = this.#places.get(value) as Matrix;
    if (place.stride === place.cols && formatOf(place) === 'float32') return place;
    const output = this.#workspace.packed(this.#capacity, value.width);
    this.#copies.push({ op: 'copy', input: place, output });
    return output;
  }

  /** What a value is made in: what the host reads is float32 where it can be made so. */
  #formatOf(value: Value, { givesFloat32 = false }: Kind): ElementFormat {
    return givesFloat32 && this.#exchanged.has(value) ? 'float32' : this.#format;
  }

  #alone(value: Value, kind: Kind): Matrix {
    const format = this.#formatOf(value, kind);
    return this.#exchanged.has(value)
      ? this.#workspace.packed(this.#capacity, value.width, format)
      : this.#workspace.matrix(this.#capacity, value.width, format);
  }

  #within(key: string, value: Value, { writesPadding = false }: Kind): Matrix {
    const joined = this.#join(key);
    joined.filled.add(value);
    if (writesPadding && value === joined.values.at(-1)) joined.matrix = padded(joined.matrix);
    return part(joined, value);
  }

  #join(key: string): Joined {
    const known = this.#joined.get(key);
    if (known !== undefined) return known;
    const values = this.#lists.get(key) as readonly Value[];
    const width = sum(values.map((value) => value.width));
    const joined = {
      values,
      matrix: this.#workspace.matrix(this.#capacity, width, this.#format),
      filled: new Set<Value>(),
    };
    this.#joined.set(key, joined);
    this.#fill(joined);
    return joined;
  }

  /** Copies what is there elsewhere. */
  #fill(joined: Joined): void {
    for (const value of joined.values) {
      const place = this.#places.get(value);
      if (place === undefined || joined.filled.has(value)) continue;
      joined.filled.add(value);
      this.#copies.push({ op: 'copy', input: place, output: part(joined, value) });
    }
  }

  #narrow(value: Value, place: Matrix): Matrix {
    const known = this.#narrowed.get(value);
    if (known !== undefined) return known;
    const output = this.#workspace.matrix(this.#capacity, value.width, this.#format);
    this.#narrowed.set(value, output);
    this.#copies.push({ op: 'copy', input: place, output });
    return output;
  }
}

const keyOf = (values: readonly Value[]) => JSON.stringify(values.map(({ name }) => name));

/** With zeros to the end of the rows; float32 is multiplied without them. */
function padded(matrix: Matrix): Matrix {
  const padding = matrix.stride - matrix.cols;
  return padding === 0 || formatOf(matrix) === 'float32' ? matrix : { ...matrix, padding };
}

/** The columns of a value, and the padding behind the last. */
function part({ values, matrix }: Joined, value: Value): Matrix {
  const before = values.slice(0, values.indexOf(value));
  const { padding: _, ...own } = columns(matrix, sum(before.map(({ width }) => width)), value.width);
  const { padding = 0 } = value === values.at(-1) ? matrix : {};
  return padding === 0 ? own : { ...own, padding };
}
