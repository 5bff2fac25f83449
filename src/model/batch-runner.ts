/** Batches of a model that is placed: requests from the host, whole or in parts, and requests that are on the device. */
import { at } from '../at.ts';
import type { AdmissionRequest } from '../backend/admission.ts';
import { Apart } from '../backend/apart.ts';
import type {
  Backend,
  Bindings,
  Matrix,
  Operation,
  PlacedBags,
  PlacedTables,
  RunOptions,
  RunReport,
} from '../backend/backend.ts';
import { BatchPrograms, PARTS_AT_ONCE } from '../backend/batch-programs.ts';
import { Scope } from '../backend/scope.ts';
import { Workspace } from '../backend/workspace.ts';
import { allocated } from '../checks/arguments.ts';
import { reading } from '../checks/value.ts';
import type { IndexChecking } from '../embedding/bag.ts';
import { batchParts } from '../embedding/batch-parts.ts';
import { checkBagShapes, checkBatchSize } from '../embedding/check-bags.ts';
import { UsageError } from '../errors.ts';
import type { ModelArchitecture } from './architecture.ts';
import type { Head } from './head.ts';
import type { PlacedHead } from './placed-head.ts';
import { type HeldParts, type PlacedRequest, placedRequest } from './placed-request.ts';
import type { Stage } from './prediction.ts';
import { checkDense } from './request/check-dense.ts';
import type { DlrmRequest } from './request/request.ts';
import { runParts } from './run-parts.ts';

/** What the head's outputs are [batchSize, width] each, in their order, and what the device reports. */
export interface Scored {
  readonly outputs: readonly Float32Array[];
  readonly report: RunReport;
}

/** A model on a device. */
export interface Placed {
  readonly tables: PlacedTables;
  readonly head: PlacedHead;
}

/** What is run, and where. */
export interface BatchRunnerOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  readonly head: Head;
  readonly placed: Placed;
  readonly checking: IndexChecking;
}

/** Runs batches through a placed model. Disposing it gives back the programs and not the model. */
export class BatchRunner implements Disposable {
  readonly #backend: Backend;
  readonly #architecture: ModelArchitecture;
  readonly #head: Head;
  readonly #placed: Placed;
  readonly #checking: IndexChecking;
  /** One for each of the head's outputs. */
  readonly #outputSlots: readonly string[];
  readonly #programs: BatchPrograms;
  /** A batch in parts sees all of an update or nothing of it, as a program does. */
  readonly #rows = new Apart<'parts' | 'update'>();

