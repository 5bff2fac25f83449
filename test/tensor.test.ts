/** Numbers of 16 bits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float16ToNumber, numberToFloat16 } from '../src/tensor.ts';

test('every float16 is the number of its definition, and back', () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 0x3ff];
    const size =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent < 31
          ? (1 + fraction / 1024) * 2 ** (exponent - 15)
          : fraction === 0
            ? Number.POSITIVE_INFINITY
            : Number.NaN;
    const value = float16ToNumber(bits);
    if (!Object.is(value, bits & 0x8000 ? -size : size)) assert.fail(`${bits} is ${value}`);
    if (!Number.isNaN(value) && numberToFloat16(value) !== bits) assert.fail(`${value} is not ${bits}`);
  }
});
