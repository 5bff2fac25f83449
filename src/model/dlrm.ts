/** A DLRM placed on a device: dense features and bags in, click probabilities out. */
import {
  type Backend,
  columns,
  type Operation,
  type PlacedBags,
  type PlacedTables,
  type RunOptions,
  type RunReport,
} from '../backend/backend.ts';
import { BatchPrograms } from '../backend/batch-programs.ts';
import { InFlight } from '../backend/in-flight.ts';
import { Workspace } from '../backend/workspace.ts';
import { type PlacedInteraction, placeInteraction } from '../dense/interaction.ts';
import { Mlp } from '../dense/linear.ts';
import type { BagFindings, IndexChecking } from '../embedding/bag.ts';
import { placeCollection, totalDim } from '../embedding/collection.ts';
import type { Plan, PlanChoice } from '../embedding/plan.ts';
import { choosePlan, type PlanTraffic } from '../embedding/saved-plans.ts';
import { RequestError } from '../errors.ts';
import { type DlrmArchitecture, inputsOf } from './architecture.ts';
import { type FeatureRequest, requestByFeature } from './request/feature-request.ts';
import type { DlrmRequest } from './request/request.ts';
import { type CandidatePart, scoreRequest, type UserPart } from './request/score.ts';

export interface DlrmOptions {
  /** How the embedding stage runs; default: the saved plan, else the heuristic one. */
  readonly plan?: PlanChoice;
  /** What will be looked up, where it is known: which of several saved plans is taken. */
  readonly traffic?: PlanTraffic;
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
  /** [batchSize], where the model's description says that its output is the logit. */
  readonly logits?: Float32Array;
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
  /** Undefined: they are on the device already. */
  readonly dense: Float32Array | undefined;
  readonly bags: PlacedBags;
  readonly probabilities: Float32Array;
}

/** A request whose arrays are in device memory, to be scored as often as one likes. Dispose it before its model closes. */
export class PlacedRequest implements Disposable {
  readonly batchSize: number;
  /** @internal */
  readonly bags: PlacedBags;
  readonly #owned: readonly Disposable[];
  readonly #run: (probabilities: Float32Array, options: RunOptions) => Promise<RunReport>;

  /** @internal For DlrmModel.place. */
  constructor(
    bags: PlacedBags,
    owned: readonly Disposable[],
    run: (probabilities: Float32Array, options: RunOptions) => Promise<RunReport>,
  ) {
    this.batchSize = bags.batchSize;
    this.bags = bags;
    this.#owned = owned;
    this.#run = run;
  }

  /** @internal */
  run(probabilities: Float32Array, options: RunOptions): Promise<RunReport> {
    return this.#run(probabilities, options);
  }

