/** Rows that FBGEMM, TorchRec and PyTorch quantised: every layout against its dequantised values. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { dequantizeRows } from '../../../src/embedding/quantize.ts';
import { rowBytes } from '../../../src/embedding/row-format.ts';
import type { TablePart } from '../../../src/model/checkpoint/checkpoint-parts.ts';
import { ROW_HEADERS, type RowHeader } from '../../../src/model/checkpoint/packed-rows.ts';
import { parseQuantizedRows } from '../../../src/model/checkpoint/quantized-rows.ts';
import { type KnownTables, quantizedTables } from '../../../src/model/checkpoint/quantized-tables.ts';
import { readBytes } from '../../../src/stored-tensor.ts';
import { float16ToNumber, numberToFloat16, type StoredTensor } from '../../../src/tensor.ts';
import fc from '../../support/properties.ts';
import { halves, packed, part, quantised, split, valuesOf } from '../../support/quantised-parts.ts';
import { Random } from '../../support/random.ts';
import { bytesOf, storedBytes } from '../../support/stored.ts';

const known = (usualDim: number, described: Record<string, object> = {}): KnownTables => ({
  ...{ usualDim, described: new Map(Object.entries(described)) },
});

async function rowsRead(weight: StoredTensor): Promise<Float32Array> {
  const { format, dim } = parseQuantizedRows(weight.annotation as string) ?? assert.fail('no annotation');
  assert.equal(weight.dtype, 'uint8');
  assert.deepEqual(weight.shape.slice(1), [rowBytes({ dim, rowFormat: format })]);
  const bytes = new Uint8Array(weight.byteLength);
  await readBytes(weight, bytes, 0);
  return dequantizeRows(bytes, dim, format);
}

async function readTable(own: TablePart, about: KnownTables) {
  const { tables, notes } = await quantizedTables([own], about);
  const [table] = tables as [TablePart];
  assert.deepEqual([table.scale, table.bias], [undefined, undefined]);
  return { weight: table.weight, notes, values: await rowsRead(table.weight) };
}

const refuses = (parts: readonly TablePart[], about: KnownTables, code: string, message: RegExp) =>
  assert.rejects(quantizedTables(parts, about), { code, message });

describe('packed rows', () => {
  /** Multiples of 2^-6, [4, 8], and what PyTorch 1.13's prepack operators make of them. */
  const ORIGINAL = [
    [33, -28, -12, 30, -60, 38, -13, 33],
    [9, -8, 18, 3, 23, -25, -5, -6],
    [9, 0, 56, 20, -24, -39, -11, -28],
    [-21, 3, 38, 35, -63, 40, 18, 61],
  ].map((row) => row.map((x) => x / 64));
  for (const [operator, width, levels, hex] of [
    [
      'embedding_bag_byte_prepack',
      16,
      255,
      'f2537dea00ff7af2c5c4c43b000070bfb55ae495ff006a65c1c0403b0000c8be8169ff9e28004b1ebfbebe3b00001cbf5688d0ca00d4a7fff9f8f83b00007cbf',
    ],
    ['embedding_bag_4bit_prepack', 8, 15, '5ee7f0e7892e80bb5b9d0f66662a40b6689f0224552ee0b885ccc0fa2230e0bb'],
  ] as const) {
    test(`what ${operator} made`, async () => {
      const weight = storedBytes('uint8', [4, width], Uint8Array.from(Buffer.from(hex, 'hex')));
      const { values } = await readTable(part({ weight }), known(8));
      ORIGINAL.forEach((row, r) => {
        const step = (Math.max(...row) - Math.min(...row)) / levels;
        row.forEach((x, d) => {
          const off = Math.abs((values[8 * r + d] as number) - x);
          assert.ok(off <= 0.6 * step, `row ${r}, ${d}: ${values[8 * r + d]}, not ${x}`);
        });
      });
    });
  }

  for (const header of ROW_HEADERS) {
    for (const format of header.dtype === 'float16' ? (['int8', 'int4'] as const) : (['int8'] as const)) {
      for (const alignment of [1, 16]) {
        test(`${format}, ${header.title}, padded to ${alignment}`, async () => {
          const table = quantised({ format, dim: 20, half: header.dtype === 'float16' });
          const { values, notes } = await readTable(
            part({ weight: packed(table, header, alignment) }),
            known(20),
          );
          const expected = valuesOf(table);
          const rounded = header.dtype === 'float32';
          values.forEach((x, i) => {
            const scale = table.scale[Math.floor(i / table.dim)] as number;
            const most = rounded ? 0.6 * scale : 2 ** -24 * Math.abs(expected[i] as number);
            assert.ok(Math.abs(x - (expected[i] as number)) <= most, `${i}: ${x}, not ${expected[i]}`);
          });
          assert.equal(notes.length, 1);
          assert.ok(notes[0]?.includes(`t: ${format} rows of 20 elements, ${header.title}`), notes[0]);
          assert.equal(notes[0]?.includes('become float16'), rounded);
        });
      }
    }
  }

  test('a tensor with Hotrow’s layout is itself, mapped where it lies', async () => {
    const table = quantised({ dim: 28 });
    const weight = packed(table, ROW_HEADERS[0] as RowHeader, 16);
    const { tables } = await quantizedTables([part({ weight })], known(28));
    assert.deepEqual(tables[0]?.weight, { ...weight, annotation: '{"format":"int8","dim":28}' });
  });

  test('without a dim that fits: int8 where rows have its full range, else int4', async () => {
    const [front] = ROW_HEADERS as [RowHeader];
    const bytes = await readTable(part({ weight: packed(quantised({ dim: 10 }), front) }), known(64));
    assert.match(bytes.notes[0] as string, /int8 rows of 10 elements/);
    const table = quantised({ dim: 48, format: 'int4' });
    const nibbles = await readTable(part({ weight: packed(table, front) }), known(64));
    assert.match(nibbles.notes[0] as string, /int4 rows of 48 elements/);
    assert.deepEqual([...nibbles.values], valuesOf(table).map(Math.fround));
  });

  test('what a description says holds', async () => {
    const [front] = ROW_HEADERS as [RowHeader];
    const weight = packed(quantised({ dim: 24, format: 'int8' }), front);
    const { notes } = await readTable(part({ weight }), known(64, { t: { dim: 48, rowFormat: 'int4' } }));
    assert.match(notes[0] as string, /int4 rows of 48 elements/);
    const wrong = known(64, { t: { dim: 23 } });
    await refuses(
      [part({ weight })],
      wrong,
      'CHECKPOINT_UNSUPPORTED',
      /rows of 28 bytes are no quantised rows of 23/,
    );
  });

  test('tables of three rows have their scales where the others have theirs', async () => {
    for (const header of ROW_HEADERS.slice(0, 2)) {
      const parts = [3, 200, 3, 4, 1].map((rows, t) =>
        part({ weight: packed(quantised({ rows, dim: 16 }), header) }, `t${t}`),
      );
      const { notes } = await quantizedTables(parts, known(16));
      assert.equal(notes.length, 1);
      assert.ok(notes[0]?.endsWith(header.title), notes[0]);
    }
  });

  test('bytes that are no rows, and rows that may be either, are refused', async () => {
    const noise = storedBytes(
      'uint8',
      [50, 20],
      Uint8Array.from(bytesOf(new Random(9).reals(250))).reverse(),
    );
    await refuses([part({ weight: noise })], known(16), 'CHECKPOINT_UNSUPPORTED', /are no quantised rows/);
    const [front, end] = ROW_HEADERS as [RowHeader, RowHeader];
    const mixed = [front, end].map((header, t) => part({ weight: packed(quantised({}), header) }, `t${t}`));
    await refuses(mixed, known(16), 'CHECKPOINT_UNSUPPORTED', /no layout in common/);
    // 0x2110 is a scale and a bias wherever it stands, and no element is the lowest or the highest.
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? 0x10 : 0x21));
    const either = part({ weight: storedBytes('uint8', [5, 20], bytes) });
    await refuses(
      [either],
      known(16),
      'CHECKPOINT_UNSUPPORTED',
      /may have their float16 .* in front.* or their/,
    );
    const zeros = part({ weight: storedBytes('uint8', [5, 20], new Uint8Array(100)) });
    assert.match((await readTable(zeros, known(16))).notes[0] as string, /in front/);
    const padded = packed(quantised({ dim: 20 }), front, 16);
    await refuses([part({ weight: padded })], known(64), 'CHECKPOINT_UNSUPPORTED', /end with zeros/);
  });
});

