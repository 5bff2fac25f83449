/**
 * What torch.save wrote before PyTorch 1.6: a magic number, a protocol version, system information, the object and the
 * storages' keys, each a pickle; then per storage its number of elements (int64) and its bytes.
 */
import { FormatError } from '../../errors.ts';
import { type InputFile, openFile } from '../../input-file.ts';
import { readFully } from '../../stored-tensor.ts';
import { unpickle } from './pickle.ts';
import { InertObject, type PickledValue, shown } from './pickled-value.ts';
import { damaged, type Problem } from './saved-tensor.ts';
import { readStorageId, type SavedStorage } from './storage-id.ts';
import { torchGlobal } from './torch-globals.ts';
import { numpyArraysIn, objectRefused, SAVE_ARRAYS } from './torch-refusals.ts';

const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

/** The pickles stand at the beginning; the storages after them may have any size. */
const MAX_PICKLES_BYTES = 64 << 20;

/**
 * Reads the pickles; tensors are left where they lie.
 * @throws UsageError FILE_*; FormatError.
 */
export async function readTorchLegacy(file: string): Promise<PickledValue> {
  await using opened = await openFile(file);
  const { size } = opened;
  const bytes = new Uint8Array(Math.min(size, MAX_PICKLES_BYTES));
  await readFully(opened, bytes, 0);
  const invalid = (message: string): FormatError =>
    new FormatError('TORCH_FILE_INVALID', `${file}: ${message}`, { file });
  const read = (offset: number) => unpickle(bytes, { file, offset, global: torchGlobal(file) });

  const magic = readMagic(file, bytes, bytes.length < size);
  const protocol = read(magic.end);
  if (protocol.value !== PROTOCOL) throw invalid(`its protocol is not ${PROTOCOL}`);
  const system = read(protocol.end);
  if (system.value instanceof Map && system.value.get('little_endian') === false) {
    throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} was written on a big-endian machine`, {
      file,
    });
  }

  const storages = new Map<string, SavedStorage>();
  const places = new Map<string, number | Problem>();
  const object = unpickle(bytes, {
    file,
    offset: system.end,
    global: torchGlobal(file),
    persistentLoad: (id) =>
      readStorageId(id, (storage) => {
        const first = storages.get(storage.key) ?? storage;
        storages.set(storage.key, first);
        const isFirst = first.element === storage.element && first.elements === storage.elements;
        if (!isFirst)
          return () => damaged(`lies in storage ${shown(storage.key)}, which is described in two ways`);
        return () =>
          places.get(storage.key) ?? damaged(`lies in storage ${shown(storage.key)}, which is missing`);
      }),
  });
  const keys = read(object.end);
  if (!Array.isArray(keys.value)) throw invalid('the list of storages is missing');
  await findStorages(opened, size, keys.end, keys.value, storages, places);
  return object.value;
}

/** The magic number, or why the file holds another pickle. */
function readMagic(file: string, bytes: Uint8Array, isCut: boolean): { end: number } {
  const notTorch = (hint: string) =>
    new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} is a pickle, but none that torch.save wrote`, {
      file,
      hint,
    });
  const byTorch = 'save it with torch.save(model.state_dict(), path)';
  let magic: { value: PickledValue; end: number };
  try {
    magic = unpickle(bytes, {
      file,
      global: torchGlobal(file),
      persistentLoad: (id) => new InertObject('persistent id', [id]),
    });
  } catch (error) {
    // A pickle with large arrays in it goes on past what is read of it.
    if (!isCut) throw error;
    throw notTorch(Buffer.from(bytes.subarray(0, 4096)).includes('numpy') ? SAVE_ARRAYS : byTorch);
  }
  if (magic.value === LEGACY_MAGIC) return magic;
  throw (
    objectRefused(file, magic.value) ??
    notTorch(numpyArraysIn(magic.value).length > 0 ? SAVE_ARRAYS : byTorch)
  );
}

/**
 * Sets where the storages `keys` lie, which follow each other from byte `first` on. After one that is not as the pickle says,
 * nobody knows where the others are.
 */
async function findStorages(
  file: InputFile,
  size: number,
  first: number,
  keys: readonly PickledValue[],
  storages: ReadonlyMap<string, SavedStorage>,
  places: Map<string, number | Problem>,
): Promise<void> {
  const prefix = Buffer.alloc(8);
  let broken: Problem | undefined;
  let at = first;
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined;
    if (storage === undefined) {
      broken ??= damaged('lies after a storage that belongs to no tensor');
      continue;
    }
    const name = shown(storage.key);
    const begin = at + prefix.length;
    at = begin + storage.elements * (storage.element?.bytes ?? 1);
    if (broken === undefined && at > size)
      broken = damaged(`lies in or after storage ${name}, where the file ends: it is truncated`);
    if (broken === undefined) {
      await file.read(prefix, 0, prefix.length, begin - prefix.length);
      const elements = prefix.readBigInt64LE();
      if (elements !== BigInt(storage.elements)) {
        const message = `lies in or after storage ${name}, which has ${elements} elements, the pickle says ${storage.elements}`;
        broken = damaged(message);
      }
    }
    places.set(storage.key, broken ?? begin);
  }
}
