/** What is looked at of a file to tell its kind: its first bytes, inflated if it is gzipped, and more where needed. */
import { open, stat } from 'node:fs/promises';
import { fileError, UsageError } from '../../errors.ts';
import { openMaybeGzip } from '../gzip.ts';

/** Bytes that are looked at first; enough for every magic, and for whole lines of text. */
const HEAD_BYTES = 1 << 16;

export interface Contents {
  /** The first bytes. */
  readonly head: Buffer;
  /** All bytes; undefined of a gzipped file, whose end is not looked at. */
  readonly size: number | undefined;
  /** Bytes from anywhere, fewer at the end of the file; of a gzipped file only those of its head. */
  readonly read: (at: number, length: number) => Promise<Buffer>;
}

/**
 * Opens a file for `look`, which sees what is inflated of a gzipped one, once.
 * @throws UsageError FILE_*; FormatError GZIP_INVALID for a gzipped file that breaks off within its head.
 */
export async function withContents<T>(
  file: string,
  look: (contents: Contents, gzipped: boolean) => Promise<T>,
): Promise<T> {
  const failed = (cause: unknown): never => {
    throw fileError(file, cause);
  };
  // Before it is opened: a pipe would wait for a writer.
  const info = await stat(file).catch(failed);
  if (!info.isFile() && !info.isDirectory())
    throw new UsageError('FILE_UNREADABLE', `${file} is a pipe or a device, not a file`, { file });
  const handle = await open(file).catch(failed);
  const read = async (at: number, length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await handle.read(bytes, 0, length, at).catch(failed);
    return bytes.subarray(0, bytesRead);
  };
  try {
    const { size } = info;
    const head = await read(0, HEAD_BYTES);
    if (head[0] !== 0x1f || head[1] !== 0x8b) return await look({ head, size, read }, false);
    const inflated = await inflatedHead(file);
    const within = async (at: number, length: number) => inflated.subarray(at, at + length);
    return await look({ head: inflated, size: undefined, read: within }, true);
  } finally {
    await handle.close();
  }
}

async function inflatedHead(file: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of openMaybeGzip(file)) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= HEAD_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, HEAD_BYTES);
}
