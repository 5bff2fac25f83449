/** From a checkpoint on disk to a model on a device. */
import { OPEN_MEMBERS, type OpenOptions, openDevice } from '../backend/open-backend.ts';
import { abortSignal, throwIfAborted } from '../checks/abort.ts';
import { called, type FilePath, path as filePath, membersOf, oneOf, optional } from '../checks/value.ts';
import { DENSE_PRECISIONS } from '../device.ts';
import { INDEX_CHECKING } from '../embedding/bag.ts';
import { fromFile, namedIn } from '../errors.ts';
import { parsePlacement } from '../plan/placement.ts';
import { planChoice } from '../plan/plan.ts';
import { planTraffic } from '../plan/saved-plans.ts';
import type { OnProgress } from '../progress.ts';
import type { StoredTensors } from '../tensor.ts';
import type { ModelArchitecture } from './architecture.ts';
import { OVERRIDE_MEMBERS } from './check-tensors.ts';
import { type LoadCheckpointOptions, loadCheckpoint } from './checkpoint/checkpoint.ts';
import { conventionOf } from './checkpoint/naming.ts';
import type { FoundDescription } from './description/description.ts';
import { findDescription } from './description/find-description.ts';
import { DlrmModel, type DlrmOptions } from './dlrm.ts';
import {
  type ArchitectureOptions,
  type ArchitectureOverrides,
  inferArchitecture,
} from './infer-architecture.ts';

const OVERRIDES = membersOf<ArchitectureOverrides>(OVERRIDE_MEMBERS);
const LOAD_OPTIONS = membersOf<LoadModelOptions>({
  ...OPEN_MEMBERS,
  plan: optional(planChoice),
  traffic: optional(planTraffic),
  placement: optional(parsePlacement),
  precision: optional(oneOf(DENSE_PRECISIONS)),
  indexChecking: optional(oneOf(INDEX_CHECKING)),
  architecture: optional(OVERRIDES),
  onProgress: optional(called<OnProgress>()),
  signal: optional(abortSignal),
});

export interface LoadModelOptions
  extends OpenOptions,
    Pick<DlrmOptions, 'plan' | 'traffic' | 'placement' | 'precision' | 'indexChecking' | 'onProgress'> {
  /** Gives the loading up, between files and between tables; the device is closed, and what was placed is given back. */
  readonly signal?: AbortSignal;
  /** What the checkpoint and its description leave open. */
  readonly architecture?: ArchitectureOverrides;
}

/** A model in files. */
export interface StoredModel {
  /** The checkpoint's parameters, where they are, by their bare names. */
  readonly tensors: StoredTensors;
  readonly architecture: ModelArchitecture;
  /** The description that was used, named or beside the checkpoint. */
  readonly description?: FoundDescription;
}

/**
 * A checkpoint's tensors, where they are, and the model that they make. `path` names a checkpoint or a model description.
 * `signal` is looked at between files.
 * @throws as loadModel, for the checkpoint; AbortError.
 */
export async function loadArchitecture(
  path: string,
  options: ArchitectureOptions = {},
  signal?: AbortSignal,
): Promise<StoredModel> {
  const reading = signal === undefined ? {} : { signal };
  const found = await findDescription(path);
  if (found === undefined) return loadStored(path, options, reading);
  return fromFile(found.file, async () => {
    const { prefix, names } = found.description;
    const recognised = {
      ...reading,
      ...(prefix === undefined ? {} : { prefix }),
      ...(names === undefined ? {} : { convention: conventionOf(names) }),
    };
    const described = { ...options, description: found.description };
    const stored = await namedIn(`${found.file}: /checkpoint`, () =>
      loadStored(found.checkpoint, described, recognised),
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
  from: LoadCheckpointOptions,
): Promise<StoredModel> {
  const work = async () => {
    const { tensors, order, notes } = await loadCheckpoint(checkpoint, from);
    const architecture = await inferArchitecture(tensors, { order, ...options });
    throwIfAborted(from.signal, 'reading the checkpoint');
    return { tensors, architecture: { ...architecture, notes: [...notes, ...(architecture.notes ?? [])] } };
  };
  // What does not fit a description is named by the description's file and key.
  return options.description === undefined ? fromFile(checkpoint, work) : work();
}

/**
 * Loads a DLRM: a facebookresearch/dlrm or TorchRec checkpoint as `.pt` or safetensors (one file, shards with an index
 * file, or a folder), or a model description that names one. A description beside the checkpoint is used. Close the model
 * when done; its device is closed with it.
 * @throws UsageError, FormatError, ModelError for the checkpoint; PlanError; DeviceError; UsageError OPTION_INVALID; AbortError
 * once `signal` is aborted.
 */
export async function loadModel(path: FilePath, options: LoadModelOptions = {}): Promise<DlrmModel> {
  const {
    architecture: overrides,
    plan,
    traffic,
    placement,
    precision,
    indexChecking,
    onProgress,
    signal,
    ...device
  } = LOAD_OPTIONS(options, 'loadModel');
  const file = filePath(path, 'loadModel: path');
  throwIfAborted(signal, 'loadModel');
  const { architecture } = await loadArchitecture(file, overrides, signal);
  const { backend } = openDevice(device);
  try {
    return await DlrmModel.create(backend, architecture, {
      closesBackend: true,
      ...(plan === undefined ? {} : { plan }),
      ...(traffic === undefined ? {} : { traffic }),
      ...(placement === undefined ? {} : { placement }),
      ...(precision === undefined ? {} : { precision }),
      ...(indexChecking === undefined ? {} : { indexChecking }),
      ...(onProgress === undefined ? {} : { onProgress }),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}
