/** A DLRM placed on a device: dense features and bags in, click probabilities out. */
import {
  type Backend,
  columns,
  type Operation,
  type PlacedBags,
  type PlacedTables,
} from '../backend/backend.ts';
import { BatchPrograms, type ProgramOf } from '../backend/batch-programs.ts';
import { InFlight } from '../backend/in-flight.ts';
import type { Workspace } from '../backend/workspace.ts';
import { type PlacedInteraction, placeInteraction } from '../dense/interaction.ts';
import { Mlp } from '../dense/linear.ts';
import type { BagFindings, IndexChecking } from '../embedding/bag.ts';
import { placeCollection, totalDim } from '../embedding/collection.ts';
import type { Plan, PlanChoice } from '../embedding/plan.ts';
import { choosePlan } from '../embedding/saved-plans.ts';
import { RequestError } from '../errors.ts';
import type { DlrmArchitecture } from './architecture.ts';
import type { DlrmRequest } from './request.ts';

export interface DlrmOptions {
  /** How the embedding stage runs; default: the saved plan, else the heuristic one. */
  readonly plan?: PlanChoice;
  /** What happens to bad indices and offsets; default `error`. */
  readonly indexChecking?: IndexChecking;
  /** Close the backend together with the model; default: it stays the caller's. */
  readonly closesBackend?: boolean;
}

/** Where the time of a batch went, in ms of device time; `host` is the rest of the call. On GPUs stages overlap. */
export interface StageTimes {
  readonly copyMs: number;
  readonly embeddingMs: number;
  readonly bottomMs: number;
  readonly interactionMs: number;
  readonly topMs: number;
  readonly hostMs: number;
}

export interface PredictOptions {
  /** Also report where the time went, which costs GPUs some tens of microseconds. Default: false. */
  readonly stages?: boolean;
}

export interface Prediction {
  /** [batchSize], in (0, 1). */
  readonly probabilities: Float32Array;
  /** From the call to the result. */
  readonly latencyMs: number;
  /** What index checking found, in `warn` mode. */
  readonly findings: BagFindings;
}

export interface StagedPrediction extends Prediction {
  readonly stages: StageTimes;
}

type Stage = Exclude<keyof StageTimes, 'hostMs'>;

/** The arrays of a batch. */
interface Batch {
  readonly dense: Float32Array;
  readonly bags: PlacedBags;
  readonly probabilities: Float32Array;
}

interface Placed {
  readonly tables: PlacedTables;
  readonly bottom: Mlp;
  readonly interaction: PlacedInteraction;
  readonly top: Mlp;
}

export class DlrmModel implements AsyncDisposable {
  readonly architecture: DlrmArchitecture;
  /** Where the plan that runs comes from, for people. */
  readonly planSource: string;
  readonly #backend: Backend;
  readonly #placed: Placed;
  readonly #closesBackend: boolean;
  readonly #programs: BatchPrograms<Batch>;
  /** The stage that each operation belongs to. */
  #stages: readonly Stage[] = [];
  readonly #inFlight = new InFlight('the model');

