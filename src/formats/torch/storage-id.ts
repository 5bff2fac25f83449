/** Persistent ids, which stand in a pickle for the storages beside it. */
import { InertObject, type PickledValue } from './pickled-value.ts';
import type { Problem, Storage } from './saved-tensor.ts';
import { type ElementType, StorageClass } from './torch-dtypes.ts';
import { META } from './torch-kinds.ts';

/** A storage as its id describes it. */
export interface SavedStorage {
  readonly key: string;
  /** Undefined for plain bytes. */
  readonly element: ElementType | undefined;
  readonly elements: number;
}

/** Keys are numbers, or addresses and process numbers. Each tensor looks its storage up by it. */
const MAX_KEY = 256;

const isCount = (value: PickledValue | undefined): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;

/** Finds a storage in the file when it is asked for. */
export type Locate = () => number | Problem;

/**
 * The storage of an id ('storage', class, key, location, elements, view); `register` is told of it at once, and where it lies
 * is asked for when a tensor on it is. Old files also give classes of modules ids, ('module', class, file, source). Any other
 * id leaves a placeholder.
 */
export function readStorageId(id: PickledValue, register: (storage: SavedStorage) => Locate): PickledValue {
  const parts: readonly PickledValue[] = Array.isArray(id) ? id : [id];
  const [kind, type, key, location, elements, view] = parts;
  if (kind === 'module' && type !== undefined) return type;
  const named = typeof key === 'string' && key.length <= MAX_KEY;
  if (kind !== 'storage' || !(type instanceof StorageClass) || !named || !isCount(elements))
    return new InertObject('persistent id', parts);
  const { element } = type;
  const locate = register({ key, element, elements });
  const storage: Storage = { element, elements, locate: location === 'meta' ? () => META : locate };
  return view === null || view === undefined ? storage : viewOf(storage, view);
}

/** The part of a storage that `(key, first element, elements)` names. */
function viewOf({ element, elements: all, locate }: Storage, view: PickledValue): PickledValue {
  const [, offset, elements] = Array.isArray(view) ? view : [];
  if (!isCount(offset) || !isCount(elements) || offset + elements > all)
    return new InertObject('persistent id', [view]);
  return {
    element,
    elements,
    locate: () => {
      const place = locate();
      return typeof place === 'number' ? place + offset * (element?.bytes ?? 1) : place;
    },
  } satisfies Storage;
}
