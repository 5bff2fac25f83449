/** A model placed on a device: dense features and bags in, click probabilities or what else it gives out. */
import { bytesIn } from '../backend/admission.ts';
import type { Backend } from '../backend/backend.ts';
import { ownBackend } from '../backend/guarded/backend.ts';
import { InFlight } from '../backend/in-flight.ts';
import { keepingPlaced } from '../backend/keep-placed.ts';
import { Scope } from '../backend/scope.ts';
import { abortSignal, throwIfAborted } from '../checks/abort.ts';
import { called, flag, membersOf, oneOf, optional, record, whole } from '../checks/value.ts';
import { DENSE_PRECISIONS, type DensePrecision, precisionOn } from '../device.ts';
import { INDEX_CHECKING, type IndexArray, type IndexChecking } from '../embedding/bag.ts';
import { MOST_SAMPLES } from '../embedding/check-bags.ts';
import type { RowValues } from '../embedding/row-values.ts';
import { UsageError } from '../errors.ts';
import { type Placement, parsePlacement } from '../plan/placement.ts';
import { type Plan, type PlanChoice, planChoice } from '../plan/plan.ts';
import { choosePlan, type PlanTraffic, planTraffic } from '../plan/saved-plans.ts';
import type { OnProgress } from '../progress.ts';
import { inputsOf, type ModelArchitecture } from './architecture.ts';
import { BatchRunner, type Placed } from './batch-runner.ts';
import { checkArchitecture } from './check-architecture.ts';
import { placeCollection } from './collection.ts';
import { type Head, headOf } from './head.ts';
import { checkOverwrites, overwriteRows } from './overwrite.ts';
import { PlacedHead, storedPrecision } from './placed-head.ts';
import { type PlacedRequest, partsOf } from './placed-request.ts';
import {
  type Prediction,
  type PredictOptions,
  predictionOf,
  type StagedPrediction,
  stageTimes,
} from './prediction.ts';
import type { FeatureRequest } from './request/feature-request.ts';
import type { DlrmRequest } from './request/request.ts';
import { boundByFeature } from './request/request-by-feature.ts';
import { type CandidatePart, scoreRequest, type UserPart } from './request/score.ts';
import { tableOf } from './table-number.ts';

export interface DlrmOptions {
  /** How the embedding stage runs; default: the saved plan, else the heuristic one. */
  readonly plan?: PlanChoice;
  /** What will be looked up, where it is known: which of several saved plans is taken. */
  readonly traffic?: PlanTraffic;
  /** Where the rows of each table live; default: on the device. */
  readonly placement?: Placement;
  /**
   * How dense layers multiply; default: float8_e4m3 for models whose layers have its scales, on devices that have it; else the first
   * that the device names, TF32 on GPUs, float32 on CPUs.
   */
  readonly precision?: DensePrecision;
  /** What happens to bad indices and offsets; default `error`. */
  readonly indexChecking?: IndexChecking;
  /** Close the backend together with the model; default: it stays the caller's. */
  readonly closesBackend?: boolean;
  /** Told what is placed. */
  readonly onProgress?: OnProgress;
  /** Gives the placing up, between tables and blocks; what was placed is given back. */
  readonly signal?: AbortSignal;
}

/** Other weights, ready to take the place of a model's. Where that is not begun, it is disposed. */
export interface ModelOverwrite extends Disposable {
  /**
   * Closes the model, after calls under way, and writes the rows of the other over those it had on the device. Gives back the model
   * that is there now.
   * @throws UsageError, FormatError for files; DeviceError. Neither model is there then.
   */
  run(onProgress?: OnProgress): Promise<DlrmModel>;
}

/** Kept by this file: what has it was made by `DlrmModel.create`. */
const MADE_HERE = Symbol('made by DlrmModel');

