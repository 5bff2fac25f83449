/** The entries of a zip that is a file, or lies in one: where each one's bytes are. */
import { crc32, inflateRawSync } from 'node:zlib';
import { type Entry, fromRandomAccessReaderPromise, RandomAccessReader } from 'yauzl';
import { at } from '../../at.ts';
import type { FormatError } from '../../errors.ts';

/** A part of a file. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Bytes of a file that can be read at any place. */
export interface RandomAccess {
  readonly size: number;
  /** Reads up to `length` bytes from `position` on into `into`, from its byte `offset` on. @returns how many. */
  read(into: Buffer, offset: number, length: number, position: number): Promise<number>;
}

/** An entry whose bytes lie within the zip and overlap no other's. */
export interface ZipEntry {
  readonly name: string;
  /** Byte of the file, not of the zip, where its bytes begin. */
  readonly byteOffset: number;
  readonly compressedSize: number;
  readonly uncompressedSize: number;
  /** 0 for bytes as they are. */
  readonly compressionMethod: number;
  /** Of the bytes, uncompressed; 0 may also mean that none was taken: torch.serialization.set_crc32_options(False). */
  readonly crc32: number;
}

/** Makes the error for a zip that is wrong. */
export type Invalid = (message: string, hint?: string) => FormatError;

const MAX_ENTRIES = 1 << 18;

/** What is read ahead: the directory's entries follow each other, 100 bytes each. */
const BLOCK_BYTES = 1 << 18;

/** Local headers that are read at a time. */
const HEADERS_AT_ONCE = 256;
const LOCAL_HEADER_BYTES = 30;
const LOCAL_HEADER = 0x04034b50;

/** Reads a part of a file for yauzl, a block at a time; nothing outside of the part. */
class RangeReader extends RandomAccessReader {
  readonly #file: RandomAccess;
  readonly #range: ByteRange;
  #block = Buffer.alloc(0);
  #blockAt = 0;

  constructor(file: RandomAccess, range: ByteRange) {
    super();
    this.#file = file;
    this.#range = range;
  }

  override read(
    into: Buffer,
    offset: number,
    length: number,
    position: number,
    done: (error: Error | null) => void,
  ): void {
    this.#fill(into.subarray(offset, offset + length), position).then(() => done(null), done);
  }

  async #fill(into: Buffer, position: number): Promise<void> {
    if (position < 0 || position + into.length > this.#range.length) throw new Error('unexpected end');
    if (position < this.#blockAt || position + into.length > this.#blockAt + this.#block.length) {
      const length = Math.min(Math.max(BLOCK_BYTES, into.length), this.#range.length - position);
      const block = Buffer.alloc(length);
      const bytesRead = await this.#file.read(block, 0, length, this.#range.offset + position);
      if (bytesRead < into.length) throw new Error('unexpected end');
      this.#block = block.subarray(0, bytesRead);
      this.#blockAt = position;
    }
    this.#block.copy(into, 0, position - this.#blockAt);
  }
}

/** Reads the directory of the zip in `range` of a file. @throws what `invalid` makes. */
export async function readZipDirectory(
  file: RandomAccess,
  range: ByteRange,
  invalid: Invalid,
): Promise<ReadonlyMap<string, ZipEntry>> {
  const damaged = (cause: unknown) => invalid(`the zip is damaged or truncated: ${(cause as Error).message}`);
  const entries = await listEntries(file, range).catch((cause) => {
    throw damaged(cause);
  });
  if (entries.length > MAX_ENTRIES) throw invalid(`the zip holds more than ${MAX_ENTRIES} entries`);
  const members = new Map<string, ZipEntry>();
  for (let first = 0; first < entries.length; first += HEADERS_AT_ONCE) {
    const some = entries.slice(first, first + HEADERS_AT_ONCE);
    const starts = await Promise.all(some.map((entry) => dataStart(file, range, entry))).catch((cause) => {
      throw damaged(cause);
    });
    for (const [i, entry] of some.entries()) {
      const { fileName: name, compressedSize, uncompressedSize, compressionMethod, crc32 } = entry;
      if (members.has(name)) throw invalid(`the zip holds ${name} twice`);
      const byteOffset = range.offset + at(starts, i);
      members.set(name, { name, byteOffset, compressedSize, uncompressedSize, compressionMethod, crc32 });
    }
  }
  checkPlaces(members, range, invalid);
  return members;
}

/** The directory's entries, one more than are allowed at most. */
async function listEntries(file: RandomAccess, range: ByteRange): Promise<Entry[]> {
  const reader = new RangeReader(file, range);
  const zip = await fromRandomAccessReaderPromise(reader, range.length, {
    autoClose: false,
    strictFileNames: true,
  });
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) {
    entries.push(entry);
    if (entries.length > MAX_ENTRIES) break;
  }
  return entries;
}

