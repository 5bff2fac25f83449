/** What torch.save writes since PyTorch 1.6: a zip with `data.pkl` and one uncompressed entry a storage. */
import { FormatError } from '../errors.ts';
import { openFile } from '../stored-tensor.ts';
import { elementBytes } from '../tensor.ts';
import { unpickle } from './pickle.ts';
import type { PickledValue } from './pickled-value.ts';
import { resolveTensors, type Storage, StorageType, torchGlobal } from './torch-globals.ts';
import {
  type ByteRange,
  type Invalid,
  type OpenedFile,
  readZipDirectory,
  readZipEntry,
  type ZipEntry,
} from './zip-directory.ts';

/** A pickle names tensors and holds none: real ones have kilobytes. */
const MAX_PICKLE_BYTES = 64 << 20;

/**
 * Reads the pickle of an archive that is a file, or that lies in `range` of one, as the items of
 * torch.distributed.checkpoint do; tensors are left where they lie in the file. `opened` stands for the file
 * where many archives of one are read; it stays open. @throws UsageError FILE_*; FormatError.
 */
export async function readTorchZip(
  file: string,
  range?: ByteRange,
  opened?: OpenedFile,
): Promise<PickledValue> {
  const invalid = (message: string, hint?: string): FormatError =>
    new FormatError('TORCH_FILE_INVALID', `${file}: ${message}`, {
      file,
      ...(hint === undefined ? {} : { hint }),
    });
  const own = opened === undefined ? await openFile(file) : undefined;
  const handle = (opened ?? own) as OpenedFile;
  try {
    const { size } = await handle.stat();
    const { offset, length } = range ?? { offset: 0, length: size };
    if (offset + length > size)
      throw invalid(`it has ${size} bytes, so none of the archive at [${offset}, ${offset + length})`);
    const members = await readZipDirectory(handle, { offset, length }, invalid);
    const pickle = [...members.values()].find(
      ({ name }) => name === 'data.pkl' || name.endsWith('/data.pkl'),
    );
    if (pickle === undefined) throw invalid('the zip holds no data.pkl, it was not written by torch.save');
    const prefix = pickle.name.slice(0, -'data.pkl'.length);
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
      (await readZipEntry(handle, byteOrder, 16, invalid)).toString() !== 'little'
    ) {
      throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} was written on a big-endian machine`, {
        file,
      });
    }
    const { value } = unpickle(await readZipEntry(handle, pickle, MAX_PICKLE_BYTES, invalid), {
      file,
      global: torchGlobal(file),
      persistentLoad: (id) => storage(id, (key) => members.get(`${prefix}data/${key}`), invalid),
    });
    return resolveTensors(value);
  } finally {
    await own?.close();
  }
}

/** The storage of a persistent id ('storage', type, key, location, elements). */
function storage(
  id: PickledValue,
  find: (key: string) => ZipEntry | undefined,
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
  const entry = find(key);
  if (entry === undefined) throw invalid(`storage ${key} is missing`);
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
  return { dtype: type.dtype, elements: elements as number, byteOffset: () => entry.byteOffset };
}