  constructor({ backend, architecture, head, placed, checking }: BatchRunnerOptions) {
    this.#backend = backend;
    this.#architecture = architecture;
    this.#head = head;
    this.#placed = placed;
    this.#checking = checking;
    this.#outputSlots = head.outputs.map(({ name }) => `output ${name}`);
    this.#programs = new BatchPrograms(backend, (capacity, workspace) => {
      return this.#program(capacity, workspace).fromHost;
    });
  }

  /** As `DlrmModel.reserveBatches`. */
  reserve(samples: number, atOnce: number): void {
    this.#programs.reserve(samples, atOnce);
  }

  /** Until it is disposed no batch is between two of its parts. */
  updating(): Disposable | Promise<Disposable> {
    return this.#rows.enter('update');
  }

  /** As `DlrmModel.place`. */
  async place(request: DlrmRequest): Promise<PlacedRequest> {
    const turn = this.#backend.admission.enter(this.#turnOf('place', request));
    using _turn = turn instanceof Promise ? await turn : turn;
    const bags = this.#backend.placeBags(this.#placed.tables, request);
    const { batchSize } = bags;
    const owned: Disposable[] = [];
    try {
      const source = checkDense(request, batchSize, this.#architecture.denseFeatures);
      const capacity = this.#backend.capacityFor(batchSize);
      const { block, made } = Workspace.of(this.#backend, (workspace) => this.#program(capacity, workspace));
      owned.push(block);
      const { dense, onDevice } = made;
      if (dense !== undefined) await this.#backend.run([{ op: 'upload', source, output: dense }]);
      const executable = this.#backend.prepare(onDevice);
      owned.unshift(executable);
      // The bags come over with the first run.
      await executable.run(this.#bindings(bags, this.#arrays(batchSize)), { timing: 'none' });
      return placedRequest({ owner: this, bags, owned, executable });
    } catch (error) {
      for (const part of [...owned, bags]) part[Symbol.dispose]();
      throw error;
    }
  }

  /** Runs a request as it is, or in parts where a program for it would leave no room for others. `call`: has what the run needs. */
  async runFromHost(
    call: Scope,
    request: DlrmRequest,
    options: RunOptions,
    signal: AbortSignal | undefined,
  ): Promise<Scored> {
    const asked = this.#turnOf('predict', request, signal);
    const cut = this.#partsOf(request);
    if (cut !== undefined) {
      const apart = this.#rows.enter('parts');
      call.use(apart instanceof Promise ? await apart : apart);
    }
    const turn = this.#backend.admission.enter(
      cut === undefined ? asked : { ...asked, bytes: this.#programs.bytesFor(cut.samplesAtOnce) },
    );
    call.use(turn instanceof Promise ? await turn : turn);
    if (cut === undefined) return this.#runWhole(call, request, options);
    const { batchSize, dense, parts } = cut;
    const { tables, denseFeatures } = this.#architecture;
    const outputs = this.#arrays(batchSize);
    const asOne = { tables, what: 'predict', signal };
    const report = await runParts(parts, asOne, async ({ from, bags, ...part }) => {
      using own = new Scope();
      const rows = dense.subarray(from * denseFeatures, (from + part.batchSize) * denseFeatures);
      const users = part.users === undefined ? {} : { users: part.users };
      const request = { batchSize: part.batchSize, bags, ...users, dense: rows, denseFeatures };
      const scored = await this.#runWhole(own, request, options);
      for (const [i, { width }] of this.#head.outputs.entries())
        at(outputs, i).set(at(scored.outputs, i), from * width);
      return scored.report;
    });
    return { outputs, report };
  }

  /** Runs a request that `place` has brought to the device. `call`: has what the run needs. */
  async runPlaced(
    call: Scope,
    placed: HeldParts,
    options: RunOptions,
    signal: AbortSignal | undefined,
  ): Promise<Scored> {
    const { owner, bags, executable } = placed;
    if (owner !== this)
      throw new UsageError('OPTION_INVALID', 'predict: the request was placed for another model', {
        option: 'request',
      });
    // Its matrices are there already.
    const turn = this.#backend.admission.enter({ bytes: 0, what: 'predict', signal });
    call.use(turn instanceof Promise ? await turn : turn);
    call.use(placed.hold());
    const outputs = this.#arrays(bags.batchSize);
    return { outputs, report: await executable.run(this.#bindings(bags, outputs), options) };
  }

  [Symbol.dispose](): void {
    this.#programs[Symbol.dispose]();
  }

  /** What a call about a request asks of the device. @throws RequestError TENSOR_SHAPE. */
  #turnOf(what: string, request: DlrmRequest, signal?: AbortSignal): AdmissionRequest {
    const batchSize = checkBatchSize(reading(`${what}: request`, () => request.batchSize));
    return { bytes: this.#programs.bytesFor(batchSize), what, signal };
  }

  /** The parts of a request that is to be run in parts. */
  #partsOf(request: DlrmRequest) {
    const samples = this.#programs.partSamples(request.batchSize);
    if (samples === undefined) return undefined;
    const { tables, denseFeatures } = this.#architecture;
    const batch = checkBagShapes(tables, request);
    const { batchSize } = batch;
    const dense = checkDense(request, batchSize, denseFeatures);
    const parts = batchParts(batch, samples);
    return parts && { batchSize, dense, parts, samplesAtOnce: Math.min(batchSize, PARTS_AT_ONCE * samples) };
  }

  /** `call`: has what the run needs. */
  async #runWhole(call: Scope, request: DlrmRequest, options: RunOptions): Promise<Scored> {
    const bags = call.use(this.#backend.placeBags(this.#placed.tables, request));
    const { batchSize } = bags;
    const dense = checkDense(request, batchSize, this.#architecture.denseFeatures);
    const { executable } = call.use(this.#programs.borrow(bags));
    const outputs = this.#arrays(batchSize);
    const report = await executable.run(this.#bindings(bags, outputs, dense), options);
    return { outputs, report };
  }

  /** Arrays for the outputs of a batch. @throws DeviceError OUT_OF_MEMORY. */
  #arrays(batchSize: number): Float32Array[] {
    return allocated('the outputs', () =>
      this.#head.outputs.map(({ width }) => new Float32Array(batchSize * width)),
    );
  }

  /** What a run is given, by its slots. */
  #bindings(bags: PlacedBags, outputs: readonly Float32Array[], dense?: Float32Array): Bindings {
    const bindings: Record<string, Bindings[string]> =
      dense === undefined || this.#head.dense === undefined ? { bags } : { dense, bags };
    for (const [i, output] of outputs.entries()) bindings[at(this.#outputSlots, i)] = output;
    return bindings;
  }

  /**
   * The program for batches of at most `capacity` samples, with slots `bags`, `dense` and one for each output, or for dense
   * features that are on the device, in `dense`, already. The lookups come first: they take longest, and what else there is to
   * do is done meanwhile.
   */
  #program(capacity: number, workspace: Workspace) {
    const { tables, head } = this.#placed;
    const { dense, pooled, operations, outputs } = head.program(capacity, workspace);
    const lookups = inStage('embeddingMs', [
      { op: 'embeddingBags', tables, bags: 'bags', output: pooled, checking: this.#checking },
    ]);
    const downloads = outputs.map(
      (input: Matrix, i): Operation => ({ op: 'download', input, target: at(this.#outputSlots, i) }),
    );
    const rest = [...operations, ...inStage('copyMs', downloads)];
    const uploads = inStage(
      'copyMs',
      dense === undefined ? [] : [{ op: 'upload', source: 'dense', output: dense }],
    );
    return { dense, fromHost: [...lookups, ...uploads, ...rest], onDevice: [...lookups, ...rest] };
  }
}

function inStage(stage: Stage, operations: readonly Operation[]): Operation[] {
  return operations.map((operation) => ({ ...operation, stage }));
}