const CREATE_OPTIONS = membersOf<DlrmOptions>({
  plan: optional(planChoice),
  traffic: optional(planTraffic),
  placement: optional(parsePlacement),
  precision: optional(oneOf(DENSE_PRECISIONS)),
  indexChecking: optional(oneOf(INDEX_CHECKING)),
  closesBackend: optional(flag),
  onProgress: optional(called<OnProgress>()),
  signal: optional(abortSignal),
});
const PREDICT_OPTIONS = membersOf<PredictOptions>({
  stages: optional(flag),
  signal: optional(abortSignal),
});

const SAMPLES = whole(1, MOST_SAMPLES);
const AT_ONCE = whole(1, 64);

export class DlrmModel implements AsyncDisposable {
  readonly #architecture: ModelArchitecture;
  readonly #head: Head;
  readonly #planSource: string;
  readonly #backend: Backend;
  readonly #placed: Placed;
  readonly #precision: DensePrecision;
  readonly #checking: IndexChecking;
  readonly #closesBackend: boolean;
  /** Whether another model has its tables and its backend from now on. */
  #isHandedOver = false;
  readonly #batches: BatchRunner;
  readonly #inFlight = new InFlight('the model', () => this.#giveBack());

  private constructor(
    made: typeof MADE_HERE,
    backend: Backend,
    architecture: ModelArchitecture,
    head: Head,
    placed: Placed,
    precision: DensePrecision,
    planSource: string,
    options: DlrmOptions,
  ) {
    if (made !== MADE_HERE) throw new UsageError('USAGE', 'a model is made by DlrmModel.create or loadModel');
    this.#planSource = planSource;
    this.#architecture = architecture;
    this.#head = head;
    this.#backend = backend;
    this.#placed = placed;
    this.#precision = precision;
    this.#closesBackend = options.closesBackend ?? false;
    this.#checking = options.indexChecking ?? 'error';
    const checking = this.#checking;
    this.#batches = new BatchRunner({ backend, architecture, head, placed, checking });
  }

  /**
   * Places a model on the device of `backend`.
   * @throws PlanError PLAN_INVALID, PLAN_ILLEGAL; DeviceError DEVICE_UNAVAILABLE for a precision that the device does not have,
   *   OUT_OF_MEMORY; UsageError, FormatError for files that cannot be
   *   read; UsageError OPTION_INVALID, RequestError TENSOR_*, ModelError CHECKPOINT_INCONSISTENT for an architecture that is none.
   * @throws AbortError once `signal` is aborted.
   */
  static async create(
    backend: Backend,
    architecture: ModelArchitecture,
    options: DlrmOptions = {},
  ): Promise<DlrmModel> {
    const chosen = CREATE_OPTIONS(options, 'DlrmModel.create');
    const own = checkArchitecture(architecture);
    const { placement, onProgress, signal } = chosen;
    throwIfAborted(signal, 'DlrmModel.create');
    const where = {
      ...(placement && { placement }),
      ...(onProgress && { onProgress }),
      ...(signal && { signal }),
    };
    const { tables } = own;
    const head = headOf(own);
    const device = ownBackend(backend);
    const precision = precisionOn(device.device, chosen.precision ?? storedPrecision(device.device, head));
    return keepingPlaced(async (keep) => {
      const { plan, source } = await choosePlan(
        chosen.plan,
        { device: device.device, tables },
        chosen.traffic === undefined ? {} : { traffic: chosen.traffic },
      );
      const parts: Placed = {
        tables: keep(await placeCollection(device, tables, plan, where)),
        head: keep(await PlacedHead.place({ backend: device, precision }, head, signal)),
      };
      return new DlrmModel(MADE_HERE, device, own, head, parts, precision, source, chosen);
    });
  }

  get architecture(): ModelArchitecture {
    return this.#architecture;
  }

  /** The model's head: its blocks, and what predictions give. */
  get head(): Head {
    return this.#head;
  }

  /** Where the plan that runs comes from, for people. */
  get planSource(): string {
    return this.#planSource;
  }

  /** The device that the model runs on. */
  get device() {
    return this.#backend.device;
  }

  /** How the dense layers multiply. */
  get precision(): DensePrecision {
    return this.#precision;
  }

  /** The plan of the embedding stage. */
  get plan(): Plan {
    return this.#placed.tables.plan;
  }

