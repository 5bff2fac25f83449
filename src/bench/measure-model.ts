/** The whole model: latency, throughput with several batches in flight, and where the time goes. */
import { at } from '../at.ts';
import type { Backend, Ceilings } from '../backend/backend.ts';
import { HostBags } from '../backend/host-arrays.ts';
import { throwIfAborted } from '../checks/abort.ts';
import type { DensePrecision, DeviceDescription } from '../device.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import { DlrmModel } from '../model/dlrm.ts';
import type { PlacedRequest } from '../model/placed-request.ts';
import type { StageTimes } from '../model/prediction.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import type { Plan } from '../plan/plan.ts';
import { planLabel } from '../plan/plan.ts';
import type { OnProgress } from '../progress.ts';
import { median } from '../tuner/quantile.ts';
import { type ModelRow, PLACES } from './results.ts';
import { timing } from './statistics.ts';
import type { ModelWorkload } from './workload.ts';

/** Where the arrays of requests are. */
export type Inputs = keyof typeof PLACES;

/** Predictions before those that are timed: where there are any, until kernels are compiled and programs are captured. */
export function warmUpOn({ capabilities }: DeviceDescription): number {
  return capabilities.compilesKernels ? 10 : 2;
}

/** What an abort ends. */
const MEASURING = 'measuring the model';

/** Batches of host inputs that a GPU is given at once: one comes over, one is computed, one is staged. */
const HOST_IN_FLIGHT = 3;

export interface MeasureModelOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  readonly plan: Plan;
  /** How dense layers multiply; default: the device's. */
  readonly precision?: DensePrecision;
  readonly workloads: readonly ModelWorkload[];
  /** Places of the inputs; default: all that the device knows. */
  readonly inputs?: readonly Inputs[];
  /** Timed predictions, after others to warm up. */
  readonly rounds: number;
  readonly ceilings: Ceilings;
  readonly progress?: OnProgress;
  /** Asked before each workload but the first; true leaves the others out. */
  readonly stop?: () => boolean;
  /** Gives it up, between predictions. */
  readonly signal?: AbortSignal | undefined;
}

/** A row that has not been compared yet. */
export type MeasuredModelRow = Omit<ModelRow, 'speedup'>;

/** Times a model under one plan on every workload; where a device has memory of its own, with inputs there and in pinned memory too. @throws AbortError. */
export async function measureModel(options: MeasureModelOptions): Promise<MeasuredModelRow[]> {
  const { backend, architecture, plan, precision, workloads, progress, signal } = options;
  await using model = await DlrmModel.create(backend, architecture, {
    plan,
    ...(precision === undefined ? {} : { precision }),
    ...(progress === undefined ? {} : { onProgress: progress }),
    ...(signal && { signal }),
  });
  const rows: MeasuredModelRow[] = [];
  for (const [w, workload] of workloads.entries()) {
    if (w > 0 && options.stop?.() === true) break;
    progress?.(`whole model, ${planLabel(plan)}, ${workload.pattern}`, w + 1, workloads.length);
    for (const inputs of placesOn(backend.device, options.inputs))
      rows.push(await MEASURE[inputs](model, workload, options));
  }
  return rows;
}

/** Where inputs can be on a device, of those that are wanted. */
function placesOn({ capabilities }: DeviceDescription, wanted?: readonly Inputs[]): Inputs[] {
  const known: readonly Inputs[] = capabilities.hasOwnMemory ? ['device', 'pinned', 'host'] : ['host'];
  return known.filter((place) => wanted === undefined || known.length === 1 || wanted.includes(place));
}

const MEASURE = {
  device: measurePlaced,
  pinned: measurePinned,
  host: (model: DlrmModel, workload: ModelWorkload, options: MeasureModelOptions) =>
    measureRequests(model, workload, workload.requests, 'host', options),
} as const;

async function measurePlaced(model: DlrmModel, workload: ModelWorkload, options: MeasureModelOptions) {
  const placed: PlacedRequest[] = [];
  try {
    for (const request of workload.requests) placed.push(await model.place(request));
    return await measureRequests(model, workload, placed, 'device', options);
  } finally {
    for (const request of placed) request[Symbol.dispose]();
  }
}

async function measurePinned(model: DlrmModel, workload: ModelWorkload, options: MeasureModelOptions) {
  const pinned: HostBags[] = [];
  try {
    for (const { bags } of workload.requests) pinned.push(new HostBags(options.backend, bags));
    const requests = workload.requests.map((request, i) => ({
      ...request,
      bags: at(pinned, i).bags,
    }));
    return await measureRequests(model, workload, requests, 'pinned', options);
  } finally {
    for (const one of pinned) one[Symbol.dispose]();
  }
}

