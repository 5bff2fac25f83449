/** Transfers between devices, compared bit by bit. */
import { type Backend, elementBytes, type Matrix, matrix } from '../../src/backend/backend.ts';
import { ELEMENT_FORMATS, type ElementFormat } from '../../src/device.ts';
import { assertSameBits } from './compare.ts';
import type { Random } from './random.ts';

/** Where the rows of a matrix lie: elements. */
interface Place {
  readonly offset: number;
  readonly stride: number;
}

interface Case {
  readonly rows: number;
  readonly cols: number;
  readonly input: Place;
  readonly output: Place;
}

const LENGTH = 2048;

/** All without gaps, either with gaps, both; odd offsets, which put halves between words; few, many and no rows. */
const CASES: readonly Case[] = [
  { rows: 1, cols: 1, input: { offset: 3, stride: 1 }, output: { offset: 6, stride: 9 } },
  { rows: 4, cols: 8, input: { offset: 0, stride: 8 }, output: { offset: 16, stride: 8 } },
  { rows: 7, cols: 6, input: { offset: 5, stride: 6 }, output: { offset: 1, stride: 6 } },
  { rows: 7, cols: 5, input: { offset: 1, stride: 12 }, output: { offset: 3, stride: 5 } },
  { rows: 7, cols: 5, input: { offset: 2, stride: 5 }, output: { offset: 4, stride: 11 } },
  { rows: 50, cols: 33, input: { offset: 7, stride: 40 }, output: { offset: 9, stride: 36 } },
  { rows: 0, cols: 4, input: { offset: 0, stride: 4 }, output: { offset: 0, stride: 4 } },
  { rows: 3, cols: 0, input: { offset: 0, stride: 4 }, output: { offset: 0, stride: 4 } },
];

/**
 * Asserts that programs of `on` transfer matrices of every format from a buffer of `from` to one of `to`, run after run, and
 * change nothing else. The values are random bits: NaNs of every kind are among them.
 */
export async function assertTransfers(
  random: Random,
  on: Backend,
  from: Backend,
  to: Backend,
): Promise<void> {
  using source = from.allocate(LENGTH);
  using target = to.allocate(LENGTH);
  for (const format of ELEMENT_FORMATS) {
    for (const { rows, cols, input, output } of CASES) {
      const [read, written]: Matrix[] = [
        { buffer: source, rows, cols, format, ...input },
        { buffer: target, rows, cols, format, ...output },
      ] as const;
      using executable = on.prepare([{ op: 'transfer', input: read as Matrix, output: written as Matrix }]);
      // The first run of a program, the one that is captured, and one that replays it.
      for (let run = 0; run < 3; run++) {
        const [values, before, after] = [random.bits(LENGTH), random.bits(LENGTH), new Float32Array(LENGTH)];
        await from.run([{ op: 'upload', source: values, output: matrix(source, 1, LENGTH) }]);
        await to.run([{ op: 'upload', source: before, output: matrix(target, 1, LENGTH) }]);
        await executable.run({}, { timing: 'none' });
        await to.run([{ op: 'download', input: matrix(target, 1, LENGTH), target: after }]);
        const expected = transferred(values, before, { rows, cols, input, output }, format);
        assertSameBits(
          after,
          expected,
          `${format} [${rows}, ${cols}] at ${input.offset}/${input.stride} → ${output.offset}/${output.stride}, run ${run}`,
        );
      }
    }
  }
}

/** What `before` is after the transfer. */
function transferred(
  values: Float32Array,
  before: Float32Array,
  { rows, cols, input, output }: Case,
  format: ElementFormat,
): Float32Array {
  const after = before.slice();
  const size = elementBytes({ format });
  const [from, to] = [new Uint8Array(values.buffer), new Uint8Array(after.buffer)];
  for (let row = 0; row < rows; row++) {
    const start = (input.offset + row * input.stride) * size;
    to.set(from.subarray(start, start + cols * size), (output.offset + row * output.stride) * size);
  }
  return after;
}
