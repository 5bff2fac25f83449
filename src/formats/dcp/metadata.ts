/**
 * `.metadata` of torch.distributed.checkpoint (PyTorch 1.13 and newer): a pickle of a `Metadata`, which says of every
 * tensor its dtype, its size, its chunks, and where each chunk's bytes are. Nothing in it is executed.
 */
import { at } from '../../at.ts';
import { FormatError } from '../../errors.ts';
import { type DType, elementBytes, elementCount } from '../../tensor.ts';
import { unpickle } from '../torch/pickle.ts';
import {
  attribute,
  dictOf,
  InertObject,
  PickledGlobal,
  type PickledValue,
  shown,
} from '../torch/pickled-value.ts';
import { elementType, typeGlobal } from '../torch/torch-dtypes.ts';
import { type Box, tilingFault } from './box.ts';

/** Where a chunk was saved: an archive of torch.save at `offset` of a file of the folder, `length` bytes. */
export interface Item {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

export interface Chunk {
  readonly box: Box;
  readonly item: Item;
}

export interface DividedTensor {
  /** Its name in the checkpoint, the keys of all dicts around it joined by dots. */
  readonly name: string;
  /** The keys of the dicts around it, then its own. */
  readonly keys: readonly string[];
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** They fill the shape exactly once; none is empty. */
  readonly chunks: readonly Chunk[];
}

const MAX_RANK = 64;

/** Longer than any parameter's name. A pickle may hold a long text once and use it many times. */
const MAX_NAME = 1024;

/** Keys of one tensor: dicts within each other. */
const MAX_KEYS = 64;

/** Of one tensor: more than any job has processes. */
const MAX_CHUNKS = 1 << 14;

/** Of all tensors: one list of chunks may stand in a pickle many times. */
const MAX_CHUNKS_IN_ALL = 1 << 20;

/** A list of extents, as the pickle has it. */
const SIZE = new PickledGlobal('torch.Size', ([extents]) => (Array.isArray(extents) ? extents : undefined));

/** True for an object of PyTorch's class of that name; the module it is in changed over the versions. */
const isA = (value: PickledValue | undefined, className: string): value is InertObject =>
  value instanceof InertObject && value.type.startsWith('torch.') && value.type.endsWith(`.${className}`);

/** An error about the checkpoint's metadata, naming the tensor. */
export function invalidDcp(file: string, message: string, tensor?: string): FormatError {
  const where = tensor === undefined ? file : `${file}, tensor ${shown(tensor)}`;
  return new FormatError('DCP_INVALID', `${where}: ${message}`, {
    file,
    ...(tensor === undefined ? {} : { tensor }),
  });
}

/**
 * Reads `.metadata`: the tensors in the order of the state dict that was saved, without those of an optimizer. What is no
 * tensor is left out as well.
 * @throws FormatError DCP_INVALID, PICKLE_INVALID, PICKLE_FORBIDDEN, TORCH_FORMAT_UNSUPPORTED, naming file and tensor.
 */
export function readDcpMetadata(file: string, bytes: Uint8Array): DividedTensor[] {
  const { value } = unpickle(bytes, {
    file,
    global: (module, name) => (`${module}.${name}` === SIZE.type ? SIZE : typeGlobal(module, name)),
  });
  const entries = dictOf(attribute(value, 'state_dict_metadata'));
  const places = dictOf(attribute(value, 'storage_data'));
  if (!isA(value, 'Metadata') || entries === undefined || places === undefined)
    throw invalidDcp(file, 'it does not describe a checkpoint of torch.distributed.checkpoint');
  const keysByName = dictOf(attribute(value, 'planner_data')) ?? new Map<PickledValue, PickledValue>();
  const items = new Items(file, places);
  const tensors: DividedTensor[] = [];
  let chunks = 0;
  // The entries come process by process; the planner's names stand as they did in the state dict.
  const names = [...keysByName.keys()].filter((name) => entries.has(name));
  for (const name of new Set([...names, ...entries.keys()])) {
    if (!isName(name)) throw invalidDcp(file, 'a tensor has a name that is no text, or is too long');
    const entry = entries.get(name);
    const keys = keysOf(keysByName.get(name)) ?? [name];
    if (isA(entry, 'BytesStorageMetadata') || isOptimizer(keys)) continue;
    if (!isA(entry, 'TensorStorageMetadata')) throw invalidDcp(file, 'it is described as no tensor', name);
    const described = attribute(entry, 'chunks');
    if (!Array.isArray(described) || described.length > MAX_CHUNKS)
      throw invalidDcp(file, `it has no list of at most ${MAX_CHUNKS} chunks`, name);
    chunks += described.length;
    if (chunks > MAX_CHUNKS_IN_ALL)
      throw invalidDcp(file, `it describes more than ${MAX_CHUNKS_IN_ALL} chunks`);
    tensors.push({ name, keys, ...readTensor(file, name, entry, described, items) });
  }
  return tensors;
}

const isName = (value: unknown): value is string => typeof value === 'string' && value.length <= MAX_NAME;

/** The keys that planner_data keeps of a name: of dicts, and of lists by number. */
function keysOf(value: PickledValue | undefined): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_KEYS) return undefined;
  const isKey = (key: unknown) => isName(key) || Number.isSafeInteger(key);
  return value.every(isKey) ? value.map(String) : undefined;
}