describe('rows with scales and biases apart', () => {
  for (const format of ['int8', 'int4'] as const) {
    for (const column of [true, false]) {
      test(`${format}, float16, ${column ? '[rows, 1]' : '[rows]'}: exact`, async () => {
        const table = quantised({ format, dim: 18 });
        const { values, notes } = await readTable(part(split(table, 'float16', column)), known(18));
        assert.deepEqual([...values], valuesOf(table).map(Math.fround));
        assert.deepEqual(notes, [
          `quantised tables t: ${format} rows of 18 elements, scales and biases apart`,
        ]);
      });
    }

    test(`${format}, float32: within half a level, or what float16 lets a row far from 0 have`, async () => {
      for (const offset of [0, 0.3, -5, 100]) {
        const table = quantised({ format, dim: 18, half: false, offset });
        const { values } = await readTable(part(split(table, 'float32')), known(18));
        const expected = valuesOf(table);
        values.forEach((x, i) => {
          // The row's range over the levels, and the distance to the float16 below, over the levels.
          const scale = table.scale[Math.floor(i / 18)] as number;
          const most = 0.6 * scale + Math.abs(offset) * 2 ** -10 * (format === 'int8' ? 1 / 255 : 1 / 15);
          assert.ok(Math.abs(x - (expected[i] as number)) <= most, `${x}, not ${expected[i]} at ${offset}`);
        });
      }
    });
  }

  test('rows of one value with float32 biases keep it to float32', async () => {
    const table = {
      ...quantised({ rows: 2, dim: 4 }),
      scale: Float32Array.of(1, 1),
      bias: Float32Array.of(0.1, -7.3),
    };
    table.levels.fill(0);
    const { values } = await readTable(part(split(table, 'float32')), known(4));
    for (const [i, x] of values.entries()) assert.ok(Math.abs(x - (i < 4 ? 0.1 : -7.3)) < 2e-6, String(x));
  });

  test('int8 of either sign, with a scale for each row or one for all', async () => {
    const levels = Int8Array.of(-128, -1, 0, 127, 5, -5, 100, -100);
    const weight = storedBytes('int8', [2, 4], bytesOf(levels));
    const perRow = storedBytes('float16', [2, 1], bytesOf(halves(Float32Array.of(0.01, 3))));
    const each = await readTable(part({ weight, scale: perRow }), known(4));
    const steps = [0.01, 3].map((x) => float16ToNumber(numberToFloat16(x)));
    assert.deepEqual(
      [...each.values],
      Array.from(levels, (q, i) => Math.fround(q * (steps[i >> 2] as number))),
    );
    const one = storedBytes('float32', [1], bytesOf(Float32Array.of(0.125)));
    const all = await readTable(part({ weight, scale: one }), known(4));
    assert.deepEqual(
      [...all.values],
      Array.from(levels, (q) => q / 8),
    );
  });

  test('without a dim that fits, bytes are int8', async () => {
    const { notes } = await readTable(part(split(quantised({ dim: 10 }))), known(64));
    assert.match(notes[0] as string, /int8 rows of 10 elements/);
  });

  test('what does not fit together is refused by name', async () => {
    const { weight, scale, bias } = split(quantised({}));
    const inconsistent = 'CHECKPOINT_INCONSISTENT';
    const few = storedBytes('float16', [3, 1], new Uint8Array(6));
    const integers = storedBytes('uint8', [40, 1], new Uint8Array(40));
    for (const [own, message] of [
      [{ weight, bias }, /t\.weight_qscale is missing/],
      [{ weight, scale }, /t\.weight_qbias is missing/],
      [{ weight, scale: few, bias }, /weight_qscale is float16 \[3,1\], not one .* for each of 40 rows/],
      [{ weight, scale, bias: integers }, /weight_qbias is uint8 \[40,1\]/],
      [{ weight: few, scale, bias }, /float16 rows/],
    ] as const)
      await refuses([part(own as Partial<TablePart>)], known(16), inconsistent, message);
    const described = known(16, { t: { dim: 15 } });
    await refuses(
      [part({ weight, scale, bias } as Partial<TablePart>)],
      described,
      inconsistent,
      /are not 15 elements/,
    );
    const bare = storedBytes('int8', [4, 4], new Uint8Array(16));
    await refuses(
      [part({ weight: bare })],
      known(4),
      'CHECKPOINT_UNSUPPORTED',
      /nothing says by which scale/,
    );
  });

  test('scales beyond float16 are refused when the rows are read, with table and row', async () => {
    const table = { ...quantised({}), scale: new Float32Array(40).fill(0.1) };
    table.scale[7] = 1e6;
    const { tables } = await quantizedTables([part(split(table, 'float32'))], known(16));
    await assert.rejects(rowsRead(tables[0]?.weight as StoredTensor), {
      code: 'VALUE_OUT_OF_RANGE',
      message: /^table t: row 7 reaches/,
    });
  });
});

