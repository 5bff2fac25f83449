/** Reading a tensor with strides from a file as if it were contiguous, a piece at a time. */
import { at } from '../../at.ts';
import { type InputFile, openFile } from '../../input-file.ts';
import { readFully } from '../../stored-tensor.ts';

/** A view of bytes in a file: element [i, j, …] lies at byteOffset + (i · stride[0] + j · stride[1] + …) · elementBytes. */
export interface StridedView {
  readonly file: string;
  readonly byteOffset: number;
  readonly elementBytes: number;
  readonly shape: readonly number[];
  /** In elements; 0 repeats what it strides over. */
  readonly stride: readonly number[];
}

/** An axis in the file and in memory; strides in bytes. */
interface Axis {
  readonly extent: number;
  readonly from: number;
  readonly to: number;
}

/** What is held of the file at a time. */
const WINDOW_BYTES = 16 << 20;

/** Reading on over a gap costs less than another read call, up to here. */
const GAP_BYTES = 64 << 10;

/** Fills `into` with the contiguous tensor's bytes from byte `at` on. @throws as readBytes. */
export function stridedRead(view: StridedView): (into: Uint8Array, at: number) => Promise<void> {
  const { file, elementBytes } = view;
  const axes = mergedAxes(view);
  return async (into, at) => {
    await using opened = await openFile(file);
    const source = new Source(opened);
    for (const piece of alignedPieces(into, at, elementBytes)) {
      for (const box of boxes(axes, piece.at / elementBytes, piece.end / elementBytes))
        await readBox(view, source, box, piece.bytes.subarray(box.to - piece.at));
      piece.done();
    }
  };
}

/** Axes of more than one element; neighbours that are one run in the file are one axis. */
function mergedAxes({ shape, stride, elementBytes }: StridedView): Axis[] {
  const axes: Axis[] = [];
  let to = elementBytes;
  for (let i = shape.length - 1; i >= 0; i--) {
    const extent = at(shape, i);
    if (extent === 1) continue;
    const from = at(stride, i) * elementBytes;
    const inner = axes[0];
    if (inner !== undefined && from === inner.extent * inner.from)
      axes[0] = { ...inner, extent: extent * inner.extent };
    else axes.unshift({ extent, from, to });
    to *= extent;
  }
  return axes;
}

/** Bytes of whole elements to fill, from byte `at` to `end` of the tensor; `done` hands them over. */
interface Piece {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly end: number;
  readonly done: () => void;
}

/** `into` itself where it holds whole elements at their alignment, else pieces that are copied into it. */
function* alignedPieces(into: Uint8Array, at: number, elementBytes: number): Generator<Piece> {
  const end = at + into.length;
  if (at % elementBytes === 0 && end % elementBytes === 0 && into.byteOffset % elementBytes === 0) {
    yield { bytes: into, at, end, done: () => {} };
    return;
  }
  const first = at - (at % elementBytes);
  for (let begin = first; begin < end; begin += WINDOW_BYTES) {
    const pieceEnd = Math.min(Math.ceil(end / elementBytes) * elementBytes, begin + WINDOW_BYTES);
    const bytes = new Uint8Array(pieceEnd - begin);
    const done = () => {
      const from = Math.max(at, begin);
      into.set(bytes.subarray(from - begin, Math.min(end, pieceEnd) - begin), from - at);
    };
    yield { bytes, at: begin, end: pieceEnd, done };
  }
}

/** A part of a tensor that is one run of the contiguous tensor: its axes, and where it begins. */
interface Box {
  readonly axes: readonly Axis[];
  /** Byte of the view. */
  readonly from: number;
  /** Byte of the contiguous tensor. */
  readonly to: number;
}

/** The elements [first, end) as at most two boxes an axis and one more. */
function* boxes(axes: readonly Axis[], first: number, end: number, from = 0, to = 0): Generator<Box> {
  if (first >= end) return;
  const [axis, ...inner] = axes;
  if (axis === undefined) {
    yield { axes, from, to };
    return;
  }
  const size = inner.reduce((count, { extent }) => count * extent, 1);
  const [head, tail] = [Math.floor(first / size), Math.floor(end / size)];
  /** The elements [a, b) of one index. */
  const part = (index: number, a: number, b: number) =>
    boxes(inner, a, b, from + index * axis.from, to + index * axis.to);
  if (head === tail) {
    yield* part(head, first % size, end % size);
    return;
  }
  const whole = Math.ceil(first / size);
  if (whole > head) yield* part(head, first % size, size);
  if (tail > whole)
    yield {
      axes: [{ ...axis, extent: tail - whole }, ...inner],
      from: from + whole * axis.from,
      to: to + whole * axis.to,
    };
  yield* part(tail, 0, end % size);
}