/** What lies in a dict that is named for an optimizer, or by the name's first part where dicts are not kept, is no parameter. */
function isOptimizer(keys: readonly string[]): boolean {
  const around = keys.length > 1 ? keys.slice(0, -1) : at(keys, 0).split('.').slice(0, -1).slice(0, 1);
  return around.some((key) => /^optim/i.test(key));
}

function readTensor(
  file: string,
  name: string,
  entry: PickledValue,
  described: readonly PickledValue[],
  items: Items,
): Pick<DividedTensor, 'dtype' | 'shape' | 'chunks'> {
  const dtype = readDtype(file, name, attribute(entry, 'properties'));
  const shape = extents(attribute(entry, 'size'));
  if (shape === undefined || !Number.isSafeInteger(elementCount(shape) * elementBytes(dtype)))
    throw invalidDcp(file, 'its size is no list of extents, or is too large', name);
  const boxes = described.map((chunk): Box => {
    const [offsets, sizes] = [extents(attribute(chunk, 'offsets')), extents(attribute(chunk, 'sizes'))];
    if (offsets === undefined || sizes === undefined)
      throw invalidDcp(file, 'a chunk has no offsets and sizes', name);
    return { offsets, sizes };
  });
  const fault = tilingFault(shape, boxes);
  if (fault !== undefined) throw invalidDcp(file, fault, name);
  const filled = boxes.filter(({ sizes }) => !sizes.includes(0));
  return { dtype, shape, chunks: filled.map((box) => ({ box, item: items.find(name, dtype, box) })) };
}

function readDtype(file: string, name: string, properties: PickledValue | undefined): DType {
  // __getstate__ gives (dtype, layout, requires_grad, memory format, pin_memory).
  const state = isA(properties, 'TensorProperties') ? properties.state : undefined;
  const [type, layout] = Array.isArray(state) ? state : [];
  if (!isA(layout, '_get_layout') || layout.args[0] !== 'torch.strided') {
    throw new FormatError(
      'TORCH_FORMAT_UNSUPPORTED',
      `${file}, tensor ${shown(name)}: its layout is not strided`,
      {
        file,
        tensor: name,
        hint: 'save it with tensor.to_dense()',
      },
    );
  }
  const dtype = elementType(type)?.dtype;
  if (dtype !== undefined) return dtype;
  const what = type instanceof PickledGlobal ? type.type : typeof type === 'string' ? type : 'that is none';
  throw new FormatError(
    'TORCH_FORMAT_UNSUPPORTED',
    `${file}, tensor ${shown(name)}: dtype ${shown(what)} is not read`,
    {
      file,
      tensor: name,
      hint: 'save it with tensor.float()',
    },
  );
}

const isCount = (value: PickledValue | undefined): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;

/** A torch.Size, or a list that stands for one; the product is the caller's to bound. */
function extents(value: PickledValue | undefined): readonly number[] | undefined {
  return Array.isArray(value) && value.length <= MAX_RANK && value.every(isCount) ? value : undefined;
}

/** Where chunks were saved: storage_data, by name and offsets. */
class Items {
  readonly #file: string;
  readonly #items = new Map<string, PickledValue>();

  constructor(file: string, places: ReadonlyMap<PickledValue, PickledValue>) {
    this.#file = file;
    for (const [index, info] of places) {
      const [name, offsets] = [attribute(index, 'fqn'), extents(attribute(index, 'offset'))];
      if (!isA(index, 'MetadataIndex') || !isName(name))
        throw invalidDcp(file, 'storage_data has a key that names no tensor');
      // What was saved without offsets is no tensor.
      if (offsets === undefined) continue;
      const key = this.#key(name, offsets);
      if (this.#items.has(key))
        throw invalidDcp(file, `storage_data has its chunk at [${offsets}] twice`, name);
      this.#items.set(key, info);
    }
  }

  #key(name: string, offsets: readonly number[]): string {
    return `${offsets.join(',')} ${name}`;
  }

  /** @throws FormatError DCP_INVALID, TORCH_FORMAT_UNSUPPORTED. */
  find(name: string, dtype: DType, { offsets, sizes }: Box): Item {
    const file = this.#file;
    const info = this.#items.get(this.#key(name, offsets));
    const at = `its chunk at [${offsets.join(', ')}]`;
    if (info === undefined) throw invalidDcp(file, `storage_data does not say where ${at} is`, name);
    const [path, offset, length] = ['relative_path', 'offset', 'length'].map((key) => attribute(info, key));
    const isPlace = isCount(offset) && isCount(length) && isCount(offset + length);
    if (!isA(info, '_StorageInfo') || typeof path !== 'string' || !isPlace)
      throw invalidDcp(file, `storage_data has no file, offset and length for ${at}`, name);
    const transforms = attribute(info, 'transform_descriptors');
    if (Array.isArray(transforms) && transforms.length > 0) {
      throw new FormatError(
        'TORCH_FORMAT_UNSUPPORTED',
        `${file}, tensor ${shown(name)}: ${at} was saved through an extension${typeof transforms[0] === 'string' ? `, ${transforms[0].slice(0, 100)}` : ''}`,
        { file, tensor: name, hint: 'tensors are mapped where they lie: save it without extensions' },
      );
    }
    const bytes = elementCount(sizes) * elementBytes(dtype);
    if (bytes > length)
      throw invalidDcp(
        file,
        `${at} of [${sizes.join(', ')}] needs ${bytes} bytes, storage_data gives it ${length}`,
        name,
      );
    return { path, offset, length };
  }
}
