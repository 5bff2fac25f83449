/** What is looked at of a file to tell its kind: its first bytes, inflated if it is gzipped, and more where needed. */
import { isStream, openFile } from '../../input-file.ts';
import { inflatedHead, isGzip } from '../gzip.ts';
import { standardInput } from '../standard-input.ts';

/** Bytes that are looked at first; enough for every magic, and for whole lines of text. */
const HEAD_BYTES = 1 << 16;

export interface Contents {
  /** The first bytes. */
  readonly head: Buffer;
  /** All bytes; undefined of a gzipped file and of standard input, whose end is not looked at. */
  readonly size: number | undefined;
  /** Bytes from anywhere, fewer at the end of the file; of a gzipped file only those of its head. */
  readonly read: (at: number, length: number) => Promise<Buffer>;
}

/**
 * Opens a file, or standard input, for `look`, which sees what is inflated of a gzipped one, once.
 * @throws UsageError FILE_*; FormatError GZIP_INVALID for a gzipped file that breaks off within its head.
 */
export async function withContents<T>(
  file: string,
  look: (contents: Contents, gzipped: boolean) => Promise<T>,
): Promise<T> {
  if (await isStream(file)) {
    const head = await standardInput.peek(file, HEAD_BYTES);
    const read = async (at: number, length: number) =>
      (await standardInput.peek(file, at + length)).subarray(at);
    return lookAt(file, { head, size: undefined, read }, look);
  }
  await using opened = await openFile(file);
  const read = async (at: number, length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, await opened.read(bytes, 0, length, at));
  };
  const { size } = opened;
  return await lookAt(file, { head: await read(0, HEAD_BYTES), size, read }, look);
}

async function lookAt<T>(
  file: string,
  contents: Contents,
  look: (contents: Contents, gzipped: boolean) => Promise<T>,
): Promise<T> {
  if (!isGzip(contents.head)) return look(contents, false);
  const head = await inflatedHead(file, contents.head, HEAD_BYTES);
  const read = async (at: number, length: number) => head.subarray(at, at + length);
  return look({ head, size: undefined, read }, true);
}
