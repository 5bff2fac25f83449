/** Checkpoints: the named tensors of a model, from safetensors or from what torch.save writes. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { FormatError, fileError, ModelError } from '../errors.ts';
import { checkpointInFolder, checkWhole } from '../formats/checkpoint-folder.ts';
import { DCP_METADATA, type DcpCheckpoint, readDcp } from '../formats/dcp/dcp.ts';
import { readSafetensors } from '../formats/safetensors.ts';
import { isIndex, readShards } from '../formats/sharded-index.ts';
import {
  describeMistake,
  detectFormat,
  dictOf,
  isSavedTensor,
  noTensors,
  readTorchFile,
  type SavedTensor,
} from '../formats/torch-file.ts';
import type { StoredTensor, StoredTensors } from '../tensor.ts';

export interface Checkpoint {
  /** The parameters by name, wrappers' prefixes taken off, in file order. */
  readonly tensors: StoredTensors;
  readonly format: 'safetensors' | 'torch' | 'dcp';
}

/** Where training scripts keep the state dict in what they save. */
const STATE_DICT_KEYS = ['state_dict', 'model_state_dict', 'model'];

/** What training loops put before every parameter's name. */
const WRAPPER_PREFIXES = ['dlrm_model.', 'model.'];

/**
 * Loads a checkpoint: `.pt` (zip or legacy), `.safetensors`, an index file of shards of either, the `.metadata` of
 * torch.distributed.checkpoint, or a folder with one of these.
 * Nothing in it is executed, and no tensor is read yet.
 * @throws UsageError FILE_*; FormatError; ModelError CHECKPOINT_UNRECOGNISED when there is no state dict.
 */
export async function loadCheckpoint(path: string): Promise<Checkpoint> {
  const info = await stat(path).catch((cause) => {
    throw fileError(path, cause);
  });
  if (info.isDirectory()) return loadCheckpoint(await checkpointInFolder(path));
  if (basename(path) === DCP_METADATA) {
    return { tensors: stripWrappers(dividedStateDict(path, await readDcp(path))), format: 'dcp' };
  }
  checkWhole(path);
  if (isIndex(path)) {
    const { tensors, format } = await readShards(path);
    return { tensors: stripWrappers(tensors), format };
  }
  const format = await detectFormat(path);
  if (format === 'safetensors') return safetensorsCheckpoint(path);
  if (format === 'gzip') {
    throw new FormatError(
      'FORMAT_UNKNOWN',
      `${path} is compressed; tables are mapped from their file, so it must not be`,
      {
        file: path,
        hint: `gunzip it first`,
      },
    );
  }
  // Unknown content: a name says which reader explains best what is wrong with it.
  if (format === 'unknown' && path.endsWith('.safetensors')) {
    const mistake = await describeMistake(path);
    if (mistake !== undefined)
      throw new FormatError('FORMAT_UNKNOWN', `${path} ${mistake}`, {
        file: path,
        hint: 'copy or download the file again',
      });
    return safetensorsCheckpoint(path);
  }
  return { tensors: stripWrappers(stateDict(path, await readTorchFile(path))), format: 'torch' };
}

async function safetensorsCheckpoint(path: string): Promise<Checkpoint> {
  return { tensors: stripWrappers((await readSafetensors(path)).tensors), format: 'safetensors' };
}

/** The state dict of a divided checkpoint: the one under one of the usual keys, at any depth; else all that it holds. */
function dividedStateDict(path: string, { tensors, keys }: DcpCheckpoint): StoredTensors {
  const stateDicts = new Map<string, Map<string, StoredTensor>>();
  for (const [name, tensor] of tensors) {
    const around = keys.get(name) ?? [name];
    const at = around.slice(0, -1).findIndex((key) => STATE_DICT_KEYS.includes(key));
    if (at < 0) continue;
    const within = around.slice(0, at + 1).join('.');
    const stateDict = stateDicts.get(within) ?? new Map<string, StoredTensor>();
    stateDicts.set(within, stateDict.set(around.slice(at + 1).join('.'), tensor));
  }
  if (stateDicts.size > 1) {
    throw new ModelError(
      'CHECKPOINT_UNRECOGNISED',
      `${path} holds several state dicts: ${[...stateDicts.keys()].slice(0, 5).join(', ')}`,
      { file: path, hint: 'save the one to load by itself' },
    );
  }
  const [only] = stateDicts.values();
  return only ?? tensors;
}

/** The named tensors of a saved object: itself, or under one of the usual keys. */
function stateDict(path: string, saved: unknown): Map<string, StoredTensor> {
  const root = dictOf(saved);
  const candidates = [...STATE_DICT_KEYS.map((key) => root?.get(key)), saved];
  for (const candidate of candidates) {
    const tensors = [...(dictOf(candidate) ?? [])].filter(
      (entry): entry is [string, SavedTensor] => typeof entry[0] === 'string' && isSavedTensor(entry[1]),
    );
    if (tensors.length > 0) return new Map(tensors.map(([name, tensor]) => [name, tensor.stored(name)]));
  }
  for (const candidate of candidates) {
    const known = noTensors(path, candidate);
    if (known !== undefined) throw known;
  }
  const keys =
    root === undefined
      ? 'it is not a dict'
      : `its keys are ${[...root.keys()]
          .filter((key) => typeof key === 'string')
          .slice(0, 5)
          .join(', ')}`;
  throw new ModelError('CHECKPOINT_UNRECOGNISED', `${path} holds no state dict: ${keys}`, {
    file: path,
    hint: 'save it with torch.save(model.state_dict(), path)',
  });
}

/** Parts of names that wrappers add anywhere, as DistributedDataParallel does around single MLPs. */
const WRAPPER_PARTS = new Set(['module', '_orig_mod', '_dmp_wrapped_module']);

/** Takes off what wrappers add: their parts everywhere, and prefixes that all names share. */
function stripWrappers(tensors: StoredTensors): StoredTensors {
  let names = [...tensors.keys()].map((name) =>
    name
      .split('.')
      .filter((part) => !WRAPPER_PARTS.has(part))
      .join('.'),
  );
  for (;;) {
    const prefix = WRAPPER_PREFIXES.find((candidate) => names.every((name) => name.startsWith(candidate)));
    if (prefix === undefined || names.length === 0) break;
    names = names.map((name) => name.slice(prefix.length));
  }
  const stripped = new Map([...tensors.values()].map((tensor, i) => [names[i] as string, tensor]));
  if (stripped.size < tensors.size) {
    const twice = names.find((name, i) => names.indexOf(name) !== i) as string;
    throw new ModelError('CHECKPOINT_INCONSISTENT', `${twice} is there twice, with and without a wrapper`, {
      tensor: twice,
    });
  }
  return stripped;
}
