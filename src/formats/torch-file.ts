/** Files of torch.save, in either format; and what kind of file a file is. */
import { open } from 'node:fs/promises';
import { FormatError, fileError } from '../errors.ts';
import type { PickledValue } from './pickled-value.ts';
import { readTorchLegacy } from './torch-legacy.ts';
import { objectRefused } from './torch-refusals.ts';
import { readTorchZip } from './torch-zip.ts';

export { dictOf } from './pickled-value.ts';
export { isSavedTensor, SavedTensor } from './saved-tensor.ts';
export { noTensors } from './torch-refusals.ts';

export type FileFormat = 'safetensors' | 'torch' | 'gzip' | 'unknown';

/** The first bytes of a file, enough for every magic (tar's stands at byte 257). @throws UsageError FILE_*. */
async function readHead(file: string): Promise<Buffer> {
  const handle = await open(file).catch((cause) => {
    throw fileError(file, cause);
  });
  try {
    const head = Buffer.alloc(512);
    const { bytesRead } = await handle.read(head, 0, head.length, 0).catch((cause) => {
      throw fileError(file, cause);
    });
    return head.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

const isZip = (head: Buffer) => head.length >= 4 && head.readUInt32LE(0) === 0x04034b50;
const isPickle = (head: Buffer) => head[0] === 0x80 && (head[1] as number) <= 5;

/** A header's length below 4 GiB, then its JSON; lengths that begin as a pickle does are told from one by their zeros. */
const isSafetensors = (head: Buffer) => head.length > 8 && head.readUInt32LE(4) === 0 && head[8] === 0x7b;

/** Tells a file's format by its first bytes. @throws UsageError FILE_*. */
export async function detectFormat(file: string): Promise<FileFormat> {
  const head = await readHead(file);
  if (isSafetensors(head)) return 'safetensors';
  if (isZip(head) || isPickle(head)) return 'torch';
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  return 'unknown';
}

/**
 * Reads what torch.save wrote: tuples and lists as arrays, dicts as Maps, tensors as SavedTensors, which say where they lie
 * when they are asked. All that only Python could make is an InertObject; nothing in the file is executed.
 * @throws UsageError FILE_*; FormatError PICKLE_INVALID, TORCH_FILE_INVALID, TORCH_FORMAT_UNSUPPORTED; PICKLE_FORBIDDEN
 * when the saved value as a whole is such an object.
 */
export async function readTorchFile(file: string): Promise<PickledValue> {
  const value = await readSaved(file);
  const refused = objectRefused(file, value);
  if (refused !== undefined) throw refused;
  return value;
}

async function readSaved(file: string): Promise<PickledValue> {
  const head = await readHead(file);
  if (isZip(head)) return readTorchZip(file);
  if (isPickle(head)) return readTorchLegacy(file);
  throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} ${describe(head)}`, {
    file,
    hint: 'a checkpoint is a .pt that torch.save wrote, or .safetensors',
  });
}

/**
 * What stands in the place of a file that did not come through: nothing, a Git LFS pointer, a web page; undefined when
 * it is no such thing. @throws UsageError FILE_*.
 */
export async function describeMistake(file: string): Promise<string | undefined> {
  return mistake(await readHead(file));
}

function mistake(head: Buffer): string | undefined {
  const text = head.toString('latin1');
  if (head.length === 0) return 'is empty';
  if (text.startsWith('version https://git-lfs'))
    return 'is a Git LFS pointer: fetch the file itself with git lfs pull';
  if (/^\s*<(!doctype|html)/i.test(text)) return 'is a web page, not a checkpoint';
  return undefined;
}

/** What a file that is no checkpoint seems to be. */
function describe(head: Buffer): string {
  const mistaken = mistake(head);
  if (mistaken !== undefined) return mistaken;
  if (head.toString('latin1', 257, 262) === 'ustar')
    return "is a tar file, PyTorch's format before 0.1.10: load it with an old PyTorch and save it again";
  return 'is neither a zip nor a pickle';
}
