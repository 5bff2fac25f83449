/** What torch.save writes since PyTorch 1.6: a zip with `data.pkl` and one uncompressed entry per storage. */
import { FormatError } from '../../errors.ts';
import { openFile } from '../../input-file.ts';
import { unpickle } from './pickle.ts';
import { type PickledValue, shown } from './pickled-value.ts';
import { damaged, type Problem, unsupported } from './saved-tensor.ts';
import { readStorageId, type SavedStorage } from './storage-id.ts';
import { torchGlobal } from './torch-globals.ts';
import { SAVE_ARRAYS } from './torch-refusals.ts';
import {
  type ByteRange,
  type RandomAccess,
  readZipDirectory,
  readZipEntry,
  type ZipEntry,
} from './zip-directory.ts';

/** A pickle names tensors and holds none: real ones have kilobytes. */
const MAX_PICKLE_BYTES = 64 << 20;

/**
 * Reads the pickle of an archive that is a file, or that lies in `range` of one, as the items of
 * torch.distributed.checkpoint do. Tensors are left where they lie: `byteOffset` is the file's, not the range's.
 * `opened` stands for the file where many archives of one are read; it stays open.
 * @throws UsageError FILE_*; FormatError.
 */
export async function readTorchZip(
  file: string,
  range?: ByteRange,
  opened?: RandomAccess,
): Promise<PickledValue> {
  const invalid = (message: string, hint?: string): FormatError =>
    new FormatError('TORCH_FILE_INVALID', `${file}: ${message}`, {
      file,
      ...(hint === undefined ? {} : { hint }),
    });
  await using own = opened === undefined ? await openFile(file) : undefined;
  const access = (opened ?? own) as RandomAccess;
  const { size } = access;
  const { offset, length } = range ?? { offset: 0, length: size };
  if (offset + length > size)
    throw invalid(`it has ${size} bytes, so none of the archive at [${offset}, ${offset + length})`);
  const members = await readZipDirectory(access, { offset, length }, invalid);
  const pickle = [...members.values()].find(({ name }) => name === 'data.pkl' || name.endsWith('/data.pkl'));
  if (pickle === undefined) throw notByTorch(file, [...members.keys()]);
  const prefix = pickle.name.slice(0, -'data.pkl'.length);
  if (
    members.has(`${prefix}constants.pkl`) ||
    [...members.keys()].some((name) => name.startsWith(`${prefix}code/`))
  ) {
    throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} is a TorchScript archive, which holds code`, {
      file,
      hint: 'save the parameters alone: torch.save(model.state_dict(), path)',
    });
  }
  const byteOrder = members.get(`${prefix}byteorder`);
  if (
    byteOrder !== undefined &&
    (await readZipEntry(access, byteOrder, 16, invalid)).toString() !== 'little'
  ) {
    throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} was written on a big-endian machine`, {
      file,
    });
  }
  const bytes = await readZipEntry(access, pickle, MAX_PICKLE_BYTES, invalid);
  return unpickle(bytes, {
    file,
    global: torchGlobal(file),
    persistentLoad: (id) =>
      readStorageId(id, (storage) => () => locate(storage, members.get(`${prefix}data/${storage.key}`))),
  }).value;
}

/** A zip without a pickle. */
function notByTorch(file: string, names: readonly string[]): FormatError {
  const isNpz = names.length > 0 && names.every((name) => name.endsWith('.npy'));
  const what = isNpz ? "is numpy's .npz" : 'is a zip without data.pkl';
  return new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} ${what}: torch.save did not write it`, {
    file,
    ...(isNpz ? { hint: SAVE_ARRAYS } : {}),
  });
}

/** Byte of the file where a storage begins, as its entry says. */
function locate({ key, element, elements }: SavedStorage, entry: ZipEntry | undefined): number | Problem {
  if (entry === undefined) return damaged(`lies in storage ${shown(key)}, which is missing`);
  if (entry.compressionMethod !== 0)
    return unsupported(
      `lies in storage ${key}, which is compressed and so cannot be mapped`,
      'torch.save leaves storages uncompressed; save the checkpoint again',
    );
  const bytes = elements * (element?.bytes ?? 1);
  if (entry.uncompressedSize !== bytes) {
    const needed = `its ${elements} elements need ${bytes}`;
    return damaged(`lies in storage ${key} of ${entry.uncompressedSize} bytes, ${needed}`);
  }
  return entry.byteOffset;
}
