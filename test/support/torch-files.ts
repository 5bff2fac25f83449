/** Files of torch.save, made by hand. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { deflateRawSync } from 'node:zlib';
import { FormatError, type HotrowError } from '../../src/errors.ts';
import {
  dictOf,
  isSavedTensor,
  readTorchFile,
  type SavedTensor,
} from '../../src/formats/torch/torch-file.ts';
import type { StoredTensor } from '../../src/tensor.ts';

export const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** A file that torch.save wrote. */
export const torchFixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/torch/${name}.pt`, import.meta.url));

/** Holds that `read` refuses a file with a code, in words that name it and match the pattern. */
export function refusalsOf(read: (path: string) => Promise<unknown>) {
  return (path: string, code: HotrowError['code'], pattern = /./): Promise<void> =>
    assert.rejects(read(path), (error: unknown) => {
      assert.ok(error instanceof FormatError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(`${error.message} ${error.hint ?? ''}`, pattern);
      assert.ok(error.message.includes(path), error.message);
      return true;
    });
}

export interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  readonly deflate?: boolean;
  /** What the directory says instead of the truth. */
  readonly claims?: {
    readonly size?: number;
    readonly compressedSize?: number;
    readonly at?: number;
    readonly crc32?: number;
    readonly method?: number;
  };
}

/** A zip, with the directory's lies if any. Checksums are left 0. */
export function zip(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, data, deflate = false, claims = {} } of entries) {
    const body = deflate ? deflateRawSync(data, { level: 9 }) : Buffer.from(data);
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(deflate ? 8 : 0, 8);
    header.writeUInt32LE(body.length, 18);
    header.writeUInt32LE(data.length, 22);
    header.writeUInt16LE(name.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(claims.method ?? (deflate ? 8 : 0), 10);
    central.writeUInt32LE(claims.crc32 ?? 0, 16);
    central.writeUInt32LE(claims.compressedSize ?? body.length, 20);
    central.writeUInt32LE(claims.size ?? data.length, 24);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt32LE(claims.at ?? at, 42);
    directory.push(central, latin1(name));
    parts.push(header, latin1(name), body);
    at += 30 + name.length + body.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, central, end]);
}

const integer = (value: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return `J${bytes.toString('latin1')}`;
};
const tuple = (values: readonly number[]): string => `(${values.map(integer).join('')}t`;

/** The pickle of one float32 tensor over storage '0' of `elements`. */
export const tensorPickle = (elements: number, offset: number, shape: number[], stride: number[]): Buffer =>
  latin1(
    '\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu' +
      `${integer(elements)}tQ${integer(offset)}${tuple(shape)}${tuple(stride)}\x89)tR.`,
  );

/** A torch zip of one tensor. */
export const torchZip = (
  pickle: Uint8Array,
  storage: Partial<ZipEntry> = {},
  more: readonly ZipEntry[] = [],
): Buffer =>
  zip([
    { name: 'a/data.pkl', data: pickle },
    ...more,
    { name: 'a/data/0', data: new Uint8Array(new Float32Array([0, 1, 2, 3, 4, 5]).buffer), ...storage },
  ]);

/** Magic, protocol and system information of the format before 1.6. */
export const LEGACY_HEAD =
  '\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.';

/** Opcodes that push what Python's pickler pushes for values, protocol 2. */
export const op = {
  integer,
  none: 'N',
  yes: '\x88',
  no: '\x89',
  text: (value: string): string => {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return `X${length.toString('latin1')}${bytes.toString('latin1')}`;
  },
  /** A tuple of what the parts push. */
  tuple: (...parts: readonly string[]): string => `(${parts.join('')}t`,
  extents: tuple,
  list: (...parts: readonly string[]): string => `](${parts.join('')}e`,
  /** A dict, its keys text. */
  dict: (entries: Readonly<Record<string, string>>): string =>
    `}(${Object.entries(entries)
      .map(([key, value]) => op.text(key) + value)
      .join('')}u`,
  /** A class or function, "module.name". */
  global: (type: string): string => {
    const dot = type.lastIndexOf('.');
    return `c${type.slice(0, dot)}\n${type.slice(dot + 1)}\n`;
  },
  /** A call by REDUCE. */
  call: (type: string, ...args: readonly string[]): string => `${op.global(type)}${op.tuple(...args)}R`,
  /** An object of a class without arguments, with a state. */
  object: (type: string, state: string): string => `${op.global(type)})\x81${state}b`,
  /** A storage by its persistent id. */
  storage: (type: string, elements: number, key = '0', location = 'cpu'): string =>
    `${op.tuple(op.text('storage'), op.global(type), op.text(key), op.text(location), integer(elements))}Q`,
  /** A tensor on storage 0 of six float32, as `torchZip` makes it. */
  tensor: (shape: readonly number[], stride: readonly number[], offset = 0): string =>
    op.call(
      'torch._utils._rebuild_tensor_v2',
      op.storage('torch.FloatStorage', 6),
      integer(offset),
      tuple(shape),
      tuple(stride),
      op.no,
      op.call('collections.OrderedDict'),
    ),
};

/** The pickle of one value. */
export const pickleOf = (value: string): Buffer => latin1(`\x80\x02${value}.`);

/** The tensors of a saved value's dicts and lists, however deep. */
export function* savedTensors(value: unknown): Generator<SavedTensor> {
  const seen = new Set<unknown>();
  const toVisit = [value];
  while (toVisit.length > 0) {
    const item = toVisit.pop();
    if (seen.has(item)) continue;
    seen.add(item);
    if (isSavedTensor(item)) yield item;
    if (Array.isArray(item)) for (const part of item) toVisit.push(part);
    for (const part of dictOf(item)?.values() ?? []) toVisit.push(part);
  }
}

/** Reads a file of torch.save and finds where each of its tensors lies. @throws as readTorchFile and stored. */
export async function readStored(file: string): Promise<StoredTensor[]> {
  const value = await readTorchFile(file);
  return [...savedTensors(value)].map((tensor) => tensor.stored());
}
