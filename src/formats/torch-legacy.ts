/**
 * What torch.save wrote before PyTorch 1.6: a magic number, a protocol version, system information, the object and the
 * storages' keys, each a pickle; then per storage its number of elements (int64) and its bytes.
 */
import { open } from 'node:fs/promises';
import { FormatError, fileError } from '../errors.ts';
import { elementBytes } from '../tensor.ts';
import { unpickle } from './pickle.ts';
import type { PickledValue } from './pickled-value.ts';
import { resolveTensors, type Storage, StorageType, torchGlobal } from './torch-globals.ts';

export const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

/** The pickles stand at the beginning; the storages after them may have any size. */
const MAX_PICKLES_BYTES = 64 << 20;

/** Reads the pickles; tensors are left where they lie. @throws FormatError. */
export async function readTorchLegacy(file: string): Promise<PickledValue> {
  const handle = await open(file).catch((cause) => {
    throw fileError(file, cause);
  });
  try {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(Math.min(size, MAX_PICKLES_BYTES));
    await handle.read(bytes, 0, bytes.length, 0);
    const invalid = (message: string): FormatError =>
      new FormatError('TORCH_FILE_INVALID', `${file}: ${message}`, { file });

    const none = () => undefined;
    const magic = unpickle(bytes, { file, global: none });
    if (magic.value !== LEGACY_MAGIC) {
      throw new FormatError(
        'TORCH_FORMAT_UNSUPPORTED',
        `${file} is a pickle, but none that torch.save wrote`,
        {
          file,
          hint: 'save it with torch.save(model.state_dict(), path)',
        },
      );
    }
    const protocol = unpickle(bytes, { file, offset: magic.end, global: none });
    if (protocol.value !== PROTOCOL) throw invalid(`its protocol is not ${PROTOCOL}`);
    const system = unpickle(bytes, { file, offset: protocol.end, global: none });
    if (system.value instanceof Map && system.value.get('little_endian') === false) {
      throw new FormatError('TORCH_FORMAT_UNSUPPORTED', `${file} was written on a big-endian machine`, {
        file,
      });
    }

    const places = new Map<string, number>();
    const storages = new Map<string, LegacyStorage>();
    const object = unpickle(bytes, {
      file,
      offset: system.end,
      global: torchGlobal(file),
      persistentLoad: (id) => legacyStorage(id, storages, places, invalid),
    });
    const keys = unpickle(bytes, { file, offset: object.end, global: none });
    if (!Array.isArray(keys.value)) throw invalid('the list of storages is missing');

    let at = keys.end;
    for (const key of keys.value) {
      if (typeof key !== 'string') throw invalid('a storage has no key');
      const storage = storages.get(key);
      if (storage === undefined) throw invalid(`storage ${key} belongs to no tensor`);
      const prefix = new BigInt64Array(1);
      const { bytesRead } = await handle.read(new Uint8Array(prefix.buffer), 0, 8, at);
      const end = at + 8 + storage.elements * elementBytes(storage.dtype);
      if (bytesRead < 8 || end > size) throw invalid(`it ends inside storage ${key}: the file is truncated`);
      if (prefix[0] !== BigInt(storage.elements))
        throw invalid(`storage ${key} has ${prefix[0]} elements, the pickle says ${storage.elements}`);
      places.set(key, at + 8);
      at = end;
    }
    const missing = [...storages.keys()].find((key) => !places.has(key));
    if (missing !== undefined) throw invalid(`storage ${missing} is missing`);
    return resolveTensors(object.value);
  } finally {
    await handle.close();
  }
}

interface LegacyStorage extends Storage {
  readonly key: string;
}

/** The storage, or the view of one, of a persistent id ('storage', type, key, location, elements, view). */
function legacyStorage(
  id: PickledValue,
  storages: Map<string, LegacyStorage>,
  places: ReadonlyMap<string, number>,
  invalid: (message: string) => FormatError,
): Storage & object {
  const [kind, type, key, , elements, view] = Array.isArray(id) ? id : [];
  if (kind !== 'storage' || !(type instanceof StorageType) || typeof key !== 'string' || !isCount(elements)) {
    throw invalid('a persistent id that names no storage');
  }
  const { dtype } = type;
  const root = storages.get(key) ?? { key, dtype, elements, byteOffset: () => places.get(key) as number };
  storages.set(key, root);
  if (root.dtype !== dtype || root.elements !== elements)
    throw invalid(`storage ${key} is described in two ways`);
  if (view === null || view === undefined) return root;
  const [, offset, viewElements] = Array.isArray(view) ? view : [];
  if (!isCount(offset) || !isCount(viewElements) || offset + viewElements > elements)
    throw invalid(`a view reaches past storage ${key}`);
  return {
    dtype,
    elements: viewElements,
    byteOffset: () => root.byteOffset() + offset * elementBytes(dtype),
  };
}

const isCount = (value: PickledValue | undefined): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;
