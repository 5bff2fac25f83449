/** Comparisons of results with references. */
import assert from 'node:assert/strict';

type Values = ArrayLike<number>;

/** Half the distance between 1 and the next float32: the largest relative error of one rounding. */
export const FLOAT32_ROUNDING = 2 ** -24;

/** ‖out − ref‖ / ‖ref‖; 0 when both are zero. */
export function relativeError(out: Values, reference: Values): number {
  assert.equal(out.length, reference.length, 'length');
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < reference.length; i++) {
    difference += ((out[i] as number) - (reference[i] as number)) ** 2;
    norm += (reference[i] as number) ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / norm);
}

/** The same values, −0 told from 0, any NaN equal to any NaN. */
export function assertSameValues(out: Values, reference: Values, what: string): void {
  assert.equal(out.length, reference.length, `${what}: length`);
  for (let i = 0; i < reference.length; i++) {
    if (!Object.is(out[i], reference[i]))
      assert.fail(`${what}: [${i}] is ${out[i]}, expected ${reference[i]}`);
  }
}

/** The same bits, those of NaNs included. */
export function assertSameBits(out: Float32Array, reference: Float32Array, what: string): void {
  const bits = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (Buffer.compare(bits(out), bits(reference)) !== 0) {
    assertSameValues(out, reference, what);
    assert.fail(`${what}: NaNs differ in their bits`);
  }
}

/** |out[i] − ref[i]| ≤ bound(i); infinities and NaNs must be the same. */
export function assertWithin(
  out: Values,
  reference: Values,
  bound: (i: number) => number,
  what: string,
): void {
  assert.equal(out.length, reference.length, `${what}: length`);
  for (let i = 0; i < reference.length; i++) {
    const [x, expected] = [out[i] as number, reference[i] as number];
    const close = Number.isFinite(expected) ? Math.abs(x - expected) <= bound(i) : Object.is(x, expected);
    if (!close) assert.fail(`${what}: [${i}] is ${x}, expected ${expected} ± ${bound(i)}`);
  }
}
