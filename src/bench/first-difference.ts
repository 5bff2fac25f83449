/** Elements that are compared at once, by native code. */
const PIECE = 2 ** 20;
const BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Where two arrays of one length first differ in a bit; undefined: nowhere. NaN is equal to the same NaN. */
export function firstDifference(a: Float32Array, b: Float32Array): number | undefined {
  for (let at = 0; at < a.length; at += PIECE) {
    const [ofA, ofB] = [bytesOf(a, at), bytesOf(b, at)];
    if (ofA.equals(ofB)) continue;
    return at + Math.floor(ofA.findIndex((byte, i) => byte !== ofB[i]) / BYTES);
  }
  return undefined;
}

function bytesOf(values: Float32Array, at: number): Buffer {
  const length = Math.min(PIECE, values.length - at);
  return Buffer.from(values.buffer, values.byteOffset + at * BYTES, length * BYTES);
}