/** Byte of the zip where an entry's bytes begin: only the header before them says how long it is. */
async function dataStart(file: RandomAccess, range: ByteRange, entry: Entry): Promise<number> {
  const at = entry.relativeOffsetOfLocalHeader;
  if (at + LOCAL_HEADER_BYTES > range.length)
    throw new Error(`${entry.fileName} lies past the end of the file`);
  const header = Buffer.alloc(LOCAL_HEADER_BYTES);
  const bytesRead = await file.read(header, 0, header.length, range.offset + at);
  if (bytesRead < header.length || header.readUInt32LE(0) !== LOCAL_HEADER)
    throw new Error(`${entry.fileName} has no header`);
  const method = header.readUInt16LE(8);
  if (method !== entry.compressionMethod)
    throw new Error(
      `${entry.fileName} is compressed by method ${method} before its bytes, ${entry.compressionMethod} in the directory`,
    );
  return at + LOCAL_HEADER_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
}

/** Entries lie within the zip, and one after the other. */
function checkPlaces(members: ReadonlyMap<string, ZipEntry>, range: ByteRange, invalid: Invalid): void {
  const byPlace = [...members.values()].sort((a, b) => a.byteOffset - b.byteOffset);
  let end = range.offset;
  for (const { name, byteOffset, compressedSize } of byPlace) {
    if (byteOffset < end) throw invalid(`${name} overlaps the entry before it`);
    end = byteOffset + compressedSize;
    if (end > range.offset + range.length) throw invalid(`${name} reaches past the end of the file`);
  }
}

/**
 * A small entry's bytes, inflated if need be, never more than `limit`, and checked against their CRC-32.
 * @throws what `invalid` makes.
 */
export async function readZipEntry(
  file: RandomAccess,
  entry: ZipEntry,
  limit: number,
  invalid: Invalid,
): Promise<Buffer> {
  const { name, uncompressedSize } = entry;
  const bytes = await entryBytes(file, entry, limit, invalid);
  if (bytes.length !== uncompressedSize)
    throw invalid(`${name} has ${bytes.length} bytes, the directory says ${uncompressedSize}`);
  if (entry.crc32 !== 0 && crc32(bytes) !== entry.crc32)
    throw invalid(
      `${name} is damaged: its CRC-32 is not what the zip says`,
      'copy or download the file again',
    );
  return bytes;
}

async function entryBytes(
  file: RandomAccess,
  { name, byteOffset, uncompressedSize, compressedSize, compressionMethod }: ZipEntry,
  limit: number,
  invalid: Invalid,
): Promise<Buffer> {
  const tooLarge = () =>
    invalid(
      `${name} has ${uncompressedSize} bytes or more, the limit is ${limit}`,
      'it may be a zip bomb; nothing of it was kept',
    );
  if (uncompressedSize > limit || compressedSize > limit) throw tooLarge();
  const bytes = Buffer.alloc(compressedSize);
  await file.read(bytes, 0, compressedSize, byteOffset);
  if (compressionMethod === 0) return bytes;
  if (compressionMethod !== 8) throw invalid(`${name} is compressed by method ${compressionMethod}`);
  try {
    return inflateRawSync(bytes, { maxOutputLength: limit });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge();
    throw invalid(`${name} does not inflate: ${(cause as Error).message}`);
  }
}
