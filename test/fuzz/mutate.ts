/** Changes to small valid files: of bytes, and of what their format is made of. */
import { gunzipSync, gzipSync } from 'node:zlib';
import { STACK_OPCODES } from '../support/pickle-opcodes.ts';
import type { Random } from '../support/random.ts';
import { type ZipEntry, zip } from '../support/torch-files.ts';

/** Numbers that lengths, offsets and counts are often wrong by. */
const NUMBERS = [0, 1, 2, 7, 127, 128, 255, 256, 65535, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 53, 2 ** 60];

/** A few changes of bytes; some take bytes from `other`. */
function mutateBytes(bytes: Buffer, random: Random, other: Buffer): Buffer {
  let changed = Buffer.from(bytes);
  for (let changes = random.integer(1, 4); changes > 0; changes--) {
    const at = random.integer(0, changed.length);
    const end = Math.min(changed.length, at + random.integer(0, 2 ** random.integer(0, 9)));
    switch (random.integer(0, 9)) {
      case 0:
      case 1:
        if (at < changed.length) changed[at] = (changed[at] as number) ^ (1 << random.integer(0, 7));
        break;
      case 2:
        if (at < changed.length) changed[at] = random.integer(0, 255);
        break;
      case 3:
        if (at + 4 <= changed.length) changed.writeUInt32LE(random.pick(NUMBERS) % 2 ** 32, at);
        break;
      case 4:
        if (at + 8 <= changed.length) changed.writeBigUInt64LE(BigInt(random.pick(NUMBERS)), at);
        break;
      case 5:
        changed = changed.subarray(0, at);
        break;
      case 6:
        changed = Buffer.concat([changed.subarray(0, at), changed.subarray(end)]);
        break;
      case 7:
        changed = Buffer.concat([changed.subarray(0, end), changed.subarray(at)]);
        break;
      case 8: {
        const from = random.integer(0, other.length);
        const part = other.subarray(from, from + random.integer(0, 256));
        changed = Buffer.concat([changed.subarray(0, at), part, changed.subarray(end)]);
        break;
      }
      default: {
        const times = random.integer(2, 200);
        const part = changed.subarray(at, Math.min(end, at + 64));
        changed = Buffer.concat([changed.subarray(0, at), ...Array(times).fill(part), changed.subarray(end)]);
      }
    }
  }
  return changed;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const deep = (depth: number): Json => (depth === 0 ? [] : [deep(depth - 1)]);

/** Values where others are expected. */
const VALUES: readonly (() => Json)[] = [
  () => null,
  () => true,
  () => -1,
  () => 0.5,
  () => 1e308,
  () => 2 ** 53,
  () => -0,
  () => '',
  () => 'x',
  () => '\u0000\u001b[31m\ud800',
  () => 'y'.repeat(3000),
  () => '__proto__',
  () => [],
  () => ({}),
  () => deep(30),
  () => deep(100),
  () => Array(200).fill(0),
];

const isObject = (value: Json): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The value with one of its parts changed. */
function mutateValue(value: Json, random: Random): Json {
  const members: (string | number)[] = Array.isArray(value)
    ? [...value.keys()]
    : isObject(value)
      ? Object.keys(value)
      : [];
  if (members.length === 0 || random.next() < 0.1) {
    if (typeof value === 'number' && random.next() < 0.5)
      return value + random.pick([-1, 1, 0.5, 1000, -1000]);
    return random.pick(VALUES)();
  }
  const key = random.pick(members);
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<
    string | number,
    Json
  >;
  const action = random.next();
  if (action < 0.1) {
    if (Array.isArray(copy)) copy.splice(key as number, 1);
    else delete copy[key];
  } else if (action < 0.2) {
    const name = random.pick([...members.map(String), '', 'x', '__proto__', 'constructor', 'toString']);
    if (Array.isArray(copy)) copy.push(copy[key] as Json);
    else Object.defineProperty(copy, name, { value: copy[key], enumerable: true });
  } else copy[key] = mutateValue(copy[key] as Json, random);
  return copy as Json;
}

/** A text of JSON with some of its values changed, at times a key of it twice. Undefined: it is none. */
function mutateJson(text: string, random: Random): string | undefined {
  let value: Json;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  for (let changes = random.integer(1, 3); changes > 0; changes--) value = mutateValue(value, random);
  const changed = JSON.stringify(value);
  return random.next() < 0.05 ? changed.replace(/("[^"]*":)(\d+)/, '$1$2,$1$2') : changed;
}

const withHeader = (header: string, data: Buffer): Buffer => {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(header)));
  return Buffer.concat([length, Buffer.from(header), data]);
};

/** What stands in pickles of tensors: values, and opcodes that work on what is there. */
const OPCODES = [
  ...['N', '\x88', 'K\x02', 'K\xff', 'J\xff\xff\xff\xff', 'M\x00\x01', 'U\x03abc', 'C\x02ab', ')', ']', '}'],
  ...[
    'h\x00',
    'h\x01',
    'h\x05',
    'h\x10',
    'q\x01',
    '\x94',
    '\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f',
    '\x8f',
  ],
  ...STACK_OPCODES,
  ...['\x85', '\x86', '\x87', '\x81'],
  ...[
    'G\x7f\xf0\x00\x00\x00\x00\x00\x00',
    'ctorch._utils\n_rebuild_tensor_v2\n',
    'ctorch\nSize\n',
    'cm\nC\n',
  ],
  ...[
    'ccollections\nOrderedDict\n',
    'ctorch.distributed.tensor\nDTensor\n',
    'ctorch\nFloatStorage\n',
    '\x93',
  ],
];

