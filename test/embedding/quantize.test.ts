import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  dequantizeRows,
  float8ToNumber,
  headerOf,
  numberToFloat8,
  quantizeRows,
  relativeRmsError,
} from '../../src/embedding/quantize.ts';
import { QUANTIZED_ROW_FORMATS, ROW_FORMATS, rowBytes, weightShape } from '../../src/embedding/row-format.ts';

test('bytes of a row, as FBGEMM lays them out', () => {
  assert.deepEqual(
    ROW_FORMATS.map((rowFormat) => rowBytes({ dim: 128, rowFormat })),
    [512, 256, 256, 144, 80, 128],
  );
  assert.equal(rowBytes({ dim: 13, rowFormat: 'int4' }), 16);
  assert.equal(rowBytes({ dim: 25, rowFormat: 'int4' }), 32);
  assert.deepEqual(weightShape({ rows: 3, dim: 5, rowFormat: 'int8' }), { dtype: 'uint8', shape: [3, 16] });
  assert.deepEqual(weightShape({ rows: 3, dim: 5, rowFormat: 'float16' }), {
    dtype: 'float16',
    shape: [3, 5],
  });
});

test('an int8 and an int4 row, byte by byte', () => {
  // From -1 to 1: bias -1 (0xbc00), scale 2/255 (0x2004) and 2/15 (0x3044).
  const row = Float32Array.of(-1, 1, 0);
  const int8 = quantizeRows(row, 3, 'int8').data;
  assert.deepEqual([...int8.subarray(0, 7)], [0x04, 0x20, 0x00, 0xbc, 0, 255, 128]);
  assert.ok(int8.subarray(7).every((byte) => byte === 0));
  const int4 = quantizeRows(row, 3, 'int4').data;
  assert.deepEqual([...int4.subarray(0, 6)], [0x44, 0x30, 0x00, 0xbc, 0xf0, 0x08]);
});

const row = fc.array(fc.float({ noNaN: true, min: -1000, max: 1000 }), { minLength: 1, maxLength: 40 });

describe('quantised rows', () => {
  for (const format of ['int8', 'int4'] as const) {
    const levels = format === 'int8' ? 255 : 15;

    test(`${format}: an element is off by at most 0.63 steps`, () => {
      fc.assert(
        fc.property(row, (values) => {
          const { data, error } = quantizeRows(Float32Array.from(values), values.length, format);
          const { scale, bias } = headerOf(data, format);
          const low = Math.min(...values.map(Math.fround));
          assert.ok(bias <= low, `bias ${bias} above ${low}`);
          // A scale below float16's normal numbers is coarser.
          const most = 0.63 * scale + 2 ** -25 * levels;
          assert.ok(error.maxAbsolute <= most, `${error.maxAbsolute} > ${most}`);
          const back = dequantizeRows(data, values.length, format);
          values.forEach((x, d) => {
            const off = Math.abs((back[d] as number) - Math.fround(x));
            assert.ok(off <= most + 1e-6 * Math.abs(x), `${x} became ${back[d]}`);
          });
        }),
      );
    });

    test(`${format}: order is kept`, () => {
      fc.assert(
        fc.property(row, (values) => {
          const sorted = Float32Array.from(values).sort();
          const back = dequantizeRows(
            quantizeRows(sorted, sorted.length, format).data,
            sorted.length,
            format,
          );
          for (let d = 1; d < back.length; d++) assert.ok((back[d] as number) >= (back[d - 1] as number));
        }),
      );
    });

    test(`${format}: constant rows, tiny rows and rows far from 0`, () => {
      for (const values of [
        [0, 0, 0],
        [-0, 0],
        [0.1, 0.1, 0.1],
        [-7.3, -7.3],
        [1e-9, -1e-9],
        [1000.01, 1000.02, 1000.03],
        [-60000, 60000],
        [65504],
      ]) {
        const { data, error } = quantizeRows(Float32Array.from(values), values.length, format);
        const { scale } = headerOf(data, format);
        assert.ok(error.maxAbsolute <= 0.63 * scale + 2 ** -25 * levels, `${values}: ${error.maxAbsolute}`);
      }
    });

    test(`${format}: what float16 cannot hold is refused, with the row`, () => {
      const values = Float32Array.of(0, 1, -70000, 5);
      assert.throws(() => quantizeRows(values, 2, format, 40), {
        code: 'VALUE_OUT_OF_RANGE',
        message: /row 41 reaches from -70000/,
      });
    });
  }

  test('NaN and infinities are refused, with row and place', () => {
    for (const format of QUANTIZED_ROW_FORMATS) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        assert.throws(() => quantizeRows(Float32Array.of(1, 2, 3, bad), 2, format, 7), {
          code: 'VALUE_NOT_FINITE',
          message: /row 8 has (NaN|Infinity) at 1/,
        });
      }
    }
  });

  test('float8: every value is itself, and what lies between goes to the nearer one, ties to even', () => {
    const values = Array.from({ length: 127 }, (_, bits) => float8ToNumber(bits));
    assert.deepEqual([values[1], values[8], values[126]], [2 ** -9, 2 ** -6, 448]);
    assert.ok(Number.isNaN(float8ToNumber(127)) && Number.isNaN(float8ToNumber(255)));
    values.forEach((value, bits) => {
      assert.equal(numberToFloat8(value), bits);
      assert.equal(numberToFloat8(-value), bits | 0x80);
      const next = values[bits + 1];
      if (next === undefined) return;
      const middle = (value + next) / 2;
      assert.equal(numberToFloat8(middle), bits % 2 === 0 ? bits : bits + 1, `${middle}`);
      assert.equal(numberToFloat8(middle * (1 - 2 ** -20)), bits, `below ${middle}`);
      assert.equal(numberToFloat8(middle * (1 + 2 ** -20)), bits + 1, `above ${middle}`);
    });
    assert.equal(numberToFloat8(1e9), 0x7e);
    assert.equal(numberToFloat8(-449), 0xfe);
    assert.equal(numberToFloat8(Number.NaN), 0x7f);
  });

  test('float8 counts what it saturates', () => {
    const { error } = quantizeRows(Float32Array.of(448, 449, -1000, 1), 2, 'float8_e4m3');
    assert.equal(error.saturated, 2);
    assert.equal(error.maxAbsolute, 552);
  });

  test('the relative error is that of the definition', () => {
    const values = Float32Array.of(3, -4, 0.1, 2);
    const { data, error } = quantizeRows(values, 2, 'int4');
    const back = dequantizeRows(data, 2, 'int4');
    const squares = (list: readonly number[]) => list.reduce((sum, x) => sum + x * x, 0);
    const off = Array.from(values, (x, i) => (back[i] as number) - x);
    const expected = Math.sqrt(squares(off) / squares([...values]));
    assert.ok(Math.abs(relativeRmsError(error) - expected) < 1e-6);
  });
});
