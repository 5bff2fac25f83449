/** What of a program is written in 8 bits too, for later layers that multiply it so, and where. Pure. */
import {
  type EmbeddingBagsOperation,
  formatOf,
  type LinearOperation,
  type Matrix,
  type Operation,
} from '../../backend.ts';
import { overlap } from '../../overlap.ts';

/** Bytes of a row are a multiple of these: of 8-bit weights' rows too. Layers write whole units. */
const UNIT_BYTES = 16;
const COPY_BYTES = 256;

/** What may write a part of a copy. */
export type CopyWriter = LinearOperation | EmbeddingBagsOperation;

/** What of the operations of a program decides about copies. */
export interface CopyFacts {
  /** Whether the kernels of an operation can write copies. */
  writes(operation: CopyWriter): boolean;
  /** What all inputs of a layer are divided by, where it multiplies in 8 bits and has one scale for them. */
  inputScale(operation: LinearOperation): number | undefined;
}

/** A copy in 8 bits, or a part of one that an operation writes. */
export interface CopyPlace {
  /**
   * What it is in. `shared`: memory of all copies of all programs, used in the order of their layers. `own`: memory of this program
   * alone, since lookups run beside the layers of other batches.
   */
  readonly memory: 'shared' | 'own';
  readonly offset: number;
  /** Bytes between rows. */
  readonly stride: number;
  /** Columns, with the zeros behind the last of a copy. */
  readonly cols: number;
  readonly scale: number;
  /** Whether nobody needs what it is a copy of. */
  readonly alone: boolean;
}

export interface EightBitCopies {
  /** Of each memory. */
  readonly bytes: Readonly<Record<CopyPlace['memory'], number>>;
  /** By the places of the operations that write them. */
  readonly written: ReadonlyMap<number, CopyPlace>;
  /** By the places of the operations that read them. */
  readonly read: ReadonlyMap<number, CopyPlace>;
}

/** What an operation writes of a matrix. */
interface Part {
  readonly writer: number;
  readonly column: number;
  readonly cols: number;
}

/** A copy while its memory is looked for. */
interface Copy {
  readonly parts: readonly Part[];
  readonly readers: number[];
  readonly scale: number;
  readonly matrix: Matrix;
}

/**
 * A layer with one scale for its inputs reads a copy where they are exactly what earlier operations of the program wrote last, side by
 * side, and all of these can write copies. Memory of a copy of layers is another's once its last reader is done: they run in
 * their order.
 */
export function eightBitCopies(program: readonly Operation[], facts: CopyFacts): EightBitCopies {
  const copies: Copy[] = [];
  const byWriter = new Map<number, Copy>();
  for (const [place, operation] of program.entries()) {
    if (operation.op !== 'linear') continue;
    const scale = facts.inputScale(operation);
    if (scale === undefined) continue;
    const matrix = operation.input;
    const parts = partsOf(program, place, matrix, facts);
    if (parts === undefined) continue;
    const known = parts.map(({ writer }) => byWriter.get(writer)).find((copy) => copy !== undefined);
    if (known === undefined) {
      const copy = { parts, readers: [place], scale, matrix };
      copies.push(copy);
      for (const { writer } of parts) byWriter.set(writer, copy);
    } else if (known.scale === scale && sameParts(known.parts, parts)) {
      known.readers.push(place);
    }
  }
  return placed(program, copies);
}

/** What wrote all of a matrix before `place`, in the order of columns; undefined: something that writes no copies did. */
function partsOf(
  program: readonly Operation[],
  place: number,
  matrix: Matrix,
  facts: CopyFacts,
): readonly Part[] | undefined {
  const parts: Part[] = [];
  let missing = matrix.cols;
  for (let writer = place - 1; missing > 0; writer--) {
    const operation = program[writer];
    if (operation === undefined) return undefined;
    if (operation.op === 'download' || !overlap(operation.output, matrix)) continue;
    if (operation.op !== 'linear' && operation.op !== 'embeddingBags') return undefined;
    const { output } = operation;
    const column = output.offset - matrix.offset;
    if (!facts.writes(operation) || !isWithin(output, matrix, column)) return undefined;
    if (parts.some((later) => column < later.column + later.cols && later.column < column + output.cols))
      return undefined;
    parts.push({ writer, column, cols: output.cols });
    missing -= output.cols;
  }
  const isWhole = parts.length === 1 && parts.every(({ writer }) => program[writer]?.op === 'linear');
  const isOfUnits = ({ writer, column, cols }: Part) =>
    program[writer]?.op === 'embeddingBags' || (column % UNIT_BYTES === 0 && cols % UNIT_BYTES === 0);
  // Zeros behind the last column are written with a whole copy alone.
  if (!isWhole && !(matrix.cols % UNIT_BYTES === 0 && parts.every(isOfUnits))) return undefined;
  return parts.toSorted((a, b) => a.column - b.column);
}

