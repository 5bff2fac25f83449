/** From a checkpoint on disk to a model on a device. */
import { type OpenOptions, openBackend } from '../backend/open-backend.ts';
import { fromFile } from '../errors.ts';
import { loadCheckpoint } from './checkpoint.ts';
import { DlrmModel, type DlrmOptions } from './dlrm.ts';
import { type ArchitectureOverrides, inferArchitecture } from './infer-architecture.ts';

export interface LoadModelOptions extends OpenOptions, Pick<DlrmOptions, 'plan' | 'indexChecking'> {
  /** What the checkpoint leaves open. */
  readonly architecture?: ArchitectureOverrides;
}

/**
 * Loads a DLRM: a facebookresearch/dlrm or TorchRec checkpoint as `.pt` or safetensors (one file, an index file, or a
 * folder with either). Close the model when done; its device is closed with it.
 * @throws UsageError, FormatError, ModelError for the checkpoint; PlanError; DeviceError.
 */
export async function loadModel(checkpoint: string, options: LoadModelOptions = {}): Promise<DlrmModel> {
  const { tensors } = await loadCheckpoint(checkpoint);
  const architecture = await fromFile(checkpoint, () => inferArchitecture(tensors, options.architecture));
  const { backend } = openBackend(options);
  try {
    return await DlrmModel.create(backend, architecture, { ...options, closesBackend: true });
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}
