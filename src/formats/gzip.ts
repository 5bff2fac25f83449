/** Contents of files, or of standard input, as a stream: inflated if gzipped, with a bound on what a small file may inflate to. */
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip, constants as zlib } from 'node:zlib';
import { FormatError, HotrowError } from '../errors.ts';
import { isStream, openFile } from '../input-file.ts';
import { OpenedFile } from '../opened-file.ts';
import { temporaryFolder } from '../temporary-folder.ts';
import { standardInput } from './standard-input.ts';

/** Index data compresses some 3 to 20 times; gzip's limit is about 1,030. */
const MAX_RATIO = 50;
/** Below this, a high ratio does no harm. */
const FREE_BYTES = 256 << 20;
/** What a stream may hold where its reader needs a file, or its contents as a whole. */
export const MAX_PIPED_BYTES = 4 * 2 ** 30;

const CHUNK_BYTES = 1 << 20;

/** True for the first bytes of a gzipped file. */
export const isGzip = (head: Uint8Array): boolean => head[0] === 0x1f && head[1] === 0x8b;

/** A file's bytes as they are. @throws UsageError FILE_*. */
async function* rawBytes(file: string): AsyncGenerator<Buffer> {
  if (await isStream(file)) {
    // Of two bytes or more, for their reader to see what they are.
    await standardInput.peek(file, 2);
    yield* standardInput.read(file);
    return;
  }
  await using opened = await openFile(file);
  const read = async () => {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    return chunk.subarray(0, await opened.read(chunk, 0, chunk.length, null));
  };
  let ahead = read();
  for (let chunk = await ahead; chunk.length > 0; chunk = await ahead) {
    ahead = read();
    // Whoever waits for it hears of its failure.
    ahead.catch(() => {});
    yield chunk;
  }
}

/**
 * The bytes of a file or of standard input, inflated if they are gzipped.
 * @throws UsageError FILE_*; FormatError GZIP_INVALID for damaged files, GZIP_BOMB for files that inflate without end.
 */
export async function* openMaybeGzip(file: string): AsyncGenerator<Uint8Array> {
  const bytes = rawBytes(file);
  try {
    const { value: first, done } = await bytes.next();
    if (done === true) return;
    let compressed = first.length;
    const all = async function* () {
      yield first;
      for await (const chunk of bytes) {
        compressed += chunk.length;
        yield chunk;
      }
    };
    if (!isGzip(first)) {
      yield* all();
      return;
    }
    let inflated = 0;
    for await (const chunk of inflate(file, all())) {
      inflated += chunk.length;
      if (inflated > FREE_BYTES && inflated > MAX_RATIO * compressed) {
        throw new FormatError('GZIP_BOMB', `${file} inflates to more than ${MAX_RATIO} times its size`, {
          file,
          hint: 'no trace or data set compresses like this; gunzip it yourself if you trust it',
        });
      }
      yield chunk;
    }
  } finally {
    // Also where only the first of them were wanted.
    await bytes.return(undefined);
  }
}

/** What `compressed` inflates to. `cut`: it may end anywhere. @throws FormatError GZIP_INVALID; what `compressed` throws. */
async function* inflate(
  file: string,
  compressed: AsyncIterable<Uint8Array>,
  cut = false,
): AsyncGenerator<Uint8Array> {
  const flush = cut ? { finishFlush: zlib.Z_SYNC_FLUSH } : {};
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES, ...flush });
  const source = Readable.from(compressed);
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  try {
    yield* gunzip;
  } catch (cause) {
    if (cause instanceof HotrowError) throw cause;
    throw new FormatError('GZIP_INVALID', `${file} is damaged or truncated: ${(cause as Error).message}`, {
      file,
      cause,
    });
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

/** The first `bytes` that a gzipped file inflates to, which begins with `head`. @throws as openMaybeGzip. */
export async function inflatedHead(file: string, head: Buffer, bytes: number): Promise<Buffer> {
  const one = async function* () {
    yield head;
  };
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of (await isStream(file)) ? inflate(file, one(), true) : openMaybeGzip(file)) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= bytes) break;
  }
  return Buffer.concat(chunks).subarray(0, bytes);
}

/**
 * Runs `work` on a file that can be read at any place: a temporary copy of one that is gzipped, or of standard input; else the
 * file itself. Errors name `file`.
 * @throws as openMaybeGzip; FormatError FORMAT_UNKNOWN for standard input of more than 4 GiB; UsageError FILE_UNWRITABLE for a
 * temporary folder without room; what `work` throws.
 */
export async function withPlainFile<T>(
  file: string,
  gzipped: boolean,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const piped = await isStream(file);
  if (!gzipped && !piped) return work(file);
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'copy');
  const bytes = openMaybeGzip(file);
  await folder.fill(async () => {
    await using copy = new OpenedFile(path, 'w');
    for await (const chunk of piped ? bounded(file, bytes) : bytes) await copy.write(chunk);
  });
  try {
    return await work(path);
  } catch (error) {
    // Nobody knows the temporary file, and it will be gone.
    if (error instanceof HotrowError) {
      error.message = error.message.replaceAll(path, file);
      error.details = { ...error.details, file };
    }
    throw error;
  }
}

async function* bounded(file: string, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let count = 0;
  for await (const chunk of bytes) {
    count += chunk.length;
    if (count > MAX_PIPED_BYTES) {
      const message = `${file}: more than ${MAX_PIPED_BYTES / 2 ** 30} GiB came by standard input`;
      throw new FormatError('FORMAT_UNKNOWN', message, { file, hint: 'write it to a file, and name that' });
    }
    yield chunk;
  }
}
