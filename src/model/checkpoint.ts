/** Checkpoints: the parameters of a model, from safetensors, what torch.save writes, or torch.distributed.checkpoint. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { FormatError, fileError, ModelError } from '../errors.ts';
import { checkpointInFolder, checkWhole } from '../formats/checkpoint-folder.ts';
import { DCP_METADATA, readDcp } from '../formats/dcp/dcp.ts';
import { expectKind } from '../formats/file-kind.ts';
import { readSafetensors } from '../formats/safetensors.ts';
import { readShards } from '../formats/sharded-index.ts';
import { readTorchFile } from '../formats/torch-file.ts';
import { shareTied } from '../stored-tensor.ts';
import { isStored, type StoredTensor, type StoredTensors, type Tensor } from '../tensor.ts';
import { findStateDict, type SavedEntry, type StateDictOptions, savedEntries } from './state-dict.ts';
import type { TableOrder } from './table-order.ts';

export interface Checkpoint {
  /** The model's parameters by name, what stands before them taken off, in file order. */
  readonly tensors: StoredTensors;
  readonly format: 'safetensors' | 'torch' | 'dcp';
  /** What the file says of the order of tables. */
  readonly order: TableOrder;
  /** What was taken off or left aside, for people. */
  readonly notes: readonly string[];
}

/** All tensors of a checkpoint, the model's and others. */
interface Saved extends Pick<Checkpoint, 'format' | 'order'> {
  readonly entries: readonly SavedEntry<StoredTensor>[];
}

/**
 * Loads a checkpoint: `.pt` (zip or legacy), `.safetensors`, an index file of shards of either, the `.metadata` of
 * torch.distributed.checkpoint, or a folder with one of these. The contents tell which it is, not the name. Nothing in it
 * is executed, and no tensor is read yet.
 * @throws UsageError FILE_*; FormatError, FORMAT_UNKNOWN naming what the file is instead; ModelError as findStateDict,
 * CHECKPOINT_UNRECOGNISED when there is no state dict.
 */
export async function loadCheckpoint(path: string, options: StateDictOptions = {}): Promise<Checkpoint> {
  const info = await stat(path).catch((cause) => {
    throw fileError(path, cause);
  });
  if (info.isDirectory()) return loadCheckpoint(await checkpointInFolder(path), options);
  const { entries, format, order } = await readSaved(path);
  const { tensors, notes } = findStateDict(entries, options);
  return { tensors: shareTied(tensors), format, order, notes };
}

async function readSaved(path: string): Promise<Saved> {
  if (basename(path) === DCP_METADATA) return dcpEntries(path);
  checkWhole(path);
  switch ((await expectKind(path, 'model')).kind) {
    case 'safetensors': {
      const { tensors, metadata } = await readSafetensors(path);
      const written = metadata[TABLE_ORDER_KEY];
      const order = written === undefined ? 'unsaved' : writtenOrder(path, written);
      return { entries: entriesOf(tensors), format: 'safetensors', order };
    }
    case 'safetensors-index': {
      const { tensors, format } = await readShards(path);
      return { entries: entriesOf(tensors), format, order: 'unsaved' };
    }
    default:
      return torchEntries(path);
  }
}

const entriesOf = (tensors: StoredTensors) =>
  [...tensors].map(([path, tensor]) => ({ path, container: tensors, tensor }));

/** Processes may save tables of their own each: their metadata keeps no order of the whole. */
async function dcpEntries(path: string): Promise<Saved> {
  const { tensors, keys } = await readDcp(path);
  const entries = [...tensors].map(([name, tensor]) => {
    const around = keys.get(name) ?? [name];
    return { path: around.join('.'), container: around.slice(0, -1).join('.'), tensor };
  });
  return { entries, format: 'dcp', order: 'unsaved' };
}

async function torchEntries(path: string): Promise<Saved> {
  const saved = await readTorchFile(path);
  const entries = savedEntries(saved, isTensor);
  if (entries.length > 0) return { entries, format: 'torch', order: 'saved' };
  const keys =
    saved instanceof Map
      ? `its keys are ${[...saved.keys()].slice(0, 5).map(String).join(', ')}`
      : 'it is not a dict';
  throw new ModelError('CHECKPOINT_UNRECOGNISED', `${path} holds no state dict: ${keys}`, {
    file: path,
    hint: 'save it with torch.save(model.state_dict(), path)',
  });
}

const isTensor = (value: unknown): value is StoredTensor =>
  typeof value === 'object' && value !== null && 'dtype' in value && isStored(value as Tensor);

/** Metadata of files that Hotrow writes: the names of the tables in the model's order, as JSON. */
export const TABLE_ORDER_KEY = 'hotrow:tables';

/** @throws FormatError SAFETENSORS_INVALID for metadata that is no list of names. */
function writtenOrder(path: string, text: string): TableOrder {
  let names: unknown;
  try {
    names = JSON.parse(text);
  } catch {
    names = undefined;
  }
  if (Array.isArray(names) && names.every((name) => typeof name === 'string'))
    return { names, from: "the file's metadata" };
  throw new FormatError(
    'SAFETENSORS_INVALID',
    `${path}: metadata ${TABLE_ORDER_KEY} is no list of table names`,
    {
      file: path,
    },
  );
}