/** Whether `part` is columns of a matrix, the first of them `column`. */
function isWithin(part: Matrix, matrix: Matrix, column: number): boolean {
  const { buffer, rows, stride } = matrix;
  const isThere = part.buffer === buffer && part.stride === stride && column >= 0;
  return (
    isThere && column + part.cols <= matrix.cols && part.rows === rows && formatOf(part) === formatOf(matrix)
  );
}

/** The same writers make the same matrix. */
function sameParts(a: readonly Part[], b: readonly Part[]): boolean {
  return a.length === b.length && a.every(({ writer }, i) => b[i]?.writer === writer);
}

/** Puts each copy as low as those allow that live at the same time. */
function placed(program: readonly Operation[], copies: readonly Copy[]): EightBitCopies {
  const taken: { readonly start: number; readonly end: number; readonly until: number }[] = [];
  const [written, read] = [new Map<number, CopyPlace>(), new Map<number, CopyPlace>()];
  let own = 0;
  const byFirst = copies.map((copy) => ({
    ...copy,
    first: Math.min(...copy.parts.map(({ writer }) => writer)),
  }));
  for (const { parts, first, readers, scale, matrix } of byFirst.toSorted((a, b) => a.first - b.first)) {
    const stride = Math.ceil(matrix.cols / UNIT_BYTES) * UNIT_BYTES;
    const bytes = Math.ceil((matrix.rows * stride) / COPY_BYTES) * COPY_BYTES;
    const isOwn = parts.some(({ writer }) => program[writer]?.op === 'embeddingBags');
    let start = isOwn ? own : 0;
    if (isOwn) own += bytes;
    else {
      // A layer may read one and write another.
      const living = taken.filter(({ until }) => until >= first).toSorted((a, b) => a.start - b.start);
      for (const other of living) {
        if (start + bytes <= other.start) break;
        start = Math.max(start, other.end);
      }
      taken.push({ start, end: start + bytes, until: Math.max(...readers) });
    }
    const memory = isOwn ? 'own' : 'shared';
    const alone = isNeededInEightBitsAlone(program, { parts, readers, scale, matrix });
    const whole = { memory, offset: start, stride, cols: stride, scale, alone } as const;
    for (const { writer, column, cols } of parts)
      written.set(writer, parts.length === 1 ? whole : { ...whole, offset: start + column, cols });
    for (const reader of readers) read.set(reader, whole);
  }
  const shared = Math.max(0, ...taken.map(({ end }) => end));
  return { bytes: { shared, own }, written, read };
}

/** Whether no operation behind the writers of a copy reads the matrix itself. */
function isNeededInEightBitsAlone(program: readonly Operation[], { parts, readers, matrix }: Copy): boolean {
  if (matrix.transient !== true) return false;
  const first = Math.min(...parts.map(({ writer }) => writer));
  return program.every((operation, place) => {
    if (place <= first) return true;
    const others = readers.includes(place) ? [] : inputsOf(operation);
    return [...others, ...termsOf(operation)].every((read) => !overlap(read, matrix));
  });
}

/** What an operation reads, but for the terms of a cross. */
function inputsOf(operation: Operation): readonly Matrix[] {
  return operation.op === 'upload' || operation.op === 'embeddingBags' ? [] : [operation.input];
}

function termsOf(operation: Operation): readonly Matrix[] {
  const cross = operation.op === 'linear' ? operation.cross : undefined;
  return cross === undefined ? [] : [cross.x0, cross.x];
}
