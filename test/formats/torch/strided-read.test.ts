import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stridedRead } from '../../../src/formats/torch/strided-read.ts';
import { InputFile } from '../../../src/input-file.ts';
import fc from '../../support/properties.ts';

const WINDOW_BYTES = 16 << 20;
/** More than one window, so that axes are taken apart. */
const FILE_BYTES = 20 << 20;
const BYTES = new Uint8Array(FILE_BYTES).map((_, i) => (i * 7 + (i >> 8) * 31 + (i >> 16)) & 0xff);

let file = '';
let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-strided-'));
  file = join(folder, 'bytes');
  await writeFile(file, BYTES);
});
after(() => rm(folder, { recursive: true }));

interface View {
  readonly byteOffset: number;
  readonly elementBytes: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
}

/** The contiguous tensor's bytes, element by element. */
function expected({ byteOffset, elementBytes, shape, stride }: View): Uint8Array {
  const count = shape.reduce((product, extent) => product * extent, 1);
  const bytes = new Uint8Array(count * elementBytes);
  for (let i = 0; i < count; i++) {
    let rest = i;
    let element = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      element += (rest % (shape[axis] as number)) * (stride[axis] as number);
      rest = Math.floor(rest / (shape[axis] as number));
    }
    const at = byteOffset + element * elementBytes;
    bytes.set(BYTES.subarray(at, at + elementBytes), i * elementBytes);
  }
  return bytes;
}

/** Reads [at, at + length) into memory that begins `shift` bytes past an aligned place, and checks it. */
async function check(view: View, at: number, length: number, shift = 0): Promise<void> {
  const memory = new Uint8Array(shift + length + 8).fill(0xee);
  await stridedRead({ file, ...view })(memory.subarray(shift, shift + length), at);
  const read = Buffer.from(memory.buffer, shift, length);
  assert.ok(read.equals(expected(view).subarray(at, at + length)), JSON.stringify({ view, at, length }));
  assert.ok(
    memory.subarray(shift + length).every((byte) => byte === 0xee),
    'nothing past the end',
  );
}

const whole = (view: View): number =>
  view.shape.reduce((product, extent) => product * extent, 1) * view.elementBytes;

describe('strided reads', () => {
  const rows: readonly (readonly [name: string, view: View])[] = [
    ['transposed', { byteOffset: 64, elementBytes: 4, shape: [300, 17], stride: [1, 300] }],
    [
      'transposed, its columns far apart',
      { byteOffset: 4, elementBytes: 2, shape: [50, 3], stride: [1, 3_000_000] },
    ],
    ['columns of wide rows', { byteOffset: 0, elementBytes: 4, shape: [40, 5], stride: [100_000, 1] }],
    ['every other column', { byteOffset: 8, elementBytes: 8, shape: [30, 10], stride: [20, 2] }],
    ['one value', { byteOffset: 12, elementBytes: 4, shape: [1000], stride: [0] }],
    ['rows repeated', { byteOffset: 12, elementBytes: 4, shape: [9, 7], stride: [0, 1] }],
    ['values repeated', { byteOffset: 12, elementBytes: 1, shape: [9, 7], stride: [1, 0] }],
    ['overlapping rows', { byteOffset: 0, elementBytes: 2, shape: [9, 7], stride: [2, 1] }],
    ['one element far from the other', { byteOffset: 0, elementBytes: 4, shape: [2], stride: [5_000_000] }],
    ['longer than the window', { byteOffset: 2, elementBytes: 2, shape: [9_500_000], stride: [1] }],
    [
      'longer than the window, every other',
      { byteOffset: 0, elementBytes: 1, shape: [10_000_000], stride: [2] },
    ],
    [
      'a gap between runs in the middle axis',
      { byteOffset: 0, elementBytes: 4, shape: [2, 2, 8], stride: [16, 100_000, 1] },
    ],
  ];
  for (const [name, view] of rows) {
    test(name, async () => {
      await check(view, 0, whole(view));
      const [from, to] = [Math.floor(whole(view) / 3), Math.floor((2 * whole(view)) / 3)];
      await check(view, from, to - from, 1);
    });
  }

  test('a window is read at once, and no more is held', async (t) => {
    const { mock } = t.mock.method(InputFile.prototype, 'read');
    const readsOf = async (view: View): Promise<number[]> => {
      mock.resetCalls();
      const into = new Uint8Array(whole(view));
      await stridedRead({ file, ...view })(into, 0);
      return mock.calls.map(({ arguments: given }) => (given as unknown[])[2] as number);
    };
    const transposed = { byteOffset: 64, elementBytes: 4, shape: [300, 17], stride: [1, 300] };
    assert.deepEqual(await readsOf(transposed), [whole(transposed)]);
    const everyOther = { byteOffset: 0, elementBytes: 1, shape: [10_000_000], stride: [2] };
    assert.deepEqual(await readsOf(everyOther), [WINDOW_BYTES - 1, 20_000_000 - WINDOW_BYTES - 1]);
  });

  test('any view, any range, any alignment', async () => {
    const axes = fc.array(
      fc.tuple(fc.integer({ min: 1, max: 7 }), fc.constantFrom(0, 1, 2, 3, 5, 8, 21, 64, 1000, 20_000)),
      { minLength: 1, maxLength: 4 },
    );
    await fc.assert(
      fc.asyncProperty(
        axes,
        fc.constantFrom(1, 2, 4, 8),
        fc.nat(100),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(8),
        async (extents, elementBytes, byteOffset, a, b, shift) => {
          const view = {
            byteOffset,
            elementBytes,
            shape: extents.map(([extent]) => extent),
            stride: extents.map(([, stride]) => stride),
          };
          const [from, to] = [a, b].sort((x, y) => x - y).map((part) => Math.round(part * whole(view))) as [
            number,
            number,
          ];
          await check(view, from, to - from, shift);
        },
      ),
      { numRuns: 300 },
    );
  });
});