/** Reads a box into `into`, the contiguous tensor's bytes from the box's first on. */
async function readBox(view: StridedView, source: Source, box: Box, into: Uint8Array): Promise<void> {
  const axes = [...box.axes].sort((a, b) => a.from - b.from);
  let span = view.elementBytes;
  let fitting = 0;
  for (const { extent, from } of axes) {
    const whole = span + (extent - 1) * from;
    if (from - span > GAP_BYTES || whole > WINDOW_BYTES) break;
    span = whole;
    fitting++;
  }
  const axis = axes[fitting];
  if (axis === undefined) {
    const position = view.byteOffset + box.from;
    const inPlace = isRun(axes, view.elementBytes);
    const bytes = inPlace ? into.subarray(0, span) : source.window(span);
    await readFully(source.file, bytes, position);
    if (!inPlace) scatter(bytes, into, axes, view.elementBytes);
    return;
  }
  // An axis too long or too wide for the window: as much of it at a time as fits.
  const atOnce = axis.from - span > GAP_BYTES ? 1 : Math.floor((WINDOW_BYTES - span) / axis.from) + 1;
  const others = axes.filter((other) => other !== axis);
  for (let i = 0; i < axis.extent; i += atOnce) {
    const extent = Math.min(atOnce, axis.extent - i);
    const part: Box = {
      axes: extent === 1 ? others : [...others, { ...axis, extent }],
      from: box.from + i * axis.from,
      to: box.to + i * axis.to,
    };
    await readBox(view, source, part, into.subarray(i * axis.to));
  }
}

/** True where the elements follow each other without gaps, in the file and in memory alike. */
function isRun(axes: readonly Axis[], elementBytes: number): boolean {
  let expected = elementBytes;
  for (const { extent, from, to } of axes) {
    if (from !== expected || to !== expected) return false;
    expected *= extent;
  }
  return true;
}

/** An open file, and memory for what is read of it. */
class Source {
  #window: Uint8Array = new Uint8Array(0);

  constructor(readonly file: InputFile) {}

  /** `bytes` to read into; the same memory each time. */
  window(bytes: number): Uint8Array {
    if (this.#window.length < bytes) this.#window = Buffer.allocUnsafeSlow(bytes);
    return this.#window.subarray(0, bytes);
  }
}

type Units = Uint8Array | Uint16Array | Uint32Array;

/** `bytes` as units of one, two or four bytes. */
function unitsOf({ buffer, byteOffset, length }: Uint8Array, unit: number): Units {
  if (unit === 1) return new Uint8Array(buffer, byteOffset, length);
  return unit === 2
    ? new Uint16Array(buffer, byteOffset, Math.floor(length / 2))
    : new Uint32Array(buffer, byteOffset, Math.floor(length / 4));
}

/** No further axis. */
const ONE: Axis = { extent: 1, from: 0, to: 0 };

/** Copies the elements of `axes` from `held` to their places in `into`; both are aligned for them. */
function scatter(held: Uint8Array, into: Uint8Array, axes: readonly Axis[], elementBytes: number): void {
  const unit = Math.min(elementBytes, 4);
  const [source, target] = [unitsOf(held, unit), unitsOf(into, unit)];
  const inUnits = axes.map(({ extent, from, to }) => ({ extent, from: from / unit, to: to / unit }));
  // Planes of the axis that is nearest in the file and of the one that is nearest in memory.
  const near = inUnits.reduce((a, b) => (b.from < a.from ? b : a));
  const rest = inUnits.filter((axis) => axis !== near);
  const other = rest.length === 0 ? ONE : rest.reduce((a, b) => (b.to < a.to ? b : a));
  const outer = rest.filter((axis) => axis !== other);
  const copy = (axis: number, s: number, t: number): void => {
    const next = outer[axis];
    if (next !== undefined)
      for (let i = 0; i < next.extent; i++) copy(axis + 1, s + i * next.from, t + i * next.to);
    else {
      copyPlane(source, target, near, other, s, t);
      // The upper halves of elements of eight bytes.
      if (elementBytes > unit) copyPlane(source, target, near, other, s + 1, t + 1);
    }
  };
  copy(0, 0, 0);
}

/** So many elements of the near axis are copied in turn, along the whole other one: a cache line of the file. */
const BLOCK = 16;

function copyPlane(source: Units, target: Units, near: Axis, other: Axis, s: number, t: number): void {
  for (let first = 0; first < near.extent; first += BLOCK) {
    const end = Math.min(first + BLOCK, near.extent);
    for (let i = 0; i < other.extent; i++) {
      const [from, to] = [s + i * other.from, t + i * other.to];
      for (let j = first; j < end; j++) target[to + j * near.to] = source[from + j * near.from] as number;
    }
  }
}
