import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOAT8_VALUES, float8ToNumber, numberToFloat8 } from '../src/float8.ts';
import { Random } from './support/random.ts';

/** All numbers from 0 on, in order. */
const SIZES = Array.from({ length: 127 }, (_, bits) => float8ToNumber(bits));

test('all 256 codes: values as the format has them, and back', () => {
  assert.deepEqual([SIZES[1], SIZES[7], SIZES[8], SIZES[126]], [2 ** -9, 7 * 2 ** -9, 2 ** -6, 448]);
  for (let bits = 0; bits < 256; bits++) {
    const value = float8ToNumber(bits);
    assert.equal(FLOAT8_VALUES[bits], value);
    if ((bits & 0x7f) === 0x7f) {
      assert.ok(Number.isNaN(value));
      continue;
    }
    // A second way to say it: (-1)^s · 2^(e - 7) · 1.m, 2^-6 · 0.m for e = 0.
    const [exponent, mantissa] = [(bits >> 3) & 15, (bits & 7) / 8];
    const size = exponent === 0 ? 2 ** -6 * mantissa : 2 ** (exponent - 7) * (1 + mantissa);
    assert.ok(Object.is(value, bits < 128 ? size : -size), `${bits}`);
    assert.equal(numberToFloat8(value), bits);
  }
});

test('what lies between two goes to the nearer one, ties to even', () => {
  SIZES.forEach((value, bits) => {
    const next = SIZES[bits + 1];
    if (next === undefined) return;
    const middle = (value + next) / 2;
    for (const [x, expected] of [
      [middle, bits % 2 === 0 ? bits : bits + 1],
      [middle * (1 - 2 ** -20), bits],
      [middle * (1 + 2 ** -20), bits + 1],
    ] as const) {
      assert.equal(numberToFloat8(x), expected, `${x}`);
      assert.equal(numberToFloat8(-x), expected | 0x80, `${-x}`);
    }
  });
});

test('any float32 goes to the nearest of all', () => {
  const random = new Random(31);
  for (const x of random.reals(2000)) {
    const value = Math.fround(x * 2 ** random.integer(-14, 9));
    const off = (size: number) => Math.abs(size - Math.abs(value));
    const nearest = SIZES.reduce((best, size) => (off(size) < off(best) ? size : best));
    assert.equal(off(Math.abs(float8ToNumber(numberToFloat8(value)))), off(nearest), `${value}`);
  }
});

test('what is beyond the largest becomes it, infinities too; NaN stays NaN', () => {
  for (const beyond of [448, 449, 464, 480, 495, 511, 512, 895, 896, 1e9, Number.POSITIVE_INFINITY])
    assert.deepEqual([numberToFloat8(beyond), numberToFloat8(-beyond)], [0x7e, 0xfe], `${beyond}`);
  assert.equal(numberToFloat8(Number.NaN), 0x7f);
});
