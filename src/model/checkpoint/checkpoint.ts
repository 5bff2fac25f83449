/** Checkpoints: the parameters of a model, from safetensors, what torch.save writes, or torch.distributed.checkpoint. */
import { basename } from 'node:path';
import { abortSignal, throwIfAborted } from '../../checks/abort.ts';
import {
  type Check,
  type FilePath,
  path as filePath,
  membersOf,
  optional,
  refuseOption,
  text,
} from '../../checks/value.ts';
import { FormatError, ModelError } from '../../errors.ts';
import { checkpointInFolder, checkWhole } from '../../formats/checkpoint-folder.ts';
import { DCP_METADATA, readDcp } from '../../formats/dcp/dcp.ts';
import { expectKind } from '../../formats/file-kind.ts';
import { parseJson } from '../../formats/json-text.ts';
import { readSafetensors } from '../../formats/safetensors.ts';
import { readShards } from '../../formats/sharded-index.ts';
import { tiedNames } from '../../formats/tied-names.ts';
import { dictOf, isSavedTensor, noTensors, readTorchFile, shown } from '../../formats/torch/torch-file.ts';
import { statFile } from '../../input-file.ts';
import { shareTied } from '../../stored-tensor.ts';
import type { StoredTensor, StoredTensors } from '../../tensor.ts';
import { isNamingConvention, type NamingConvention } from './naming.ts';
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

/** Where a tensor lies; only those of the model are asked. `name` names it in errors. */
type Locate = (name: string) => StoredTensor;

/** All tensors of a checkpoint, the model's and others. */
interface Saved extends Pick<Checkpoint, 'format' | 'order'> {
  readonly entries: readonly SavedEntry<Locate>[];
}

/** Names of a description; made by conventionOf alone. */
const convention: Check<NamingConvention> = (value, at) =>
  isNamingConvention(value) ? value : refuseOption(at, value, 'names that a model description gave');

export interface LoadCheckpointOptions extends StateDictOptions {
  /** Gives the reading up, between files. */
  readonly signal?: AbortSignal;
}

const OPTIONS = membersOf<LoadCheckpointOptions>({
  convention: optional(convention),
  prefix: optional(text),
  signal: optional(abortSignal),
});

/**
 * Loads a checkpoint: `.pt` (zip or legacy), `.safetensors`, an index file of shards of either, the `.metadata` of
 * torch.distributed.checkpoint, or a folder with one of these. The contents tell which it is, not the name. Nothing in it
 * is executed, and no tensor is read yet.
 * @throws UsageError FILE_*; FormatError, FORMAT_UNKNOWN naming what the file is instead; ModelError as findStateDict,
 * CHECKPOINT_UNRECOGNISED when there is no state dict; UsageError OPTION_INVALID; AbortError.
 */
export async function loadCheckpoint(given: FilePath, from: LoadCheckpointOptions = {}): Promise<Checkpoint> {
  const path = filePath(given, 'loadCheckpoint: path');
  const options = OPTIONS(from, 'loadCheckpoint');
  const { signal, ...stateDict } = options;
  throwIfAborted(signal, 'loadCheckpoint');
  if ((await statFile(path)).isDirectory()) return loadCheckpoint(await checkpointInFolder(path), options);
  const { entries, format, order } = await readSaved(path, signal);
  const { tensors, notes } = findStateDict(entries, stateDict);
  const located = new Map([...tensors].map(([name, locate]) => [name, locate(name)]));
  return { tensors: shareTied(located), format, order, notes };
}

async function readSaved(path: string, signal: AbortSignal | undefined): Promise<Saved> {
  if (basename(path) === DCP_METADATA) return dcpEntries(path, signal);
  checkWhole(path);
  switch ((await expectKind(path, 'model')).kind) {
    case 'safetensors': {
      const { tensors, metadata } = await readSafetensors(path);
      const written = metadata[TABLE_ORDER_KEY];
      const order = written === undefined ? 'unsaved' : writtenOrder(path, written);
      return { entries: entriesOf(tensors, tiedNames(metadata, tensors)), format: 'safetensors', order };
    }
    case 'safetensors-index': {
      const { tensors, tied, format } = await readShards(path, signal);
      return { entries: entriesOf(tensors, tied), format, order: 'unsaved' };
    }
    default:
      return torchEntries(path);
  }
}

function entriesOf(tensors: StoredTensors, tied: StoredTensors): SavedEntry<Locate>[] {
  const entry =
    (alias: boolean) =>
    ([path, tensor]: [string, StoredTensor]) => ({ path, container: tensors, tensor: () => tensor, alias });
  return [...[...tensors].map(entry(false)), ...[...tied].map(entry(true))];
}

/** Processes may save tables of their own each: their metadata keeps no order of the whole. */
async function dcpEntries(path: string, signal: AbortSignal | undefined): Promise<Saved> {
  const { tensors, keys } = await readDcp(path, signal);
  const entries = [...tensors].map(([name, tensor]) => {
    const around = keys.get(name) ?? [name];
    return { path: around.join('.'), container: around.slice(0, -1).join('.'), tensor: () => tensor };
  });
  return { entries, format: 'dcp', order: 'unsaved' };
}

async function torchEntries(path: string): Promise<Saved> {
  const saved = await readTorchFile(path);
  const entries = savedEntries(saved, isSavedTensor).map(({ tensor, ...entry }) => ({
    ...entry,
    tensor: (name: string) => tensor.stored(name),
  }));
  if (entries.length > 0) return { entries, format: 'torch', order: 'saved' };
  const dict = dictOf(saved);
  // One value may stand under many keys.
  for (const value of new Set([saved, ...(dict?.values() ?? [])])) {
    const refused = noTensors(path, value);
    if (refused !== undefined) throw refused;
  }
  const keys =
    dict === undefined
      ? 'it is not a dict'
      : dict.size === 0
        ? 'it is empty'
        : `its keys are ${[...dict.keys()].slice(0, 5).map(keyText).join(', ')}`;
  throw new ModelError('CHECKPOINT_UNRECOGNISED', `${path} holds no state dict: ${keys}`, {
    file: path,
    hint: 'save it with torch.save(model.state_dict(), path)',
  });
}

/** A key of a dict as it may stand in a message; tuples may be nested without end. */
const keyText = (key: unknown): string =>
  typeof key === 'string' ? shown(key) : typeof key === 'number' ? String(key) : 'one that is no text';

/** Metadata of files that Hotrow writes: the names of the tables in the model's order, as JSON. */
export const TABLE_ORDER_KEY = 'hotrow:tables';

/** @throws FormatError SAFETENSORS_INVALID for metadata that is no list of names. */
function writtenOrder(path: string, text: string): TableOrder {
  let names: unknown;
  try {
    names = parseJson(text);
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
