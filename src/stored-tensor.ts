/** Reading tensors that lie in files: whole, or a range of their bytes. */
import { DeviceError, FormatError } from './errors.ts';
import { type InputFile, openFile } from './input-file.ts';
import {
  type FileTensor,
  type HostTensor,
  isInFile,
  type StoredTensor,
  type StoredTensors,
  viewElements,
} from './tensor.ts';

/** One read call moves at most 2 GiB. */
const READ_CHUNK_BYTES = 256 << 20;

/** The files that a tensor's bytes come from. */
export function filesOf(tensor: StoredTensor): readonly string[] {
  return isInFile(tensor) ? [tensor.file] : tensor.files;
}

/**
 * The same tensors, those that lie in the same bytes of a file as one object: tied weights, which then share their memory.
 * Assembled tensors stay as they are.
 */
export function shareTied(tensors: StoredTensors): StoredTensors {
  const known = new Map<string, FileTensor>();
  const shared = [...tensors].map(([name, tensor]): [string, StoredTensor] => {
    if (!isInFile(tensor)) return [name, tensor];
    const { file, byteOffset, dtype, shape, annotation } = tensor;
    const key = JSON.stringify([file, byteOffset, dtype, shape, annotation ?? null]);
    const first = known.get(key) ?? tensor;
    known.set(key, first);
    return [name, first];
  });
  return new Map(shared);
}

/** Fills `into` with bytes of `file` from `position` on. @throws FormatError FILE_TRUNCATED; UsageError FILE_UNREADABLE. */
export async function readFully(
  file: Pick<InputFile, 'path' | 'read'>,
  into: Uint8Array,
  position: number,
): Promise<void> {
  const { path } = file;
  for (let done = 0; done < into.length; ) {
    const length = Math.min(READ_CHUNK_BYTES, into.length - done);
    const bytesRead = await file.read(into, done, length, position + done);
    if (bytesRead === 0) {
      throw new FormatError('FILE_TRUNCATED', `${path} ends at byte ${position + done}, inside a tensor`, {
        file: path,
        hint: 'the file is truncated, or was changed while it was being read',
      });
    }
    done += bytesRead;
  }
}

/** Fills `into` with a tensor's bytes from byte `at` on. @throws UsageError FILE_*; FormatError FILE_TRUNCATED. */
export async function readBytes(tensor: StoredTensor, into: Uint8Array, at: number): Promise<void> {
  if (!isInFile(tensor)) return tensor.read(into, at);
  await using file = await openFile(tensor.file);
  await readFully(file, into, tensor.byteOffset + at);
}

/** A tensor's bytes in order, `bytes` at a time. @throws as readBytes. */
export async function* chunksOf(tensor: StoredTensor, bytes: number): AsyncGenerator<Uint8Array> {
  await using file = isInFile(tensor) ? await openFile(tensor.file) : undefined;
  for (let at = 0; at < tensor.byteLength; at += bytes) {
    const chunk = new Uint8Array(Math.min(bytes, tensor.byteLength - at));
    if (isInFile(tensor) && file !== undefined) await readFully(file, chunk, tensor.byteOffset + at);
    else await readBytes(tensor, chunk, at);
    yield chunk;
  }
}

/** One array has no more bytes. */
const MAX_ARRAY_BYTES = 2 ** 32 - 1;

function allocate(bytes: number): Uint8Array {
  const failed = (message: string, cause?: unknown) =>
    new DeviceError('OUT_OF_MEMORY', message, { ...(cause === undefined ? {} : { cause }), hint: SMALLER });
  if (bytes > MAX_ARRAY_BYTES) throw failed(`a tensor of ${bytes} bytes: less than 4 GiB are read as one`);
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw failed(`there is no memory for a tensor of ${bytes} bytes`, cause);
  }
}

const SMALLER = 'divide it: a request into several, a trace into parts';

/**
 * Reads a stored tensor into host memory.
 * @throws as readBytes; DeviceError OUT_OF_MEMORY, also for 4 GiB and more.
 */
export async function readTensor(tensor: StoredTensor): Promise<HostTensor> {
  const bytes = allocate(tensor.byteLength);
  await readBytes(tensor, bytes, 0);
  return { dtype: tensor.dtype, shape: tensor.shape, data: viewElements(tensor.dtype, bytes) };
}