  /** Where the rows of each table live. */
  get placement(): Placement {
    return this.#placed.tables.placement;
  }

  /** What the plan brought about on this device, for people. */
  get notes(): readonly string[] {
    const { tables, head } = this.#placed;
    return [...tables.notes, ...head.notes];
  }

  /**
   * Scores a batch. The request's arrays must not change until it is done: where they
   * do, or are transferred, it fails or scores what it read; NaN in `dense` passes through. Bags per user
   * are pooled once for all candidates of the user.
   * @throws RequestError when the request does not fit the model, or, in `error` mode, for a bad index or offset; UsageError
   *   OPTION_INVALID.
   */
  predict(
    request: DlrmRequest | PlacedRequest,
    options: PredictOptions & { readonly stages: true },
  ): Promise<StagedPrediction>;
  predict(request: DlrmRequest | PlacedRequest, options?: PredictOptions): Promise<Prediction>;
  async predict(request: DlrmRequest | PlacedRequest, options?: PredictOptions): Promise<Prediction> {
    const call = new Scope();
    try {
      call.use(this.#inFlight.enter());
      const began = performance.now();
      const { stages = false, signal } = options === undefined ? {} : PREDICT_OPTIONS(options, 'predict');
      const timing = { timing: stages ? 'operations' : 'none' } as const;
      const placed = partsOf(record(request, 'predict: request'));
      const { outputs, report } =
        placed === undefined
          ? await this.#batches.runFromHost(call, request as DlrmRequest, timing, signal)
          : await this.#batches.runPlaced(call, placed, timing, signal);
      throwIfAborted(signal, 'predict');
      const { findings } = report;
      const latencyMs = performance.now() - began;
      const prediction = predictionOf(this.#head, outputs, {
        output: this.#architecture.output,
        latencyMs,
        findings,
      });
      if (!stages) return prediction;
      return Object.assign(prediction, { stages: stageTimes(report.stages, latencyMs) });
    } finally {
      call[Symbol.dispose]();
    }
  }