async function measureRequests(
  model: DlrmModel,
  { pattern, requests, distinctShare }: ModelWorkload,
  rotation: readonly (DlrmRequest | PlacedRequest)[],
  inputs: Inputs,
  { backend, architecture, rounds, ceilings, signal }: MeasureModelOptions,
): Promise<MeasuredModelRow> {
  const requestOf = (round: number) => at(rotation, round % rotation.length);
  const latencies: number[] = [];
  const warmUp = warmUpOn(backend.device);
  for (let round = 0; round < warmUp + rounds; round++) {
    throwIfAborted(signal, MEASURING);
    const { latencyMs } = await model.predict(requestOf(round));
    if (round >= warmUp) latencies.push(latencyMs);
  }
  const inFlight = inFlightOf(backend, inputs, rotation.length);
  const latency = timing(latencies);
  const batchMs = inFlight === 1 ? latency.medianMs : await throughput(model, requestOf, rounds, inFlight);
  throwIfAborted(signal, MEASURING);
  // Apart from those above: taking the stages' times takes time.
  const stages: StageTimes[] = [];
  for (let round = 0; round < Math.ceil(rounds / 2); round++) {
    throwIfAborted(signal, MEASURING);
    stages.push((await model.predict(requestOf(round), { stages: true })).stages);
  }
  const stage = (name: keyof StageTimes) => median(stages.map((times) => times[name]));
  const staged = median(stages.map((times) => Object.values(times).reduce((sum, ms) => sum + ms, 0)));
  const [first] = requests as [DlrmRequest];
  return {
    stage: 'model',
    implementation: 'hotrow',
    device: backend.device.id,
    pattern,
    variant: planLabel(model.plan),
    plan: model.plan,
    precision: model.precision,
    inputs,
    inFlight,
    batchSize: first.batchSize,
    tables: architecture.tables.length,
    lookups: first.bags.reduce((sum, { indices }) => sum + indices.length, 0),
    distinctShare,
    cacheState: `warm, requests in rotation; inputs in ${PLACES[inputs]}`,
    timing: latency,
    batchMs,
    embeddingMs: stage('embeddingMs'),
    bottomMs: stage('bottomMs'),
    interactionMs: stage('interactionMs'),
    topMs: stage('topMs'),
    copyMs: stage('copyMs'),
    hostMs: stage('hostMs'),
    embeddingShare: Math.min(1, stage('embeddingMs') / staged),
    samplesPerSecond: (first.batchSize / batchMs) * 1e3,
    ...(inputs === 'device' ? {} : inputRate(first, batchMs, ceilings)),
  };
}

/** A placed request runs once at a time. */
function inFlightOf({ device }: Backend, inputs: Inputs, requests: number): number {
  if (!device.capabilities.runsBesideHost) return 1;
  return inputs === 'device' ? requests : HOST_IN_FLIGHT;
}

/** Ms of a batch with `inFlight` of them under way. */
async function throughput(
  model: DlrmModel,
  requestOf: (round: number) => DlrmRequest | PlacedRequest,
  rounds: number,
  inFlight: number,
): Promise<number> {
  const underWay: Promise<unknown>[] = [];
  let began = 0;
  // Several times over before the clock starts: the first batches at once take pinned memory, which takes its time.
  const warmUp = 4 * inFlight;
  for (let round = -warmUp; round < rounds; round++) {
    const place = (round + warmUp) % inFlight;
    await underWay[place];
    if (round === 0) began = performance.now();
    underWay[place] = model.predict(requestOf(round + warmUp));
  }
  await Promise.all(underWay);
  // What was under way when the clock started takes part too, and as much more was started than ended before it.
  return (performance.now() - began) / (rounds + inFlight - 1);
}

/** What comes over from the host, and its share of what the connection carries. */
function inputRate({ dense, bags }: DlrmRequest, batchMs: number, { hostCopyBytesPerSecond }: Ceilings) {
  if (hostCopyBytesPerSecond === undefined) return {};
  const bytes = bags.reduce(
    (sum, { indices, offsets, weights }) =>
      sum + indices.byteLength + offsets.byteLength + (weights?.byteLength ?? 0),
    dense.byteLength,
  );
  const bytesPerSecond = bytes / (batchMs / 1e3);
  return {
    inputGigabytesPerSecond: bytesPerSecond / 1e9,
    inputLimitShare: bytesPerSecond / hostCopyBytesPerSecond,
  };
}
