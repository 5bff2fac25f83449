/** The model that an engine thread has, which another may be written over. */

import { endDrawing } from '../../ffi/draw-lookups.ts';
import { inputsOf } from '../../model/architecture.ts';
import type { DlrmModel, ModelOverwrite } from '../../model/dlrm.ts';
import { blocksText } from '../../model/overwrite.ts';
import { namedOutputs } from '../../model/prediction.ts';
import { planLabel } from '../../plan/plan.ts';
import type { Measured } from '../batching/latency-model.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import type { PatchedModel, PatchedTable } from '../patches/row-patch.ts';
import { recordShape } from '../records/record-model.ts';
import { type Patched, replayPatches } from './apply-patch.ts';
import type { EngineReady, EngineStart, OverwritingModel } from './engine-messages.ts';
import { habitsOf, pollMsOf } from './habits.ts';
import { architectureOf, type PlacedModel, placeModel } from './model-source.ts';
import { warmUp } from './warm-up.ts';

/** What the times of batches depend on. Tables grow from one version to the next: their rows count by powers of two. */
function likenessOf({ architecture, device, head, precision, plan }: DlrmModel): string {
  const tables = architecture.tables.map(({ rows, dim, rowFormat, mode, rowWeights }) => {
    return [Math.ceil(Math.log2(rows)), dim, rowFormat, mode, rowWeights !== undefined];
  });
  return JSON.stringify([device.id, device.threads, precision, planLabel(plan), tables, blocksText(head)]);
}

function patchedTables({ architecture: { tables } }: DlrmModel): PatchedTable[] {
  return tables.map(({ name, rows, dim, rowFormat }) => ({ name, rows, dim, rowFormat }));
}

export class OwnModel implements AsyncDisposable {
  readonly placed: PlacedModel;
  readonly #start: EngineStart;
  readonly #onProgress: (text: string) => void;
  #model: DlrmModel;
  #version: string;
  #patched: Patched = { sequence: 0 };
  #measured: readonly Measured[] = [];
  #next: { readonly by: OverwritingModel; readonly overwrite: ModelOverwrite } | undefined;

  private constructor(placed: PlacedModel, start: EngineStart, onProgress: (text: string) => void) {
    this.placed = placed;
    this.#start = start;
    this.#onProgress = onProgress;
    this.#model = placed.model;
    this.#version = start.version;
  }

  /** @throws as placeModel. */
  static async place(start: EngineStart, onProgress: (text: string) => void): Promise<OwnModel> {
    return new OwnModel(await placeModel(start.source, start.placing, onProgress), start, onProgress);
  }

  get model(): DlrmModel {
    return this.#model;
  }

  /** What is told of it. */
  ready(metrics: SharedMetrics): EngineReady {
    const { architecture, device, head, precision, plan, planSource, notes } = this.#model;
    return {
      device: `${device.id}: ${device.name}`,
      precision,
      known: { likeness: likenessOf(this.#model), measured: this.#measured },
      plan: `${planLabel(plan)} (${planSource})`,
      pinsRows: plan.device === 'cuda' && plan.techniques.pinning !== undefined,
      canPinRows: (device.gpu?.persistingL2Bytes ?? 0) > 0,
      notes,
      shape: recordShape(architecture),
      inputs: inputsOf(architecture),
      tableRows: architecture.tables.map(({ rows }) => rows),
      outputs: namedOutputs(head, architecture.output),
      metrics,
      pollMs: pollMsOf(this.#model, this.#start),
      tables: patchedTables(this.#model),
      patched: this.#patched,
    };
  }

  /** What batches take, as far as was known when it was prepared. */
  get measured(): readonly Measured[] {
    return this.#measured;
  }

  /** What patches must be for. */
  get patchedModel(): PatchedModel {
    return { name: this.#start.model, version: this.#version, tables: patchedTables(this.#model) };
  }

  /** Applies the patches of its folder, and runs batches: of all sizes, unless a model like it has run. */
  async prepare(patches: string | undefined): Promise<void> {
    const model = this.#model;
    const { backend, bagLengths } = this.placed;
    this.#patched =
      patches === undefined
        ? { sequence: 0 }
        : await replayPatches(model, patches, this.patchedModel, (sequence, of) =>
            this.#onProgress(`patch ${sequence} of ${of}`),
          );
    const habits = habitsOf(model);
    const { limits, known: before } = this.#start;
    const { slaMs: longestMs, mostSamples = habits.mostSamples } = limits;
    const known = before?.likeness === likenessOf(model) ? before.measured : undefined;
    const atOnce = habits.depth;
    model.reserveBatches(mostSamples, atOnce);
    const onProgress = (samples: number) => this.#onProgress(`warming up: batches of ${samples}`);
    try {
      this.#measured = await warmUp(model, {
        backend,
        mostSamples,
        atOnce,
        longestMs,
        bagLengths,
        known,
        onProgress,
      });
    } finally {
      // Nothing else is drawn in this thread.
      endDrawing();
    }
  }

  /** @throws what keeps another model's weights from being written over its own. */
  async prepareOverwrite(by: OverwritingModel): Promise<void> {
    this.#next?.overwrite[Symbol.dispose]();
    this.#next = undefined;
    const { architecture } = await architectureOf(by.source);
    this.#next = { by, overwrite: await this.#model.prepareOverwrite(architecture) };
  }

  /** Writes them. @throws where that fails: it cannot answer any more then. */
  async overwrite(): Promise<void> {
    if (this.#next === undefined) throw new TypeError('there is nothing to write over the model');
    const { by, overwrite } = this.#next;
    this.#next = undefined;
    this.#model = await overwrite.run(this.#onProgress);
    this.#version = by.version;
    await this.prepare(by.patches);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#next?.overwrite[Symbol.dispose]();
    await this.#model.close();
  }
}
