/**
 * Models in several files: an index, `*.index.json`, whose `weight_map` says which file beside it holds each tensor. Shards
 * are safetensors (`model.safetensors.index.json`) or state dicts of torch.save (`pytorch_model.bin.index.json`).
 */

import { dirname, join } from 'node:path';
import { throwIfAborted } from '../checks/abort.ts';
import { FormatError, namedIn } from '../errors.ts';
import type { StoredTensor, StoredTensors } from '../tensor.ts';
import { expectKind } from './file-kind.ts';
import { readJsonFile } from './json-file.ts';
import { readSafetensors } from './safetensors.ts';
import { tiedNames } from './tied-names.ts';
import { dictOf, isSavedTensor, readTorchFile } from './torch/torch-file.ts';
import { withinFolder } from './within-folder.ts';

/** True for a name that index files have. */
export const isIndex = (path: string): boolean => path.endsWith('.index.json');

interface Shard {
  readonly tensors: StoredTensors;
  readonly format: 'safetensors' | 'torch';
}

export interface ShardedModel extends Shard {
  /** Tensors under further names, which the index's metadata gives (tied-names.ts). */
  readonly tied: StoredTensors;
}

/**
 * Reads the tensors of an index file, in its order; none is read yet.
 * @throws UsageError FILE_*; FormatError JSON_INVALID; SAFETENSORS_INVALID or TORCH_FILE_INVALID, by the shards' format, naming
 * file and tensor; what a shard's reader throws; AbortError, between shards.
 */
export async function readShards(indexFile: string, signal?: AbortSignal): Promise<ShardedModel> {
  const shards = new Map<string, Shard>();
  const tensors = new Map<string, StoredTensor>();
  const { weightMap, metadata } = await readIndex(indexFile);
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string') throw invalid(indexFile, 'its shard is not a file name', name);
    const inside = withinFolder(shard);
    if (inside === undefined) {
      throw invalid(
        indexFile,
        `its shard ${shard} lies outside the model's folder`,
        name,
        'shards stand beside the index file',
      );
    }
    throwIfAborted(signal, 'reading the checkpoint');
    const open = () => readShard(join(dirname(indexFile), inside));
    const contents =
      shards.get(inside) ?? (await namedIn(`${indexFile}, tensor ${name}, shard ${shard}`, open));
    shards.set(inside, contents);
    const tensor = contents.tensors.get(name);
    if (tensor === undefined) throw invalid(indexFile, `is not in its shard ${shard}`, name);
    tensors.set(name, tensor);
  }
  for (const [shard, contents] of shards) {
    const stray = [...contents.tensors.keys()].find((name) => !tensors.has(name));
    if (stray !== undefined) throw invalid(indexFile, `is in shard ${shard} but not in weight_map`, stray);
  }
  const torch = [...shards.values()].some(({ format }) => format === 'torch');
  return { tensors, format: torch ? 'torch' : 'safetensors', tied: tiedNames(metadata, tensors) };
}

/** The files that an index names, whether they are there or not. @throws as readShards, for the index alone. */
export async function shardFiles(indexFile: string): Promise<string[]> {
  const { weightMap } = await readIndex(indexFile);
  const names = new Set(Object.values(weightMap).filter((name) => typeof name === 'string'));
  return [...names].map((name) => join(dirname(indexFile), name));
}

type JsonObject = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

async function readIndex(indexFile: string): Promise<{ weightMap: JsonObject; metadata: JsonObject }> {
  const { weight_map: weightMap, metadata } = (await readJsonFile(indexFile, 'model')) as JsonObject;
  if (!isObject(weightMap)) throw invalid(indexFile, 'has no weight_map');
  return { weightMap, metadata: isObject(metadata) ? metadata : {} };
}

/** A shard's tensors, whichever of the formats it is in. */
async function readShard(file: string): Promise<Shard> {
  if ((await expectKind(file, 'model')).kind === 'safetensors')
    return { tensors: (await readSafetensors(file)).tensors, format: 'safetensors' };
  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of dictOf(await readTorchFile(file)) ?? [])
    if (typeof name === 'string' && isSavedTensor(value)) tensors.set(name, value.stored(name));
  return { tensors, format: 'torch' };
}

function invalid(indexFile: string, message: string, tensor?: string, hint?: string): FormatError {
  const code = indexFile.endsWith('.bin.index.json') ? 'TORCH_FILE_INVALID' : 'SAFETENSORS_INVALID';
  const where = tensor === undefined ? indexFile : `${indexFile}, tensor ${tensor}`;
  return new FormatError(code, `${where}: ${message}`, {
    file: indexFile,
    hint:
      hint ??
      'the index and its shards do not belong together, or one is damaged: copy or download the folder again',
    ...(tensor === undefined ? {} : { tensor }),
  });
}
