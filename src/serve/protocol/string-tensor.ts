/** BYTES tensors behind JSON: each element a length of 4 bytes, little-endian, then so many bytes of UTF-8. */
import { RequestError } from '../../errors.ts';

/** As many as a JSON text may hold. */
const MAX_STRINGS = 2 ** 24;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `count` strings, which take all of `bytes`. @throws RequestError REQUEST_INVALID naming the tensor. */
export function decodeStrings(bytes: Uint8Array, count: number, tensor: string): readonly string[] {
  const refuse = (message: string, position?: number): never => {
    throw new RequestError('REQUEST_INVALID', `${tensor}: ${message}`, {
      tensor,
      hint: 'an element of BYTES is its length in 4 bytes, little-endian, then its bytes',
      ...(position === undefined ? {} : { position }),
    });
  };
  if (count > MAX_STRINGS) refuse(`${count} strings are more than ${MAX_STRINGS}`);
  // Nothing is made for strings that a small body only claims.
  if (4 * count > bytes.length) refuse(`${count} strings do not fit into ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings: string[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 4 > bytes.length) refuse(`its bytes end before element ${i}`, i);
    const begin = at + 4;
    at = begin + view.getUint32(at, true);
    if (at > bytes.length) refuse(`element ${i} goes past the end of its bytes`, i);
    try {
      strings.push(decoder.decode(bytes.subarray(begin, at)));
    } catch {
      refuse(`element ${i} is not UTF-8`, i);
    }
  }
  if (at !== bytes.length) refuse(`${bytes.length - at} bytes are left after its last element`);
  return strings;
}