  [Symbol.dispose](): void {
    for (const part of [...this.#owned, this.bags]) part[Symbol.dispose]();
  }
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
  readonly #checking: IndexChecking;
  readonly #closesBackend: boolean;
  readonly #programs: BatchPrograms<Batch>;
  /** The stage that each operation belongs to; the upload is the second of them. */
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
    this.#checking = options.indexChecking ?? 'error';
    this.#programs = new BatchPrograms(backend, (capacity, workspace) => {
      return this.#program(capacity, workspace).programOf;
    });
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
      const { plan, source } = await choosePlan(
        options.plan,
        { device: backend.device, tables },
        options.traffic === undefined ? {} : { traffic: options.traffic },
      );
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
   * Scores a batch. The request's arrays must not change until it is done; NaN in `dense` passes through. Bags per user
   * are pooled once for all candidates of the user.
   * @throws RequestError when the request does not fit the model, or, in `error` mode, for a bad index or offset.
   */
  predict(
    request: DlrmRequest | PlacedRequest,
    options: { readonly stages: true },
  ): Promise<StagedPrediction>;
  predict(request: DlrmRequest | PlacedRequest, options?: PredictOptions): Promise<Prediction>;
  predict(
    request: DlrmRequest | PlacedRequest,
    { stages = false }: PredictOptions = {},
  ): Promise<Prediction> {
    return this.#inFlight.run(async () => {
      const began = performance.now();
      const probabilities = new Float32Array(request.batchSize);
      const options = { timing: stages ? 'operations' : 'none' } as const;
      const placed = request instanceof PlacedRequest;
      const { seconds, findings } = placed
        ? await request.run(probabilities, options)
        : await this.#runFromHost(request, probabilities, options);
      const latencyMs = performance.now() - began;
      const prediction = { ...this.#outputs(probabilities), latencyMs, findings };
      if (!stages) return prediction;
      const names = placed ? this.#stages.toSpliced(1, 1) : this.#stages;
      return Object.assign(prediction, { stages: stageTimes(names, seconds, latencyMs) });
    });
  }

  /**
   * Scores candidates for a user, or for several: the user's bags are pooled once. The probabilities are those of the
   * candidates, in their order.
   * @throws RequestError as `predict`, and for a table that is not given exactly once.
   */
  score(
    user: UserPart,
    candidates: CandidatePart,
    options: { readonly stages: true },
  ): Promise<StagedPrediction>;
  score(user: UserPart, candidates: CandidatePart, options?: PredictOptions): Promise<Prediction>;
  async score(user: UserPart, candidates: CandidatePart, options: PredictOptions = {}): Promise<Prediction> {
    return this.predict(scoreRequest(this.architecture, user, candidates), options);
  }

  /**
   * The request of lookups and numbers by the names of the model's features: ids become rows, raw numbers are preprocessed.
   * @throws RequestError naming feature and sample; WorkloadError VOCABULARY_INVALID.
   */
  request(given: FeatureRequest): Promise<DlrmRequest> {
    return requestByFeature(inputsOf(this.architecture), given);
  }

  /**
   * Brings a request's arrays to the device; they may change afterwards. It takes device memory for its matrices too.
   * @throws RequestError when the request does not fit the model; DeviceError OUT_OF_MEMORY.
   */
  place(request: DlrmRequest): Promise<PlacedRequest> {
    return this.#inFlight.run(async () => {
      checkDense(request, this.architecture.denseFeatures);
      const { batchSize, dense } = request;
      const bags = this.#backend.placeBags(this.#placed.tables, request);
      const workspace = new Workspace(this.#backend);
      const kept = this.#backend.keep();
      const owned = [kept, workspace];
      try {
        const { input, programOf } = this.#program(this.#backend.capacityFor(batchSize), workspace);
        await this.#backend.run([{ op: 'upload', source: dense, output: input }]);
        const run = (probabilities: Float32Array, options: RunOptions) =>
          kept.run(programOf({ dense: undefined, bags, probabilities }), options);
        // The bags come over with the first run.
        await run(new Float32Array(batchSize), { timing: 'none' });
        return new PlacedRequest(bags, owned, run);
      } catch (error) {
        for (const part of [...owned, bags]) part[Symbol.dispose]();
        throw error;
      }
    });
  }

  /** What the last layer gave, as predictions have it. */
  #outputs(last: Float32Array): Pick<Prediction, 'probabilities' | 'logits'> {
    if (this.architecture.output !== 'logit') return { probabilities: last };
    return { probabilities: last.map((x) => 1 / (1 + Math.exp(-x))), logits: last };
  }

  async #runFromHost(
    request: DlrmRequest,
    probabilities: Float32Array,
    options: RunOptions,
  ): Promise<RunReport> {
    checkDense(request, this.architecture.denseFeatures);
    const { batchSize, dense } = request;
    using bags = this.#backend.placeBags(this.#placed.tables, request);
    return await this.#programs.run(batchSize, { dense, bags, probabilities }, options);
  }

  /**
   * The program for batches of at most `capacity` samples, and where their dense features go. The lookups come first: they
   * take longest, and what else there is to do is done meanwhile.
   */
  #program(capacity: number, workspace: Workspace) {
    const { tables, bottom, interaction, top } = this.#placed;
    const width = bottomWidth(this.architecture);
    const input = workspace.packed(capacity, this.architecture.denseFeatures);
    const z = workspace.matrix(capacity, width + totalDim(tables.tables));
    const probability = workspace.packed(capacity, 1);
    const bottomOperations = bottom.operations(input, columns(z, 0, width), workspace);
    const pooled = columns(z, width, z.cols - width);
    const { operations: interactions, result } = interaction.operations(z, workspace);
    const topOperations = top.operations(result, probability, workspace);
    const of = (stage: Stage, operations: readonly unknown[]) => operations.map(() => stage);
    this.#stages = [
      'embeddingMs',
      'copyMs',
      ...of('bottomMs', bottomOperations),
      ...of('interactionMs', interactions),
      ...of('topMs', topOperations),
      'copyMs',
    ];
    const programOf = ({ dense, bags, probabilities }: Batch): Operation[] => [
      { op: 'embeddingBags', tables, bags, output: pooled, checking: this.#checking },
      ...(dense === undefined ? [] : [{ op: 'upload', source: dense, output: input } as const]),
      ...bottomOperations,
      ...interactions,
      ...topOperations,
      { op: 'download', input: probability, target: probabilities },
    ];
    return { input, programOf };
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
