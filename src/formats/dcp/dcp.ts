/**
 * Checkpoints of torch.distributed.checkpoint: a folder with `.metadata` and, mostly, a `.distcp` file per process, in which
 * the chunks of tensors stand as archives of torch.save one after the other.
 */

import { realpath } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { throwIfAborted } from '../../checks/abort.ts';
import { FormatError, HotrowError, UsageError } from '../../errors.ts';
import { openFile, statFile } from '../../input-file.ts';
import { readFully } from '../../stored-tensor.ts';
import { elementCount, type StoredTensor, type StoredTensors } from '../../tensor.ts';
import { BlockCache } from '../block-cache.ts';
import { isSavedTensor } from '../torch/torch-file.ts';
import { readTorchZip } from '../torch/torch-zip.ts';
import { withinFolder } from '../within-folder.ts';
import { assemble } from './assemble.ts';
import { type DividedTensor, type Item, invalidDcp, readDcpMetadata } from './metadata.ts';

export const DCP_METADATA = '.metadata';

/** 100,000 chunks need about 20 MB. */
const MAX_METADATA_BYTES = 256 << 20;

/** Archives whose heads are read side by side. */
const AT_ONCE = 32;

export interface DcpCheckpoint {
  /** By their names in the checkpoint, in the order of the state dict that was saved; an optimizer's are left out. */
  readonly tensors: StoredTensors;
  /** By name: the keys of the dicts that a tensor was saved in, then its own. */
  readonly keys: ReadonlyMap<string, readonly string[]>;
}

/**
 * Reads what torch.distributed.checkpoint saved. A tensor in one chunk is mapped where it lies; one in several is put
 * together while it is read. No tensor is read yet, nothing in the files is executed, and what is left out is not opened.
 * `file` is the folder's `.metadata`.
 * @throws UsageError FILE_*; FormatError DCP_INVALID, FILE_TRUNCATED, TORCH_*, PICKLE_*, naming the tensor and the file; AbortError,
 * between tensors.
 */
export async function readDcp(file: string, signal?: AbortSignal): Promise<DcpCheckpoint> {
  const bytes = await readMetadata(file);
  const divided = readDcpMetadata(file, bytes);
  const files = await findFiles(file, divided);
  checkItems(file, divided, files);
  const cache = new BlockCache();
  const tensors = new Map<string, StoredTensor>();
  for (let first = 0; first < divided.length; first += AT_ONCE) {
    throwIfAborted(signal, 'reading the checkpoint');
    const some = divided.slice(first, first + AT_ONCE);
    const stored = await Promise.all(
      some.map(async (tensor) => [tensor.name, await readDivided(tensor, files, cache)] as const),
    );
    for (const [name, tensor] of stored) tensors.set(name, tensor);
  }
  return { tensors, keys: new Map(divided.map(({ name, keys }) => [name, keys])) };
}

async function readMetadata(file: string): Promise<Uint8Array> {
  await using opened = await openFile(file);
  const { size } = opened;
  if (size > MAX_METADATA_BYTES) throw invalidDcp(file, `metadata of ${size} bytes is too large`);
  const bytes = new Uint8Array(size);
  await readFully(opened, bytes, 0);
  return bytes;
}

interface FoundFile {
  readonly file: string;
  readonly size: number;
}

/** The files of all chunks, by the paths that the metadata has for them. */
async function findFiles(
  metadataFile: string,
  tensors: readonly DividedTensor[],
): Promise<ReadonlyMap<string, FoundFile>> {
  const folder = dirname(metadataFile);
  const found = new Map<string, FoundFile>();
  for (const { name, chunks } of tensors) {
    for (const { item } of chunks) {
      if (found.has(item.path)) continue;
      const file = withinFolder(item.path);
      if (file === undefined) throw outside(metadataFile, name, item.path);
      found.set(item.path, await findFile(metadataFile, join(folder, file), name, item.path));
    }
  }
  return found;
}

function outside(metadataFile: string, name: string, path: string): FormatError {
  return invalidDcp(
    metadataFile,
    `its file ${JSON.stringify(path.slice(0, 200))} lies outside of the checkpoint's folder`,
    name,
  );
}

async function findFile(
  metadataFile: string,
  file: string,
  tensor: string,
  path: string,
): Promise<FoundFile> {
  const info = await statFile(file).catch((cause: UsageError) => {
    if (cause.code !== 'FILE_NOT_FOUND') throw cause;
    throw new UsageError('FILE_NOT_FOUND', `no such file: ${file}, which holds a chunk of tensor ${tensor}`, {
      file,
      tensor,
      cause,
      hint: 'a checkpoint consists of .metadata and all files that it names: copy the whole folder',
    });
  });
  if (!info.isFile()) throw invalidDcp(metadataFile, `${file} is no file`, tensor);
  const place = relative(await realpath(dirname(metadataFile)), await realpath(file));
  if (withinFolder(place) === undefined) throw outside(metadataFile, tensor, path);
  return { file, size: info.size };
}

/** Chunks lie within their files, and no two of them share bytes. */
function checkItems(
  metadataFile: string,
  tensors: readonly DividedTensor[],
  files: ReadonlyMap<string, FoundFile>,
): void {
  const items = tensors.flatMap(({ name, chunks }) => chunks.map(({ item }) => ({ name, ...item })));
  items.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.offset - b.offset));
  let [path, end, before] = ['', 0, ''];
  for (const item of items) {
    const { file, size } = files.get(item.path) as FoundFile;
    if (item.offset + item.length > size) {
      throw new FormatError(
        'FILE_TRUNCATED',
        `${file} has ${size} bytes, a chunk of tensor ${item.name} ends at byte ${item.offset + item.length}`,
        { file, tensor: item.name },
      );
    }
    if (item.path === path && item.offset < end)
      throw invalidDcp(metadataFile, `a chunk overlaps one of tensor ${before} in ${item.path}`, item.name);
    [path, end, before] = [item.path, item.offset + item.length, item.name];
  }
}

async function readDivided(
  { name, dtype, shape, chunks }: DividedTensor,
  files: ReadonlyMap<string, FoundFile>,
  cache: BlockCache,
): Promise<StoredTensor> {
  try {
    const parts = [];
    for (const { box, item } of chunks) {
      const { file, size } = files.get(item.path) as FoundFile;
      const value = await readTorchZip(file, item, cache.file(file, size));
      const tensor = isSavedTensor(value) ? value.stored(name) : undefined;
      parts.push({ box, tensor: checked(file, item, tensor, { dtype, shape: box.sizes }) });
    }
    const [first] = parts;
    const whole = first !== undefined && elementCount(first.box.sizes) === elementCount(shape);
    return whole ? first.tensor : assemble(dtype, shape, parts);
  } catch (error) {
    throw error instanceof HotrowError ? error.ofTensor(name) : error;
  }
}

/** The tensor of an archive, which must be as the metadata says. */
function checked(
  file: string,
  { offset }: Item,
  tensor: StoredTensor | undefined,
  { dtype, shape }: Pick<StoredTensor, 'dtype' | 'shape'>,
): StoredTensor {
  const is = tensor === undefined ? 'no tensor' : `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  const expected = `${dtype} [${shape.join(', ')}]`;
  if (tensor !== undefined && is === expected) return tensor;
  throw new FormatError(
    'DCP_INVALID',
    `${file}: a chunk at byte ${offset} is ${is}, .metadata says ${expected}`,
    { file },
  );
}
