/** Why a saved value as a whole holds no tensors that can be read. */
import { FormatError } from '../../errors.ts';
import { attributeOf, dictOf, InertObject, PickledGlobal, shown } from './pickled-value.ts';
import { NUMPY_ARRAY } from './python-globals.ts';

/** What to save in place of numpy arrays. */
export const SAVE_ARRAYS =
  'save tensors: torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)';

const HINT =
  'Hotrow reads tensors, containers and numbers only; nothing in the file was executed. Save the state dict by itself: torch.save(model.state_dict(), path)';

/** The names under which a dict holds numpy arrays. */
export function numpyArraysIn(value: unknown): string[] {
  const names: string[] = [];
  for (const [name, item] of dictOf(value) ?? [])
    if (typeof name === 'string' && item instanceof InertObject && item.type === NUMPY_ARRAY)
      names.push(name);
  return names;
}

/** The error for a saved value that is an object of Python, not data; undefined for anything else. */
export function objectRefused(file: string, value: unknown): FormatError | undefined {
  const isObject = value instanceof InertObject || value instanceof PickledGlobal;
  if (!isObject || dictOf(value) !== undefined) return undefined;
  const type = shown(value.type);
  const isModule = value instanceof InertObject && attributeOf(value.state, '_modules') !== undefined;
  const message = isModule
    ? `${file} holds a whole model of class ${type}, not its state dict`
    : `${file} wants to import ${type}, which is refused`;
  return new FormatError('PICKLE_FORBIDDEN', message, { file, value: type, hint: HINT });
}

/** Why a value that should be a state dict holds no tensors; undefined where nothing particular is known. */
export function noTensors(file: string, value: unknown): FormatError | undefined {
  const [array] = numpyArraysIn(value);
  if (array === undefined) return objectRefused(file, value);
  return new FormatError(
    'TORCH_FORMAT_UNSUPPORTED',
    `${file} holds numpy arrays where tensors should be, such as ${shown(array)}`,
    { file, tensor: array, hint: SAVE_ARRAYS },
  );
}
