/** Kinds of binary files that a fixed magic does not tell: safetensors, pickles, TFRecord, TensorFlow's tables. */
import { parseJson } from '../json-text.ts';
import type { Contents } from './contents.ts';
import type { Kind } from './table.ts';

/** A header's length below 4 GiB, then its JSON. */
function isSafetensors({ head, size }: Contents): boolean {
  if (head.length < 8 || head.readUInt32LE(4) !== 0) return false;
  // Cut right after the length.
  if (size === 8) return head.readUInt32LE(0) > 0;
  return head[8] === 0x7b;
}

/** Tensors that requests hold; parameters that are called so end otherwise. */
const REQUEST_TENSOR = /^(user\.)?(dense|indices|offsets|values|lengths)(\..+)?$/;
const PARAMETER = /\.(weight|bias)$/;

/** The format's own bound on a header. */
const MAX_HEADER_BYTES = 100_000_000;

/** Whether a safetensors file holds a request, by the names of its tensors. */
async function safetensorsKind({ head, read }: Contents): Promise<Kind> {
  const headerBytes = head.readUInt32LE(0);
  if (headerBytes > MAX_HEADER_BYTES) return 'safetensors';
  try {
    const header: unknown = parseJson((await read(8, headerBytes)).toString('utf8'));
    const names = Object.keys(header as object);
    return names.some((name) => REQUEST_TENSOR.test(name) && !PARAMETER.test(name))
      ? 'safetensors-request'
      : 'safetensors';
  } catch {
    // The reader says what is wrong with the header.
    return 'safetensors';
  }
}

/** torch.save's legacy magic number, as a pickle of it holds it. */
const LEGACY_MAGIC = '\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19';

/** What may follow a pickle's protocol: a frame, or an opcode that makes something. */
const FIRST_OPCODES = new Set(Buffer.from('()]}.NcGIJKLMSTUVXB\x88\x89\x8a\x8b\x8c\x8e\x8f\x95', 'latin1'));

function pickleKind(head: Buffer): Kind | undefined {
  const [first, protocol, opcode] = head;
  if (first !== 0x80 || protocol === undefined || protocol < 1 || protocol > 5) return undefined;
  if (head.toString('latin1', 0, 32).includes(LEGACY_MAGIC)) return 'torch-legacy';
  return opcode === undefined || FIRST_OPCODES.has(opcode) ? 'pickle' : undefined;
}

/** CRC-32C of a few bytes. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

/** A record's length (8 bytes), then the length's CRC-32C, rotated and offset. */
function isTfRecord(head: Buffer): boolean {
  if (head.length < 12) return false;
  const crc = crc32c(head.subarray(0, 8));
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  return head.readUInt32LE(8) === masked;
}

/** The last bytes of a table of LevelDB's format, in which TensorFlow's checkpoints keep their index. */
const TABLE_END = Buffer.from('57fb808b247547db', 'hex');

async function isTable({ size, read }: Contents): Promise<boolean> {
  return size !== undefined && size >= 48 && (await read(size - 8, 8)).equals(TABLE_END);
}

/** The kind of a binary file; undefined: none of these. */
export async function binaryKind(contents: Contents): Promise<Kind | undefined> {
  if (isSafetensors(contents)) return safetensorsKind(contents);
  const pickle = pickleKind(contents.head);
  if (pickle !== undefined) return pickle;
  if (isTfRecord(contents.head)) return 'tfrecord';
  return (await isTable(contents)) ? 'tensorflow-checkpoint' : undefined;
}