/** A pickle with opcodes put in between. */
function mutatePickle(bytes: Buffer, random: Random): Buffer {
  let changed = bytes;
  for (let changes = random.integer(1, 3); changes > 0; changes--) {
    const at = random.integer(0, changed.length);
    const opcodes = Array.from({ length: random.integer(1, 3) }, () => random.pick(OPCODES)).join('');
    const rest = changed.subarray(at + random.integer(0, 4));
    changed = Buffer.concat([changed.subarray(0, at), Buffer.from(opcodes, 'latin1'), rest]);
  }
  return changed;
}

/** The entries of a zip that is as it should be; undefined: it is not. */
function zipEntries(bytes: Buffer): ZipEntry[] | undefined {
  const end = bytes.lastIndexOf('PK\x05\x06', undefined, 'latin1');
  // Of several, one after the other, places do not count from the first byte.
  if (end < 0 || bytes.readUInt32LE(end + 12) + bytes.readUInt32LE(end + 16) > end) return undefined;
  if (bytes.indexOf('PK\x05\x06', undefined, 'latin1') !== end) return undefined;
  const entries: ZipEntry[] = [];
  let at = bytes.readUInt32LE(end + 16);
  for (let count = bytes.readUInt16LE(end + 10); count > 0; count--) {
    const [nameBytes, extra, comment] = [28, 30, 32].map((place) => bytes.readUInt16LE(at + place));
    const local = bytes.readUInt32LE(at + 42);
    const begin = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    entries.push({
      name: bytes.toString('latin1', at + 46, at + 46 + (nameBytes as number)),
      data: bytes.subarray(begin, begin + bytes.readUInt32LE(at + 20)),
    });
    at += 46 + (nameBytes as number) + (extra as number) + (comment as number);
  }
  return entries;
}

function mutateZip(bytes: Buffer, random: Random): Buffer | undefined {
  const entries = zipEntries(bytes);
  if (entries === undefined || entries.length === 0) return undefined;
  const chosen = random.integer(0, entries.length - 1);
  const changed = entries.flatMap((entry, i): ZipEntry[] => {
    const isPickle = entry.name.endsWith('data.pkl');
    if (isPickle && random.next() < 0.8)
      return [{ ...entry, data: mutatePickle(Buffer.from(entry.data), random) }];
    if (i !== chosen) return [entry];
    const lie = random.pick(NUMBERS) % 2 ** 32;
    return random.pick<() => ZipEntry[]>([
      () => [],
      () => [entry, entry],
      () => [{ ...entry, deflate: true }],
      () => [{ ...entry, claims: { size: lie } }],
      () => [{ ...entry, claims: { compressedSize: lie } }],
      () => [{ ...entry, claims: { at: lie } }],
      () => [{ ...entry, name: `${entry.name}x` }],
      () => [{ ...entry, data: mutateBytes(Buffer.from(entry.data), random, bytes) }],
    ])();
  });
  return zip(changed);
}

/** Lines of text with some lines and fields changed. */
function mutateLines(text: string, random: Random): string {
  const lines = text.split('\n');
  const at = random.integer(0, lines.length - 1);
  const line = lines[at] as string;
  const json = mutateJson(line, random);
  const separator = line.includes('\t') ? '\t' : ',';
  const fields = line.split(separator);
  const odd = ['', '-1', '4294967296', '99999999999999999999', '1e400', 'NaN', 'zz', ' ', '\u0000', 'é', '"'];
  fields[random.integer(0, fields.length - 1)] = random.pick(odd);
  if (random.next() < 0.2) fields.splice(random.integer(0, fields.length), random.integer(0, 2), 'x');
  lines[at] = json ?? fields.join(separator);
  if (random.next() < 0.1) lines.push(...lines.slice(0, random.integer(0, 3)));
  return lines.join(random.next() < 0.05 ? '\r\n' : '\n');
}

/** A file changed by its bytes, or by what it is made of. `other` is another file of the family. */
export function mutate(bytes: Buffer, random: Random, other: Buffer): Buffer {
  if (random.next() < 0.4) return mutateBytes(bytes, random, other);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    const inflated = mutate(gunzipSync(bytes), random, other);
    const packed = gzipSync(inflated);
    return random.next() < 0.1 ? Buffer.concat([packed, random.pick([packed, inflated])]) : packed;
  }
  if (bytes.toString('latin1', 0, 2) === 'PK')
    return mutateZip(bytes, random) ?? mutateBytes(bytes, random, other);
  if (bytes[0] === 0x80) return mutatePickle(bytes, random);
  if (bytes[8] === 0x7b && bytes.readUInt16LE(6) === 0) {
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const header = mutateJson(bytes.toString('utf8', 8, 8 + headerBytes), random);
    return header === undefined ? bytes : withHeader(header, bytes.subarray(8 + headerBytes));
  }
  const text = bytes.toString('utf8');
  return Buffer.from(mutateJson(text, random) ?? mutateLines(text, random));
}
