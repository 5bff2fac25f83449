/** From a checkpoint on disk to a model on a device. */
import { type OpenOptions, openBackend } from '../backend/open-backend.ts';
import { fromFile } from '../errors.ts';
import type { StoredTensors } from '../tensor.ts';
import type { DlrmArchitecture } from './architecture.ts';
import { loadCheckpoint } from './checkpoint.ts';
import { DlrmModel, type DlrmOptions } from './dlrm.ts';
import { type ArchitectureOverrides, inferArchitecture } from './infer-architecture.ts';

export interface LoadModelOptions extends OpenOptions, Pick<DlrmOptions, 'plan' | 'indexChecking'> {
  /** What the checkpoint leaves open. */
  readonly architecture?: ArchitectureOverrides;
}

/** A checkpoint's tensors, where they are, and the model that they make. @throws as loadModel, for the checkpoint. */
export async function loadArchitecture(
  checkpoint: string,
  overrides?: ArchitectureOverrides,
): Promise<{ readonly tensors: StoredTensors; readonly architecture: DlrmArchitecture }> {
  const { tensors } = await loadCheckpoint(checkpoint);
  const architecture = await fromFile(checkpoint, () => inferArchitecture(tensors, overrides));
  return { tensors, architecture };
}

/**
 * Loads a DLRM: a facebookresearch/dlrm or TorchRec checkpoint as `.pt` or safetensors (one file, an index file, or a
 * folder with either), or a folder of torch.distributed.checkpoint. Close the model when done; its device is closed with it.
 * @throws UsageError, FormatError, ModelError for the checkpoint; PlanError; DeviceError.
 */
export async function loadModel(checkpoint: string, options: LoadModelOptions = {}): Promise<DlrmModel> {
  const { architecture } = await loadArchitecture(checkpoint, options.architecture);
  const { backend } = openBackend(options);
  try {
    return await DlrmModel.create(backend, architecture, { ...options, closesBackend: true });
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}
