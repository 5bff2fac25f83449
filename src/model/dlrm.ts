/** A DLRM placed on a device: dense features and bags in, click probabilities out. */
import { type Backend, columns, type Operation, type PlacedTables } from '../backend/backend.ts';
import { InFlight } from '../backend/in-flight.ts';
import { WorkspacePool } from '../backend/workspace.ts';
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

/** Where the time of a batch went, in ms of device time; `host` is the rest of the call. */
export interface StageTimes {
  readonly copyMs: number;
  readonly embeddingMs: number;
  readonly bottomMs: number;
  readonly interactionMs: number;
  readonly topMs: number;
  readonly hostMs: number;
}

export interface Prediction {
  /** [batchSize], in (0, 1). */
  readonly probabilities: Float32Array;
  /** From the call to the result. */
  readonly latencyMs: number;
  readonly stages: StageTimes;
  /** What index checking found, in `warn` mode. */
  readonly findings: BagFindings;
}

type Stage = Exclude<keyof StageTimes, 'hostMs'>;

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
  readonly #checking: IndexChecking;
  readonly #closesBackend: boolean;
  readonly #workspaces: WorkspacePool;
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
    this.#checking = options.indexChecking ?? 'error';
    this.#closesBackend = options.closesBackend ?? false;
    this.#workspaces = new WorkspacePool(backend);
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
  predict(request: DlrmRequest): Promise<Prediction> {
    return this.#inFlight.run(() => this.#predict(request));
  }

  async #predict(request: DlrmRequest): Promise<Prediction> {
    const began = performance.now();
    const { batchSize } = request;
    checkDense(request, this.architecture.denseFeatures);
    const { tables } = this.#placed;
    using bags = this.#backend.placeBags(tables, request);
    using workspace = this.#workspaces.open();

    const width = bottomWidth(this.architecture);
    const dense = workspace.matrix(batchSize, request.denseFeatures);
    const z = workspace.matrix(batchSize, width + totalDim(tables.tables));
    const probability = workspace.matrix(batchSize, 1);
    const probabilities = new Float32Array(batchSize);

    const program: Operation[] = [];
    const stages: Stage[] = [];
    const append = (stage: Stage, ...operations: Operation[]) => {
      program.push(...operations);
      stages.push(...operations.map(() => stage));
    };
    append('copyMs', { op: 'upload', source: request.dense, output: dense });
    append('bottomMs', ...this.#placed.bottom.operations(dense, columns(z, 0, width), workspace));
    const pooled = columns(z, width, z.cols - width);
    append('embeddingMs', { op: 'embeddingBags', tables, bags, output: pooled, checking: this.#checking });
    const interaction = this.#placed.interaction.operations(z, workspace);
    append('interactionMs', ...interaction.operations);
    append('topMs', ...this.#placed.top.operations(interaction.result, probability, workspace));
    append('copyMs', { op: 'download', input: probability, target: probabilities });

    const { seconds, findings } = await this.#backend.run(program);
    const times: Record<Stage, number> = {
      copyMs: 0,
      embeddingMs: 0,
      bottomMs: 0,
      interactionMs: 0,
      topMs: 0,
    };
    stages.forEach((stage, i) => {
      times[stage] += (seconds[i] as number) * 1e3;
    });
    const latencyMs = performance.now() - began;
    const deviceMs = Object.values(times).reduce((sum, ms) => sum + ms, 0);
    return {
      probabilities,
      latencyMs,
      stages: { ...times, hostMs: Math.max(0, latencyMs - deviceMs) },
      findings,
    };
  }

  /** Gives the model's memory back, after predictions under way. */
  async close(): Promise<void> {
    if (!(await this.#inFlight.close())) return;
    this.#workspaces[Symbol.dispose]();
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
