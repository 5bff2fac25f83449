/** Files that may be gzipped, as a stream of their contents, with a bound on how much a small file may inflate to. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { FormatError, fileError } from '../errors.ts';

/** Index data compresses some 3 to 20 times; gzip's limit is about 1,030. */
const MAX_RATIO = 200;
/** Below this, a high ratio does no harm. */
const FREE_BYTES = 256 << 20;

/** True when the file begins with gzip's magic. @throws UsageError FILE_*. */
export async function isGzip(file: string): Promise<boolean> {
  const handle = await open(file).catch((cause) => {
    throw fileError(file, cause);
  });
  try {
    const magic = new Uint8Array(2);
    await handle.read(magic, 0, 2, 0).catch((cause) => {
      throw fileError(file, cause);
    });
    return magic[0] === 0x1f && magic[1] === 0x8b;
  } finally {
    await handle.close();
  }
}

/**
 * The file's bytes, inflated if it is gzipped.
 * @throws UsageError FILE_*; FormatError GZIP_INVALID for damaged files, GZIP_BOMB for files that inflate without end.
 */
export async function* openMaybeGzip(file: string): AsyncGenerator<Uint8Array> {
  // First of all: a stream that fails to open before anyone listens would end the process.
  const gzipped = await isGzip(file);
  const source = createReadStream(file, { highWaterMark: 1 << 20 });
  if (!gzipped) {
    yield* source;
    return;
  }
  let compressed = 0;
  source.on('data', (chunk) => {
    compressed += chunk.length;
  });
  const gunzip = createGunzip({ chunkSize: 1 << 20 });
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  let inflated = 0;
  try {
    for await (const chunk of gunzip) {
      inflated += chunk.length;
      if (inflated > FREE_BYTES && inflated > MAX_RATIO * compressed) {
        throw new FormatError('GZIP_BOMB', `${file} inflates to more than ${MAX_RATIO} times its size`, {
          file,
          hint: 'no trace or data set compresses like this; gunzip it yourself if you trust it',
        });
      }
      yield chunk;
    }
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    throw new FormatError('GZIP_INVALID', `${file} is damaged or truncated: ${(cause as Error).message}`, {
      file,
      cause,
    });
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

/** An inflated copy that is deleted on disposal. */
export interface TemporaryFile extends AsyncDisposable {
  readonly path: string;
}

/** Inflates a gzipped file into a temporary one. @throws as openMaybeGzip. */
export async function gunzipToTemporaryFile(file: string): Promise<TemporaryFile> {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-'));
  const remove = () => rm(folder, { recursive: true, force: true });
  const path = join(folder, 'inflated');
  try {
    await pipeline(Readable.from(openMaybeGzip(file)), createWriteStream(path));
  } catch (error) {
    await remove();
    throw error;
  }
  return { path, [Symbol.asyncDispose]: remove };
}
