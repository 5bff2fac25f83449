/** Which layers of a program write their output in 8 bits too, for later ones that multiply it so, and where. Pure. */
import { formatOf, type LinearOperation, type Matrix, type Operation } from '../../backend.ts';
import { overlap } from '../../overlap.ts';

/** Bytes of a row are a multiple of these: of 8-bit weights' rows too. */
const ROW_BYTES = 16;
const COPY_BYTES = 256;

/** What of a layer decides about copies. */
export interface LayerFacts {
  /** Whether its kernels can write copies. */
  readonly writes: boolean;
  /** What all its inputs are divided by, where it multiplies in 8 bits and has one scale for them. */
  readonly inputScale: number | undefined;
}

/** A copy in 8 bits, in memory of which all copies of a program are parts. */
export interface CopyPlace {
  readonly offset: number;
  /** Bytes between rows. */
  readonly stride: number;
  readonly scale: number;
}

export interface EightBitCopies {
  /** Of the memory. */
  readonly bytes: number;
  /** By the places of the operations that write them. */
  readonly written: ReadonlyMap<number, CopyPlace>;
  /** By the places of the operations that read them. */
  readonly read: ReadonlyMap<number, CopyPlace>;
}

/** A copy while its memory is looked for. */
interface Copy {
  readonly writer: number;
  readonly readers: readonly number[];
  readonly scale: number;
  readonly matrix: Matrix;
}

/**
 * A layer with one scale for its inputs reads a copy where they are exactly what an earlier layer of the program wrote last. Memory of
 * a copy is another's once its last reader is done: operations run in their order.
 */
export function eightBitCopies(
  program: readonly Operation[],
  factsOf: (operation: LinearOperation) => LayerFacts,
): EightBitCopies {
  const readers = new Map<number, { readonly places: number[]; readonly scale: number }>();
  for (const [place, operation] of program.entries()) {
    if (operation.op !== 'linear') continue;
    const { inputScale } = factsOf(operation);
    if (inputScale === undefined) continue;
    const writer = lastWriter(program, place, operation.input);
    const wrote = writer === undefined ? undefined : program[writer];
    if (writer === undefined || wrote?.op !== 'linear' || !factsOf(wrote).writes) continue;
    if (!isSame(wrote.output, operation.input)) continue;
    const known = readers.get(writer);
    if (known === undefined) readers.set(writer, { places: [place], scale: inputScale });
    else if (known.scale === inputScale) known.places.push(place);
  }
  const copies = [...readers].map(
    ([writer, { places, scale }]): Copy => ({
      ...{ writer, readers: places, scale },
      matrix: (program[writer] as LinearOperation).output,
    }),
  );
  return placed(copies.toSorted((a, b) => a.writer - b.writer));
}

/** The last operation before `place` that writes any of a matrix. */
function lastWriter(program: readonly Operation[], place: number, matrix: Matrix): number | undefined {
  const writer = program.findLastIndex(
    (operation, i) => i < place && operation.op !== 'download' && overlap(operation.output, matrix),
  );
  return writer < 0 ? undefined : writer;
}

function isSame(a: Matrix, b: Matrix): boolean {
  const { buffer, offset, rows, cols, stride } = a;
  const isThere = b.buffer === buffer && b.offset === offset && b.stride === stride;
  return isThere && b.rows === rows && b.cols === cols && formatOf(a) === formatOf(b);
}

/** Puts each copy as low as those allow that live at the same time. */
function placed(copies: readonly Copy[]): EightBitCopies {
  const taken: { readonly start: number; readonly end: number; readonly until: number }[] = [];
  const [written, read] = [new Map<number, CopyPlace>(), new Map<number, CopyPlace>()];
  for (const { writer, readers, scale, matrix } of copies) {
    const stride = Math.ceil(matrix.cols / ROW_BYTES) * ROW_BYTES;
    const bytes = Math.ceil((matrix.rows * stride) / COPY_BYTES) * COPY_BYTES;
    // A layer may read one and write another.
    const living = taken.filter(({ until }) => until >= writer).toSorted((a, b) => a.start - b.start);
    let start = 0;
    for (const other of living) {
      if (start + bytes <= other.start) break;
      start = Math.max(start, other.end);
    }
    taken.push({ start, end: start + bytes, until: Math.max(...readers) });
    const place = { offset: start, stride, scale };
    written.set(writer, place);
    for (const reader of readers) read.set(reader, place);
  }
  return { bytes: Math.max(0, ...taken.map(({ end }) => end)), written, read };
}
