/** Where a served model comes from, and how it is placed. */

import type { Backend } from '../../backend/backend.ts';
import { openDevice } from '../../backend/open-backend.ts';
import { type ModelShape, PRESETS, type PresetName } from '../../bench/presets.ts';
import type { DensePrecision } from '../../device.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { DlrmModel } from '../../model/dlrm.ts';
import type { ArchitectureOverrides } from '../../model/infer-architecture.ts';
import { loadArchitecture } from '../../model/load-model.ts';
import type { PlanChoice } from '../../plan/plan.ts';
import { choosePlan } from '../../plan/saved-plans.ts';
import { availableBytes, checkHostRoom, copiedBytes } from './host-room.ts';

/** A checkpoint or a description, or a preset's synthetic model. Plain data, so that threads can be told. */
export type ModelSource =
  | { readonly kind: 'file'; readonly path: string; readonly overrides: ArchitectureOverrides }
  | { readonly kind: 'preset'; readonly preset: PresetName; readonly shape: ModelShape };

/** How a copy of a model is placed. */
export interface Placing {
  /** `auto`, `cpu`, `cuda:N`. */
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan?: PlanChoice;
}

/** A model on its device. */
export interface PlacedModel {
  readonly model: DlrmModel;
  readonly backend: Backend;
  /** What its bags are like, as `--bag-lengths` says it; undefined: nothing is known. */
  readonly bagLengths: string | undefined;
}

/**
 * Opens the device and places the model. Closing the model closes the device. Lookups are not checked in it: records are, before they
 * are merged.
 * @throws as loadModel.
 */
export async function placeModel(
  source: ModelSource,
  { device, threads, precision, plan }: Placing,
  onProgress: (text: string) => void,
): Promise<PlacedModel> {
  const { architecture, bagLengths } = await architectureOf(source);
  const { backend } = openDevice({
    device,
    ownsThread: true,
    letsOthersIn: true,
    ...(threads === undefined ? {} : { threads }),
  });
  try {
    // GPUs say themselves what they have room for.
    if (backend.device.kind === 'cpu') {
      const chosen = await choosePlan(plan, { device: backend.device, tables: architecture.tables });
      checkHostRoom(copiedBytes(architecture, chosen.plan), await availableBytes());
    }
    const model = await DlrmModel.create(backend, architecture, {
      closesBackend: true,
      indexChecking: 'none',
      onProgress,
      ...(precision === undefined ? {} : { precision }),
      ...(plan === undefined ? {} : { plan }),
    });
    return { model, backend, bagLengths };
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}

/** What is read of a model before it is placed. @throws as loadModel. */
export async function architectureOf(
  source: ModelSource,
): Promise<{ readonly architecture: ModelArchitecture; readonly bagLengths: string | undefined }> {
  if (source.kind === 'file') {
    const { architecture } = await loadArchitecture(source.path, source.overrides);
    return { architecture, bagLengths: undefined };
  }
  const preset = PRESETS[source.preset];
  return { architecture: preset.architecture(source.shape), bagLengths: preset.bagLengths(source.shape) };
}
