/**
 * Boxes of a tensor: how the shards of a divided tensor lie in it. Elements are counted in row-major order, in the tensor
 * and in each box by itself. Pure.
 */
import { at } from '../../at.ts';
import { elementCount } from '../../tensor.ts';

/** A part of a tensor: along axis a, `sizes[a]` elements from `offsets[a]` on. */
export interface Box {
  readonly offsets: readonly number[];
  readonly sizes: readonly number[];
}

/** "[4, 3] at [0, 2]". */
const describe = ({ offsets, sizes }: Box): string => `[${sizes.join(', ')}] at [${offsets.join(', ')}]`;

/** What keeps boxes from filling a tensor of `shape` exactly once; undefined when they do. Empty boxes fill nothing. */
export function tilingFault(shape: readonly number[], boxes: readonly Box[]): string | undefined {
  const outside = boxes.find(
    ({ offsets, sizes }) =>
      offsets.length !== shape.length ||
      sizes.length !== shape.length ||
      shape.some((extent, axis) => at(offsets, axis) + at(sizes, axis) > extent),
  );
  if (outside !== undefined)
    return `its chunk ${describe(outside)} reaches out of its shape [${shape.join(', ')}]`;
  const filled = boxes.filter(({ sizes }) => !sizes.includes(0));
  const overlap = findOverlap(shape, filled);
  if (overlap === 'unknown')
    return 'its chunks are cut along too many axes at once to see whether they overlap';
  if (overlap !== undefined) return `its chunks ${describe(overlap[0])} and ${describe(overlap[1])} overlap`;
  const covered = filled.reduce((sum, { sizes }) => sum + elementCount(sizes), 0);
  const missing = elementCount(shape) - covered;
  return missing === 0 ? undefined : `its chunks leave ${missing} of its ${elementCount(shape)} elements out`;
}

/** Pairs of chunks that are compared at most; 16,384 in a grid of two axes need a million. */
const MAX_PAIRS = 1 << 23;

/** Two boxes that share an element. Walks along the axis that is cut most often, so that few boxes stand side by side. */
function findOverlap(
  shape: readonly number[],
  boxes: readonly Box[],
): readonly [Box, Box] | 'unknown' | undefined {
  const cuts = shape.map((_, axis) => new Set(boxes.map(({ offsets }) => offsets[axis])).size);
  const along = cuts.indexOf(Math.max(...cuts));
  // A tensor without axes has one element, at 0.
  const begin = (box: Box) => box.offsets[along] ?? 0;
  let open: Box[] = [];
  let pairs = 0;
  for (const box of [...boxes].sort((a, b) => begin(a) - begin(b))) {
    open = open.filter((other) => begin(other) + (other.sizes[along] ?? 1) > begin(box));
    pairs += open.length;
    if (pairs > MAX_PAIRS) return 'unknown';
    const other = open.find((candidate) => overlaps(candidate, box));
    if (other !== undefined) return [other, box];
    open.push(box);
  }
  return undefined;
}

function overlaps(a: Box, b: Box): boolean {
  return a.sizes.every((size, axis) => {
    const [beginA, beginB] = [at(a.offsets, axis), at(b.offsets, axis)];
    return beginA < beginB + at(b.sizes, axis) && beginB < beginA + size;
  });
}

/**
 * The elements of a box as runs: so many that lie side by side in the box and in the tensor. Run r holds the box's elements
 * from r · `length` on.
 */
export class BoxRuns {
  /** Elements of a run. */
  readonly length: number;
  readonly #box: Box;
  readonly #shape: readonly number[];
  /** Elements of the tensor from one index of an axis to the next. */
  readonly #strides: readonly number[];
  /** Axes before those that a run spans. */
  readonly #outerAxes: number;

  /** `box` is not empty and lies in `shape`, which has an axis. */
  constructor(shape: readonly number[], box: Box) {
    this.#shape = shape;
    this.#box = box;
    this.#strides = shape.map((_, axis) => elementCount(shape.slice(axis + 1)));
    let first = shape.length - 1;
    while (first > 0 && box.sizes[first] === shape[first]) first--;
    this.#outerAxes = first;
    this.length = elementCount(box.sizes.slice(first));
  }

  /** Element of the tensor where run `run` begins. */
  start(run: number): number {
    const { offsets, sizes } = this.#box;
    let start = (offsets[this.#outerAxes] as number) * (this.#strides[this.#outerAxes] as number);
    let rest = run;
    for (let axis = this.#outerAxes - 1; axis >= 0; axis--) {
      const size = sizes[axis] as number;
      start += ((offsets[axis] as number) + (rest % size)) * (this.#strides[axis] as number);
      rest = Math.floor(rest / size);
    }
    return start;
  }

  /** How many of the box's elements lie before element `position` of the tensor, which may be its end. */
  before(position: number): number {
    const { offsets, sizes } = this.#box;
    let [count, inner, rest] = [0, elementCount(sizes), position];
    for (let axis = 0; axis < this.#shape.length; axis++) {
      const [size, stride] = [sizes[axis] as number, this.#strides[axis] as number];
      inner /= size;
      const index = Math.floor(rest / stride) - (offsets[axis] as number);
      rest %= stride;
      if (index < 0) return count;
      if (index >= size) return count + size * inner;
      count += index * inner;
    }
    return count;
  }
}
