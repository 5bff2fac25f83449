/** Checkpoints: the named tensors of a model, from safetensors or from what torch.save writes. */
import { stat } from 'node:fs/promises';
import { FormatError, fileError, ModelError } from '../errors.ts';
import { expectKind } from '../formats/file-kind.ts';
import { readSafetensorsModel } from '../formats/safetensors.ts';
import { readTorchFile } from '../formats/torch-file.ts';
import { isStored, type StoredTensor, type StoredTensors, type Tensor } from '../tensor.ts';
import { findStateDict, type StateDictOptions, savedEntries } from './state-dict.ts';
import type { TableOrder } from './table-order.ts';

export interface Checkpoint {
  /** The model's parameters by name, what stands before them taken off, in file order. */
  readonly tensors: StoredTensors;
  readonly format: 'safetensors' | 'torch';
  /** What the file says of the order of tables. */
  readonly order: TableOrder;
  /** What was taken off or left aside, for people. */
  readonly notes: readonly string[];
}

/**
 * Loads a checkpoint: `.pt` (zip or legacy), one `.safetensors`, an index file of shards, or a folder with either. The
 * contents tell which it is, not the name. Nothing in it is executed, and no tensor is read yet.
 * @throws UsageError FILE_*; FormatError, FORMAT_UNKNOWN naming what the file is instead; ModelError CHECKPOINT_UNRECOGNISED when there is no state dict.
 */
export async function loadCheckpoint(path: string, options: StateDictOptions = {}): Promise<Checkpoint> {
  const info = await stat(path).catch((cause) => {
    throw fileError(path, cause);
  });
  if (info.isDirectory()) return safetensorsCheckpoint(path, options);
  const { kind } = await expectKind(path, 'model');
  if (kind === 'safetensors' || kind === 'safetensors-index') return safetensorsCheckpoint(path, options);
  return torchCheckpoint(path, options);
}

async function safetensorsCheckpoint(path: string, options: StateDictOptions): Promise<Checkpoint> {
  const { tensors: all, metadata } = await readSafetensorsModel(path);
  const entries = [...all].map(([name, tensor]) => ({ path: name, container: all, tensor }));
  const { tensors, notes } = findStateDict(entries, options);
  const written = metadata[TABLE_ORDER_KEY];
  const order = written === undefined ? 'unsaved' : writtenOrder(path, written);
  return { tensors, format: 'safetensors', order, notes };
}

async function torchCheckpoint(path: string, options: StateDictOptions): Promise<Checkpoint> {
  const saved = await readTorchFile(path);
  const entries = savedEntries(saved, isTensor);
  if (entries.length === 0) {
    const keys =
      saved instanceof Map
        ? `its keys are ${[...saved.keys()].slice(0, 5).map(String).join(', ')}`
        : 'it is not a dict';
    throw new ModelError('CHECKPOINT_UNRECOGNISED', `${path} holds no state dict: ${keys}`, {
      file: path,
      hint: 'save it with torch.save(model.state_dict(), path)',
    });
  }
  const { tensors, notes } = findStateDict(entries, options);
  return { tensors, format: 'torch', order: 'saved', notes };
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
