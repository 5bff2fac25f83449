/** From a checkpoint on disk to a model on a device. */
import { type OpenOptions, openBackend } from '../backend/open-backend.ts';
import { fromFile } from '../errors.ts';
import type { StoredTensors } from '../tensor.ts';
import type { DlrmArchitecture } from './architecture.ts';
import { loadCheckpoint } from './checkpoint/checkpoint.ts';
import { conventionOf } from './checkpoint/naming.ts';
import type { FoundDescription } from './description/description.ts';
import { findDescription } from './description/find-description.ts';
import { DlrmModel, type DlrmOptions } from './dlrm.ts';
import {
  type ArchitectureOptions,
  type ArchitectureOverrides,
  inferArchitecture,
} from './infer-architecture.ts';

export interface LoadModelOptions
  extends OpenOptions,
    Pick<DlrmOptions, 'plan' | 'traffic' | 'indexChecking'> {
  /** What the checkpoint and its description leave open. */
  readonly architecture?: ArchitectureOverrides;
}

/** A model in files. */
export interface StoredModel {
  /** The checkpoint's parameters, where they are, by their bare names. */
  readonly tensors: StoredTensors;
  readonly architecture: DlrmArchitecture;
  /** The description that was used, named or beside the checkpoint. */
  readonly description?: FoundDescription;
}

/**
 * A checkpoint's tensors, where they are, and the model that they make. `path` names a checkpoint or a model description.
 * @throws as loadModel, for the checkpoint.
 */
export async function loadArchitecture(
  path: string,
  options: ArchitectureOptions = {},
): Promise<StoredModel> {
  const found = await findDescription(path);
  if (found === undefined) return loadStored(path, options);
  return fromFile(found.file, async () => {
    const { prefix, names } = found.description;
    const stored = await loadStored(
      found.checkpoint,
      { ...options, description: found.description },
      {
        ...(prefix === undefined ? {} : { prefix }),
        ...(names === undefined ? {} : { convention: conventionOf(names) }),
      },
    );
    const guessed = Object.keys(found.description.guesses ?? {});
    const notes = [
      `described by ${found.file}`,
      ...(guessed.length === 0 ? [] : [`guesses not confirmed in it: ${guessed.join(', ')}`]),
      ...(stored.architecture.notes ?? []),
    ];
    return { ...stored, architecture: { ...stored.architecture, notes }, description: found };
  });
}

async function loadStored(
  checkpoint: string,
  options: ArchitectureOptions,
  names: Parameters<typeof loadCheckpoint>[1] = {},
): Promise<StoredModel> {
  const work = async () => {
    const { tensors, order, notes } = await loadCheckpoint(checkpoint, names);
    const architecture = await inferArchitecture(tensors, { order, ...options });
    return { tensors, architecture: { ...architecture, notes: [...notes, ...(architecture.notes ?? [])] } };
  };
  // What does not fit a description is named by the description's file and key.
  return options.description === undefined ? fromFile(checkpoint, work) : work();
}

/**
 * Loads a DLRM: a facebookresearch/dlrm or TorchRec checkpoint as `.pt` or safetensors (one file, shards with an index
 * file, or a folder), or a model description that names one. A description beside the checkpoint is used. Close the model
 * when done; its device is closed with it.
 * @throws UsageError, FormatError, ModelError for the checkpoint; PlanError; DeviceError.
 */
export async function loadModel(path: string, options: LoadModelOptions = {}): Promise<DlrmModel> {
  const { architecture } = await loadArchitecture(path, options.architecture);
  const { backend } = openBackend(options);
  try {
    return await DlrmModel.create(backend, architecture, { ...options, closesBackend: true });
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}