  private constructor(
    backend: Backend,
    architecture: DlrmArchitecture,
    placed: Placed,
    planSource: string,
    options: DlrmOptions,
  ) {
    this.planSource = planSource;
    this.architecture = architecture;
    this.#backend = backend;
    this.#placed = placed;
    this.#closesBackend = options.closesBackend ?? false;
    const checking = options.indexChecking ?? 'error';
    this.#programs = new BatchPrograms(backend, (capacity, workspace) =>
      this.#programFor(capacity, workspace, checking),
    );
  }

  /**
   * Places a model on the device of `backend`.
   * @throws PlanError PLAN_ILLEGAL; DeviceError OUT_OF_MEMORY; UsageError, FormatError for files that cannot be read.
   */
  static async create(
    backend: Backend,
    architecture: DlrmArchitecture,
    options: DlrmOptions = {},
  ): Promise<DlrmModel> {
    const { tables, bottom, top, interaction } = architecture;
    const placed: Disposable[] = [];
    const keep = <T extends Disposable>(part: T): T => {
      placed.push(part);
      return part;
    };
    try {
      const { plan, source } = await choosePlan(options.plan, { device: backend.device, tables });
      const parts: Placed = {
        tables: keep(await placeCollection(backend, tables, plan)),
        bottom: keep(await Mlp.place(backend, bottom)),
        interaction: keep(
          await placeInteraction(
            backend,
            interaction,
            bottomWidth(architecture),
            tables.map((table) => table.dim),
          ),
        ),
        top: keep(await Mlp.place(backend, top)),
      };
      return new DlrmModel(backend, architecture, parts, source, options);
    } catch (error) {
      for (const part of placed) part[Symbol.dispose]();
      throw error;
    }
  }

  /** The device that the model runs on. */
  get device() {
    return this.#backend.device;
  }

  /** How the dense layers multiply. */
  get precision() {
    return this.#backend.precision;
  }

  /** The plan of the embedding stage. */
  get plan(): Plan {
    return this.#placed.tables.plan;
  }

  /** What the plan brought about on this device, for people. */
  get notes(): readonly string[] {
    return this.#placed.tables.notes;
  }

  /**
   * Scores a batch. The request's arrays must not change until it is done; NaN in `dense` passes through.
   * @throws RequestError when the request does not fit the model, or, in `error` mode, for a bad index or offset.
   */
  predict(request: DlrmRequest, options: { readonly stages: true }): Promise<StagedPrediction>;
  predict(request: DlrmRequest, options?: PredictOptions): Promise<Prediction>;
  predict(request: DlrmRequest, { stages = false }: PredictOptions = {}): Promise<Prediction> {
    return this.#inFlight.run(() => this.#predict(request, stages));
  }

  async #predict(request: DlrmRequest, staged: boolean): Promise<Prediction> {
    const began = performance.now();
    const { batchSize, dense } = request;
    checkDense(request, this.architecture.denseFeatures);
    using bags = this.#backend.placeBags(this.#placed.tables, request);
    const probabilities = new Float32Array(batchSize);
    const batch = { dense, bags, probabilities };
    const timing = staged ? 'operations' : 'none';
    const { seconds, findings } = await this.#programs.run(batchSize, batch, { timing });
    const latencyMs = performance.now() - began;
    const prediction: Prediction = { probabilities, latencyMs, findings };
    if (!staged) return prediction;
    return Object.assign(prediction, { stages: stageTimes(this.#stages, seconds, latencyMs) });
  }

  /** The program for batches of at most `capacity` samples. */
  #programFor(capacity: number, workspace: Workspace, checking: IndexChecking): ProgramOf<Batch> {
    const { tables, bottom, interaction, top } = this.#placed;
    const width = bottomWidth(this.architecture);
    const input = workspace.matrix(capacity, this.architecture.denseFeatures);
    const z = workspace.matrix(capacity, width + totalDim(tables.tables));
    const probability = workspace.matrix(capacity, 1);
    const bottomOperations = bottom.operations(input, columns(z, 0, width), workspace);
    const pooled = columns(z, width, z.cols - width);
    const { operations: interactions, result } = interaction.operations(z, workspace);
    const topOperations = top.operations(result, probability, workspace);
    const of = (stage: Stage, operations: readonly unknown[]) => operations.map(() => stage);
    this.#stages = [
      'copyMs',
      ...of('bottomMs', bottomOperations),
      'embeddingMs',
      ...of('interactionMs', interactions),
      ...of('topMs', topOperations),
      'copyMs',
    ];
    return ({ dense, bags, probabilities }): Operation[] => [
      { op: 'upload', source: dense, output: input },
      ...bottomOperations,
      { op: 'embeddingBags', tables, bags, output: pooled, checking },
      ...interactions,
      ...topOperations,
      { op: 'download', input: probability, target: probabilities },
    ];
  }

  /** Gives the model's memory back, after predictions under way. */
  async close(): Promise<void> {
    if (!(await this.#inFlight.close())) return;
    this.#programs[Symbol.dispose]();
    for (const part of Object.values(this.#placed)) part[Symbol.dispose]();
    if (this.#closesBackend) this.#backend[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Width of the bottom MLP's output. */
export function bottomWidth(architecture: DlrmArchitecture): number {
  return architecture.bottom.at(-1)?.outputs ?? architecture.denseFeatures;
}

function stageTimes(stages: readonly Stage[], seconds: Float64Array, latencyMs: number): StageTimes {
  const times = { copyMs: 0, embeddingMs: 0, bottomMs: 0, interactionMs: 0, topMs: 0 };
  stages.forEach((stage, i) => {
    times[stage] += (seconds[i] as number) * 1e3;
  });
  const deviceMs = Object.values(times).reduce((sum, ms) => sum + ms, 0);
  return { ...times, hostMs: Math.max(0, latencyMs - deviceMs) };
}

function checkDense({ dense, batchSize, denseFeatures }: DlrmRequest, expected: number): void {
  if (!(dense instanceof Float32Array)) {
    throw new RequestError('TENSOR_DTYPE', 'dense must be float32', { tensor: 'dense' });
  }
  if (denseFeatures !== expected || dense.length !== batchSize * denseFeatures) {
    const shape =
      denseFeatures * batchSize === dense.length
        ? `[${batchSize}, ${denseFeatures}]`
        : `${dense.length} elements`;
    throw new RequestError(
      'TENSOR_SHAPE',
      `dense has ${shape}, the model takes [${batchSize}, ${expected}]`,
      { tensor: 'dense' },
    );
  }
}
