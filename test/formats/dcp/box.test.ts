import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { assemble } from '../../../src/formats/dcp/assemble.ts';
import { type Box, tilingFault } from '../../../src/formats/dcp/box.ts';
import { elementCount } from '../../../src/tensor.ts';
import fc from '../../support/properties.ts';

const box = (offsets: number[], sizes: number[]): Box => ({ offsets, sizes });

/** Boxes that fill `shape`: each cut divides one of them at a place along an axis. */
function divided(shape: readonly number[], cuts: readonly (readonly [number, number, number])[]): Box[] {
  const boxes = [
    box(
      shape.map(() => 0),
      [...shape],
    ),
  ];
  for (const [which, axis, place] of cuts) {
    const at = which % boxes.length;
    const { offsets, sizes } = boxes[at] as Box;
    if (sizes.length === 0) continue;
    const along = axis % sizes.length;
    const size = sizes[along] as number;
    const first = size === 0 ? 0 : place % (size + 1);
    boxes.splice(
      at,
      1,
      { offsets, sizes: sizes.with(along, first) },
      {
        offsets: offsets.with(along, (offsets[along] as number) + first),
        sizes: sizes.with(along, size - first),
      },
    );
  }
  return boxes;
}

const division = fc
  .tuple(
    fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }),
    fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat()), { maxLength: 6 }),
  )
  .map(([shape, cuts]) => ({ shape, boxes: divided(shape, cuts) }));

describe('boxes that fill a tensor', () => {
  test('a grid cut so often along three axes that comparing takes too long is refused', () => {
    const grid = (cuts: number): Box[] =>
      Array.from({ length: cuts ** 3 }, (_, i) => ({
        offsets: [i % cuts, Math.floor(i / cuts) % cuts, Math.floor(i / cuts ** 2)],
        sizes: [1, 1, 1],
      }));
    assert.equal(tilingFault([10, 10, 10], grid(10)), undefined);
    assert.match(tilingFault([30, 30, 30], grid(30)) ?? '', /cut along too many axes at once/);
  });

  test('any division fills it; without one of its boxes it does not, nor with one twice', () => {
    fc.assert(
      fc.property(division, fc.nat(), ({ shape, boxes }, which) => {
        assert.equal(tilingFault(shape, boxes), undefined);
        const one = boxes[which % boxes.length] as Box;
        const without = tilingFault(
          shape,
          boxes.filter((other) => other !== one),
        );
        const twice = tilingFault(shape, [...boxes, one]);
        if (one.sizes.includes(0)) assert.deepEqual([without, twice], [undefined, undefined]);
        else assert.match(`${without}; ${twice}`, /leave \d+ of its \d+ elements out; .* overlap/);
      }),
    );
  });

  test('what is wrong is said', () => {
    assert.match(
      tilingFault([4, 2], [box([0, 0], [3, 2]), box([3, 0], [2, 2])]) ?? '',
      /chunk \[2, 2\] at \[3, 0\] reaches out of its shape \[4, 2\]/,
    );
    assert.match(tilingFault([4, 2], [box([0], [4])]) ?? '', /reaches out/);
    assert.match(
      tilingFault([4, 2], [box([0, 0], [3, 2]), box([2, 0], [2, 2])]) ?? '',
      /chunks \[3, 2\] at \[0, 0\] and \[2, 2\] at \[2, 0\] overlap/,
    );
    assert.match(tilingFault([4, 2], [box([0, 0], [4, 1])]) ?? '', /leave 4 of its 8 elements out/);
    assert.match(tilingFault([4], []) ?? '', /leave 4 of its 4/);
    // As many elements as the shape has, but not the same.
    assert.match(tilingFault([2, 2], [box([0, 0], [2, 1]), box([0, 0], [1, 2])]) ?? '', /overlap/);
  });
});

describe('a tensor of parts', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hotrow-parts-'));
  });
  after(() => rm(folder, { recursive: true }));

  /** `box` of a tensor of bytes that count up from 0, in row-major order of `shape`. */
  function partBytes(shape: readonly number[], { offsets, sizes }: Box): Uint8Array {
    const bytes = new Uint8Array(elementCount(sizes));
    for (let i = 0; i < bytes.length; i++) {
      let [rest, position, stride] = [i, 0, 1];
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        position += ((offsets[axis] as number) + (rest % (sizes[axis] as number))) * stride;
        rest = Math.floor(rest / (sizes[axis] as number));
        stride *= shape[axis] as number;
      }
      bytes[i] = position;
    }
    return bytes;
  }

  test('any range of its bytes is what the whole has there', async () => {
    await fc.assert(
      fc.asyncProperty(division, fc.nat(), fc.nat(), async ({ shape, boxes }, a, b) => {
        const file = join(folder, 'parts');
        const filled = boxes.filter(({ sizes }) => !sizes.includes(0));
        const parts = filled.map((part) => partBytes(shape, part));
        await writeFile(file, Buffer.concat(parts));
        let byteOffset = 0;
        const tensor = assemble(
          'uint8',
          shape,
          filled.map((part, i) => {
            const { byteLength } = parts[i] as Uint8Array;
            byteOffset += byteLength;
            return {
              box: part,
              tensor: {
                dtype: 'uint8',
                shape: part.sizes,
                byteLength,
                file,
                byteOffset: byteOffset - byteLength,
              },
            };
          }),
        );
        const [begin, end] = [a % (tensor.byteLength + 1), b % (tensor.byteLength + 1)].sort(
          (x, y) => x - y,
        ) as [number, number];
        const into = new Uint8Array(end - begin).fill(0xee);
        await tensor.read(into, begin);
        assert.deepEqual(
          [...into],
          Array.from(into, (_, i) => (begin + i) % 256),
        );
        assert.deepEqual(tensor.files, [file]);
      }),
      { numRuns: 300 },
    );
  });

  test('columns whose rows are scattered, in pieces and inside elements', async () => {
    const [rows, columns] = [300_000, 6];
    const whole = Float32Array.from({ length: rows * columns }, (_, i) => i);
    const parts = [
      [0, 5],
      [5, 1],
    ].map(([first, count]) => {
      const data = new Float32Array(rows * (count as number));
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < (count as number); column++)
          data[row * (count as number) + column] = whole[
            row * columns + (first as number) + column
          ] as number;
      return { first: first as number, count: count as number, data };
    });
    const stored = await Promise.all(
      parts.map(async ({ first, count, data }) => {
        const file = join(folder, `columns-${first}`);
        await writeFile(file, data);
        const shape = [rows, count];
        return {
          box: box([0, first], shape),
          tensor: { dtype: 'float32', shape, byteLength: data.byteLength, file, byteOffset: 0 },
        } as const;
      }),
    );
    const tensor = assemble('float32', [rows, columns], stored);
    const expected = new Uint8Array(whole.buffer);
    for (const [at, length] of [
      [0, expected.length],
      [5, expected.length - 11],
      [4_000_001, 3],
      [24 * 7 + 3, 24 * 9],
    ] as const) {
      const into = new Uint8Array(length);
      await tensor.read(into, at);
      assert.ok(Buffer.compare(into, expected.subarray(at, at + length)) === 0, `${length} bytes at ${at}`);
    }
  });
});
