/** What torch.save writes since PyTorch 1.6: a zip with `data.pkl` and one uncompressed entry a storage. */
import { type FileHandle, open } from 'node:fs/promises';
import { inflateRawSync } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { FormatError, fileError } from '../errors.ts';
import { elementBytes } from '../tensor.ts';
import { unpickle } from './pickle.ts';
import type { PickledValue } from './pickled-value.ts';
import { resolveTensors, type Storage, StorageType, torchGlobal } from './torch-globals.ts';

/** A pickle names tensors and holds none: real ones have kilobytes. */
const MAX_PICKLE_BYTES = 64 << 20;
const MAX_ENTRIES = 1_000_000;

interface Member {
  readonly entry: Entry;
  readonly dataStart: number;
}

/** Reads the archive's pickle; tensors are left where they lie. @throws FormatError. */
export async function readTorchZip(file: string): Promise<PickledValue> {
  const invalid = (message: string, hint?: string): FormatError =>
    new FormatError('TORCH_FILE_INVALID', `${file}: ${message}`, {
      file,
      ...(hint === undefined ? {} : { hint }),
    });
  await checkZip64Locator(file, invalid);
  let zip: ZipFile;
  try {
    zip = await openPromise(file, { autoClose: false, strictFileNames: true });
  } catch (cause) {
    throw invalid(`the zip is damaged or truncated: ${(cause as Error).message}`);
  }
  const handle = await open(file).catch((cause) => {
    throw fileError(file, cause);
  });
  try {
    const members = await readMembers(zip, invalid);
    const pickleName = [...members.keys()].find((name) => name === 'data.pkl' || name.endsWith('/data.pkl'));
    if (pickleName === undefined)
      throw invalid('the zip holds no data.pkl, it was not written by torch.save');
    const prefix = pickleName.slice(0, -'data.pkl'.length);
    if (
      members.has(`${prefix}constants.pkl`) ||
      [...members.keys()].some((name) => name.startsWith(`${prefix}code/`))
    ) {
      throw new FormatError(
        'TORCH_FORMAT_UNSUPPORTED',
        `${file} is a TorchScript archive, which holds code`,
        {
          file,
          hint: 'save the parameters alone: torch.save(model.state_dict(), path)',
        },
      );
    }
    const byteOrder = members.get(`${prefix}byteorder`);
    if (
      byteOrder !== undefined &&
      (await readMember(handle, byteOrder, 16, invalid)).toString() !== 'little'
    ) {
      throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} was written on a big-endian machine`, {
        file,
      });
    }
    const pickle = await readMember(handle, members.get(pickleName) as Member, MAX_PICKLE_BYTES, invalid);
    const { value } = unpickle(pickle, {
      file,
      global: torchGlobal(file),
      persistentLoad: (id) => storage(id, (key) => members.get(`${prefix}data/${key}`), invalid),
    });
    return resolveTensors(value);
  } finally {
    await handle.close();
    zip.close();
  }
}

const END_OF_DIRECTORY = 0x06054b50;
const ZIP64_LOCATOR = 0x07064b50;

/** A zip64 locator must point into the file: yauzl reads wherever it points. */
async function checkZip64Locator(file: string, invalid: Invalid): Promise<void> {
  const handle = await open(file).catch((cause) => {
    throw fileError(file, cause);
  });
  try {
    const { size } = await handle.stat();
    // The end record has 22 bytes and a comment of at most 65,535; the locator's 20 bytes stand before it.
    const tail = Buffer.alloc(Math.min(size, 20 + 22 + 0xffff));
    await handle.read(tail, 0, tail.length, size - tail.length);
    for (let at = tail.length - 22; at >= 20; at--) {
      if (tail.readUInt32LE(at) !== END_OF_DIRECTORY || tail.readUInt32LE(at - 20) !== ZIP64_LOCATOR)
        continue;
      if (tail.readBigUInt64LE(at - 12) >= BigInt(size))
        throw invalid('the zip is damaged: its directory lies past the end of the file');
    }
  } finally {
    await handle.close();
  }
}

type Invalid = (message: string, hint?: string) => FormatError;

async function readMembers(zip: ZipFile, invalid: Invalid): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  try {
    for await (const entry of zip.eachEntry()) {
      const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true });
      if (members.has(entry.fileName)) throw invalid(`the zip holds ${entry.fileName} twice`);
      if (members.size > MAX_ENTRIES) throw invalid(`the zip holds more than ${MAX_ENTRIES} entries`);
      members.set(entry.fileName, { entry, dataStart: fileDataStart });
    }
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    throw invalid(`the zip is damaged or truncated: ${(cause as Error).message}`);
  }
  const byPlace = [...members].sort(([, a], [, b]) => a.dataStart - b.dataStart);
  let end = 0;
  for (const [name, { entry, dataStart }] of byPlace) {
    if (dataStart < end) throw invalid(`${name} overlaps the entry before it`);
    end = dataStart + entry.compressedSize;
    if (end > zip.fileSize) throw invalid(`${name} reaches past the end of the file`);
  }
  return members;
}

/** A small entry's bytes, inflated if need be, never more than `limit`. */
async function readMember(
  file: FileHandle,
  { entry, dataStart }: Member,
  limit: number,
  invalid: Invalid,
): Promise<Buffer> {
  const { fileName, uncompressedSize, compressedSize, compressionMethod } = entry;
  const tooLarge = () =>
    invalid(
      `${fileName} has ${uncompressedSize} bytes or more, the limit is ${limit}`,
      'it may be a zip bomb; nothing of it was kept',
    );
  if (uncompressedSize > limit || compressedSize > limit) throw tooLarge();
  const bytes = Buffer.alloc(compressedSize);
  await file.read(bytes, 0, compressedSize, dataStart);
  if (compressionMethod === 0) return bytes;
  if (compressionMethod !== 8) throw invalid(`${fileName} is compressed by method ${compressionMethod}`);
  try {
    return inflateRawSync(bytes, { maxOutputLength: limit });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge();
    throw invalid(`${fileName} does not inflate: ${(cause as Error).message}`);
  }
}

/** The storage of a persistent id ('storage', type, key, location, elements). */
function storage(
  id: PickledValue,
  find: (key: string) => Member | undefined,
  invalid: Invalid,
): Storage & object {
  const [kind, type, key, , elements] = Array.isArray(id) ? id : [];
  if (
    kind !== 'storage' ||
    !(type instanceof StorageType) ||
    typeof key !== 'string' ||
    !(Number.isSafeInteger(elements) && (elements as number) >= 0)
  ) {
    throw invalid('a persistent id that names no storage');
  }
  const member = find(key);
  if (member === undefined) throw invalid(`storage ${key} is missing`);
  const { entry, dataStart } = member;
  if (entry.compressionMethod !== 0) {
    throw invalid(
      `storage ${key} is compressed, so its tensors cannot be mapped`,
      'torch.save leaves storages uncompressed; save the checkpoint again',
    );
  }
  const bytes = (elements as number) * elementBytes(type.dtype);
  if (entry.uncompressedSize !== bytes)
    throw invalid(
      `storage ${key} has ${entry.uncompressedSize} bytes, its ${elements} elements need ${bytes}`,
    );
  return { dtype: type.dtype, elements: elements as number, byteOffset: () => dataStart };
}