describe('float8 rows', () => {
  const bytes = Uint8Array.from({ length: 96 }, (_, i) => i);

  test('e4m3 rows are read as they lie, or padded to 16 bytes', async () => {
    const whole = storedBytes('float8_e4m3', [3, 32], bytes);
    const { tables } = await quantizedTables([part({ weight: whole })], known(32));
    assert.deepEqual(tables[0]?.weight, {
      ...whole,
      dtype: 'uint8',
      annotation: '{"format":"float8_e4m3","dim":32}',
    });
    const narrow = storedBytes('float8_e4m3', [8, 12], bytes);
    const { values } = await readTable(part({ weight: narrow }), known(12));
    assert.deepEqual([...values], [...dequantizeRows(bytes, 96, 'float8_e4m3')]);
  });

  test('e5m2 rows are refused by name', async () => {
    const weight = storedBytes('float8_e5m2', [3, 32], bytes);
    await refuses([part({ weight })], known(32), 'CHECKPOINT_UNSUPPORTED', /float8_e5m2/);
  });
});

test('any range of bytes can be read by itself', async () => {
  const table = quantised({ rows: 60, dim: 21, half: false });
  const { weight } = await readTable(part(split(table, 'float32')), known(21));
  const all = new Uint8Array(weight.byteLength);
  await readBytes(weight, all, 0);
  await fc.assert(
    fc.asyncProperty(fc.nat(all.length), fc.nat(all.length), async (a, b) => {
      const [from, to] = [Math.min(a, b), Math.max(a, b)];
      const piece = new Uint8Array(to - from);
      await readBytes(weight, piece, from);
      assert.deepEqual(piece, all.subarray(from, to));
    }),
  );
});