  /**
   * Scores candidates for a user, or for several: the user's bags are pooled once. The probabilities are those of the
   * candidates, in their order.
   * @throws RequestError as `predict`, and for a table that is not given exactly once.
   */
  score(
    user: UserPart,
    candidates: CandidatePart,
    options: PredictOptions & { readonly stages: true },
  ): Promise<StagedPrediction>;
  score(user: UserPart, candidates: CandidatePart, options?: PredictOptions): Promise<Prediction>;
  async score(user: UserPart, candidates: CandidatePart, options?: PredictOptions): Promise<Prediction> {
    return this.predict(scoreRequest(this.#architecture, user, candidates), options);
  }

  /**
   * The request of lookups and numbers by the names of the model's features: ids become rows, raw numbers are preprocessed.
   * @throws RequestError naming feature and sample; WorkloadError VOCABULARY_INVALID.
   */
  request(given: FeatureRequest): Promise<DlrmRequest> {
    return boundByFeature(inputsOf(this.#architecture), given);
  }

  /**
   * Brings a request's arrays to the device; they may change afterwards. It takes device memory for its matrices too.
   * @throws RequestError when the request does not fit the model; DeviceError OUT_OF_MEMORY.
   */
  async place(request: DlrmRequest): Promise<PlacedRequest> {
    using _call = this.#inFlight.enter();
    return await this.#batches.place(request);
  }

  /**
   * Takes device memory for `atOnce` batches of at most `samples` samples, once: batches of all sizes share it, and none waits for
   * memory. Larger ones, and more at once, take memory of their own as ever.
   * @throws DeviceError OUT_OF_MEMORY, DISPOSED; UsageError OPTION_INVALID.
   */
  reserveBatches(samples: number, atOnce: number): void {
    this.#inFlight.checkOpen();
    this.#batches.reserve(
      SAMPLES(samples, 'reserveBatches: samples'),
      AT_ONCE(atOnce, 'reserveBatches: atOnce'),
    );
  }

  /**
   * Replaces rows of a table, and of those that share its memory. It takes effect between batches: a prediction sees all of it
   * or nothing. Predictions go on while the values come over. Of equal row numbers the last counts. Files and arrays that the
   * rows came from stay as they are.
   * @param table its name, or its number.
   * @param rows int32 or int64 [n].
   * @param values float32 [n, dim], rounded or quantised to the table's format; or rows as the table stores them: the bits of
   *   16-bit floats [n, dim], quantised rows [n, rowBytes].
   * @throws RequestError TABLE_UNEXPECTED, INDEX_OUT_OF_RANGE, TENSOR_DTYPE, TENSOR_SHAPE; ModelError VALUE_NOT_FINITE,
   *   VALUE_OUT_OF_RANGE for values that cannot be quantised; DeviceError OUT_OF_MEMORY; FormatError FILE_CHANGED. No row has
   *   changed then.
   */
  async updateRows(table: string | number, rows: IndexArray, values: RowValues): Promise<void> {
    using _call = this.#inFlight.enter();
    const number = tableOf(table, this.#architecture.tables);
    // Before its turn, which parts of a batch may wait for.
    const apart = this.#batches.updating();
    using _apart = apart instanceof Promise ? await apart : apart;
    const turn = this.#backend.admission.enter({ bytes: bytesIn(values), what: 'updateRows' });
    using _turn = turn instanceof Promise ? await turn : turn;
    await this.#placed.tables.updateRows(number, rows, values);
  }

  /** Rows of a table as it stores them: see `updateRows`. @throws RequestError TABLE_UNEXPECTED, INDEX_OUT_OF_RANGE, TENSOR_DTYPE. */
  async readRows(table: string | number, rows: IndexArray): Promise<RowValues> {
    using _call = this.#inFlight.enter();
    const number = tableOf(table, this.#architecture.tables);
    const turn = this.#backend.admission.enter({ bytes: 0, what: 'readRows' });
    using _turn = turn instanceof Promise ? await turn : turn;
    return await this.#placed.tables.readRows(number, rows);
  }

  /**
   * Makes ready to write another model's weights over this one's, where memory does not hold both: of the other, the head alone is
   * placed, and this one answers until `run`. It keeps its plan, precision and placement.
   * @throws ModelError WEIGHTS_MISFIT, with both figures, where its tables or its head have another shape; DeviceError OUT_OF_MEMORY;
   *   UsageError, FormatError for files; as `create` for an architecture that is none.
   */
  async prepareOverwrite(architecture: ModelArchitecture): Promise<ModelOverwrite> {
    using _call = this.#inFlight.enter();
    const own = checkArchitecture(architecture);
    checkOverwrites(this.#architecture, own);
    const backend = this.#backend;
    const precision = this.#precision;
    const made = headOf(own);
    const head = await PlacedHead.place({ backend, precision }, made);
    let isBegun = false;
    return {
      run: async (onProgress = () => {}) => {
        this.#inFlight.checkOpen();
        isBegun = true;
        this.#isHandedOver = true;
        await this.close();
        const { tables } = this.#placed;
        const options = { closesBackend: this.#closesBackend, indexChecking: this.#checking };
        const placed = { tables, head };
        const source = this.#planSource;
        const model = new DlrmModel(MADE_HERE, backend, own, made, placed, precision, source, options);
        try {
          await overwriteRows(tables, own.tables, onProgress);
          return model;
        } catch (error) {
          await model.close();
          throw error;
        }
      },
      [Symbol.dispose]: () => {
        if (!isBegun) head[Symbol.dispose]();
        isBegun = true;
      },
    };
  }

  /** Gives the model's memory back, after predictions under way. */
  close(): Promise<void> {
    return this.#inFlight.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #giveBack(): void {
    this.#batches[Symbol.dispose]();
    this.#placed.head[Symbol.dispose]();
    if (this.#isHandedOver) return;
    this.#placed.tables[Symbol.dispose]();
    if (this.#closesBackend) this.#backend[Symbol.dispose]();
  }
}
