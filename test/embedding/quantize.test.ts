import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { dequantizeRows, headerOf, quantizeRows, relativeRmsError } from '../../src/embedding/quantize.ts';
import { QUANTIZED_ROW_FORMATS, ROW_FORMATS, rowBytes, weightShape } from '../../src/embedding/row-format.ts';
import { float16ToNumber, numberToFloat16 } from '../../src/tensor.ts';
import fc from '../support/properties.ts';
import { Random } from '../support/random.ts';

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

/** Rows of any size from 1e-7 to 6e4, around 0 or far from it. */
const anyRow = fc
  .record({
    size: fc.double({ min: -7, max: 4.4, noNaN: true }).map((power) => 10 ** power),
    offset: fc.oneof(
      fc.constant(0),
      fc.double({ min: -7, max: 4.4, noNaN: true }).map((power) => 10 ** power),
      fc.double({ min: -7, max: 4.4, noNaN: true }).map((power) => -(10 ** power)),
    ),
    units: fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 40 }),
  })
  .map(({ size, offset, units }) => Float32Array.from(units, (unit) => offset + size * unit));

/** The smallest float16 that is not below `x`. */
function float16Above(x: number): number {
  const nearest = numberToFloat16(x);
  return float16ToNumber(float16ToNumber(nearest) < x ? nearest + 1 : nearest);
}

/** The largest error of an element with the scale rounded to nearest, whatever it covers: what FBGEMM's quantiser does. */
function nearestScaleError(values: Float32Array, bias: number, levels: number): number {
  const scale = float16ToNumber(numberToFloat16((Math.max(...values) - bias) / levels));
  const off = Array.from(values, (x) => {
    const q = scale === 0 ? 0 : Math.min(levels, Math.round((x - bias) / scale));
    return Math.abs(q * scale + bias - x);
  });
  return Math.max(...off);
}

describe('quantised rows', () => {
  for (const format of ['int8', 'int4'] as const) {
    const levels = format === 'int8' ? 255 : 15;

    test(`${format}: an element is off by at most half the scale, rounded up`, () => {
      fc.assert(
        fc.property(anyRow, (values) => {
          const { data, error } = quantizeRows(values, values.length, format);
          const { scale, bias } = headerOf(data, format);
          const [low, high] = [Math.min(...values), Math.max(...values)];
          assert.ok(bias <= low, `bias ${bias} above ${low}`);
          assert.ok(scale > 0 || high === bias, `scale 0 for ${low} to ${high}`);
          const most = float16Above((high - bias) / levels) / 2;
          assert.ok(error.maxAbsolute <= most * (1 + 1e-12), `${error.maxAbsolute} > ${most}`);
          const back = dequantizeRows(data, values.length, format);
          values.forEach((x, d) => {
            const off = Math.abs((back[d] as number) - x);
            assert.ok(off <= most + 2 ** -24 * Math.abs(x), `${x} became ${back[d]}`);
          });
        }),
        { numRuns: 1000 },
      );
    });

    test(`${format}: no row's largest error is above that of the nearest scale`, () => {
      fc.assert(
        fc.property(anyRow, (values) => {
          const { data, error } = quantizeRows(values, values.length, format);
          const { bias } = headerOf(data, format);
          assert.ok(error.maxAbsolute <= nearestScaleError(values, bias, levels));
        }),
        { numRuns: 1000 },
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
        const { bias } = headerOf(data, format);
        const most = float16Above((Math.max(...values) - bias) / levels) / 2;
        assert.ok(error.maxAbsolute <= most * (1 + 1e-12), `${values}: ${error.maxAbsolute}`);
      }
    });

    test(`${format}: rows that hold one float16 are exact`, () => {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 1, max: 20 }), (bits, dim) => {
          const value = float16ToNumber(bits);
          fc.pre(Number.isFinite(value));
          const { data } = quantizeRows(new Float32Array(dim).fill(value), dim, format);
          assert.ok(dequantizeRows(data, dim, format).every((x) => x === value));
        }),
      );
    });

    test(`${format}: what float16 cannot hold is refused, with the row`, () => {
      const values = Float32Array.of(0, 1, -70000, 5);
      assert.throws(() => quantizeRows(values, 2, format, 40), {
        code: 'VALUE_OUT_OF_RANGE',
        message: /row 41 reaches from -70000/,
      });
    });
  }

  test('rows whose range over the levels is below float16 keep what 8 bits can tell', () => {
    const table = (size: number, offset = 0) =>
      Float32Array.from(new Random(5).reals(200 * 16), (x) => offset + size * x);
    const lossOf = (values: Float32Array, format: 'int8' | 'int4') => quantizeRows(values, 16, format).error;
    // Scales in units of float16's smallest number, 2^-24: of ±2e-6 1, of ±1.6e-4 21.
    assert.ok(relativeRmsError(lossOf(table(2e-6), 'int8')) < 0.016);
    assert.ok(relativeRmsError(lossOf(table(2e-6), 'int4')) < 0.08);
    assert.ok(lossOf(table(1.6e-4), 'int8').maxAbsolute < 6.6e-7);
    assert.ok(relativeRmsError(lossOf(table(1.6e-4), 'int8')) < 0.004);
    // Near a constant, a level goes into the middle of the row: the float16 below 0.1 is 2.4e-5 away.
    assert.ok(lossOf(table(1e-8, 0.1), 'int8').maxAbsolute < 5e-8);
    assert.ok(lossOf(table(1e-8, 0.1), 'int4').maxAbsolute < 5e-8);
  });

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