test('large tables are read in pieces of a few MiB, many rows at a time', async () => {
  const [rows, width] = [70_000, 128];
  const reads: number[] = [];
  const weight = storedBytes('uint8', [rows, width], new Uint8Array(rows * width), reads);
  const ones = storedBytes('float16', [rows], bytesOf(halves(new Float32Array(rows).fill(1))));
  const { values } = await readTable(part({ weight, scale: ones, bias: ones }), known(width));
  assert.ok(values.every((x) => x === 1));
  assert.equal(
    reads.reduce((sum, length) => sum + length, 0),
    rows * width,
  );
  assert.ok(Math.max(...reads) <= 4 << 20);
  assert.ok(reads.length < 5);
});

test('tables on one weight stay on one', async () => {
  const own = split(quantised({}));
  const { tables } = await quantizedTables([part(own, 'a'), part(own, 'b')], known(16));
  assert.equal(tables[0]?.weight, tables[1]?.weight);
});

test('float tables and annotated ones pass as they are', async () => {
  const float = part({ weight: storedBytes('float32', [2, 2], new Uint8Array(16)) }, 'a');
  const annotated = part({
    weight: {
      ...storedBytes('uint8', [2, 16], new Uint8Array(32)),
      annotation: '{"format":"int8","dim":12}',
    },
  });
  const { tables, notes } = await quantizedTables([float, annotated], known(2));
  assert.deepEqual([tables[0], tables[1], notes.length], [float, annotated, 0]);
});
