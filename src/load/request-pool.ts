/** The requests of a run, made before it: sending one takes a number. */
import { at } from '../at.ts';
import { mlperfBagLengths } from '../bench/synthetic-model.ts';
import { UsageError } from '../errors.ts';
import { defaultInputs } from '../model/inputs.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import type { AccessPatternName } from '../workload/access-patterns.ts';
import { createRandom, floats } from '../workload/random.ts';
import { trafficSources } from '../workload/traffic/sources.ts';
import { readTraffic } from '../workload/traffic/traffic.ts';
import { encodeRequest, type IndexType, withHead } from './encode-request.ts';
import type { ServedModel, ServerUrl } from './served-model.ts';
import { MLPERF, requestSizes } from './sizes.ts';
import { SyntheticRequests } from './synthetic-requests.ts';

/** What requests are made of; as it is told to processes. */
export interface RequestSpec {
  /** Files and folders of recorded traffic, as `--trace` names them; without any, requests are drawn. */
  readonly trace?: readonly string[];
  readonly pattern: AccessPatternName;
  /** Default: MLPerf's, of requests of its sizes; else 1. */
  readonly bagLengths?: string;
  /** Samples of a request, as requestSizes takes them. Default: as recorded, else 1. */
  readonly samples?: string;
  readonly indexType: IndexType;
  readonly userFeatures?: string;
  /** Default: all dense features, of requests that are drawn with a user; else none. */
  readonly userDense?: number;
  readonly timeoutUs?: number;
  readonly priority?: number;
  /** Different requests, at most. */
  readonly bodies: number;
  /** Bytes that they may take together. */
  readonly poolBytes: number;
}

/** Requests to choose from. */
export interface RequestPool {
  /** HTTP messages, each whole. */
  readonly messages: readonly Buffer[];
  /** Samples of each. */
  readonly samples: readonly number[];
  /** Whether they come in their order, and not by chance. */
  readonly inOrder: boolean;
  readonly notes: readonly string[];
}

/** MLPerf's sizes have their shares in so many requests. */
const MLPERF_CYCLE = 20;

/** @throws UsageError USAGE for what does not fit the model; what readTraffic throws; DeviceError OUT_OF_MEMORY. */
export async function requestPool(
  server: ServerUrl,
  model: ServedModel,
  spec: RequestSpec,
  seed: number,
): Promise<RequestPool> {
  const { features, denseFeatures } = model;
  const { userDense = spec.userFeatures === undefined ? 0 : denseFeatures } = spec;
  if (userDense > denseFeatures)
    throw new UsageError(
      'USAGE',
      `--user-dense ${userDense}: the model takes ${denseFeatures} dense features`,
    );
  const { indexType, timeoutUs, priority } = spec;
  const form = {
    features: names(features),
    indexType,
    userDense,
    ...(timeoutUs === undefined ? {} : { timeoutUs }),
    ...(priority === undefined ? {} : { priority }),
  };
  const path = `${server.path}/v2/models/${encodeURIComponent(model.name)}/infer`;
  const message = (request: DlrmRequest) => withHead(encodeRequest(request, form), path, server.headers);
  const { requests, notes } =
    spec.trace === undefined
      ? { requests: drawn(model, spec, seed, (request) => message(request).length), notes: [] }
      : await recorded(spec.trace, model, spec, seed);
  const messages: Buffer[] = [];
  const samples: number[] = [];
  for (const request of requests) {
    messages.push(message(request));
    samples.push(request.batchSize);
  }
  return { messages, samples, inOrder: spec.trace !== undefined, notes };
}

/** What of the lookups a spec leaves open. */
export function bagLengthsOf(
  { bagLengths, samples }: Pick<RequestSpec, 'bagLengths' | 'samples'>,
  features: number,
): string {
  if (bagLengths !== undefined) return bagLengths;
  const known = mlperfBagLengths();
  return samples === MLPERF && known.split('/').length === features ? known : '1';
}

function* drawn(
  model: ServedModel,
  spec: RequestSpec,
  seed: number,
  bytesOf: (request: DlrmRequest) => number,
): Generator<DlrmRequest> {
  const { pattern, indexType, userFeatures, samples = '1', bodies, poolBytes } = spec;
  const source = new SyntheticRequests(model, {
    pattern,
    indexType,
    bagLengths: bagLengthsOf(spec, model.features.length),
    seed,
    ...(userFeatures === undefined ? {} : { userFeatures }),
  });
  const usual = requestSizes(samples, bodies, seed);
  const mean = Math.round(usual.reduce((sum, size) => sum + size, 0) / bodies);
  const most = Math.floor(poolBytes / bytesOf(source.next(mean)));
  const count = most >= bodies ? bodies : Math.max(1, most);
  const whole = samples === MLPERF ? Math.max(MLPERF_CYCLE, count - (count % MLPERF_CYCLE)) : count;
  for (const size of requestSizes(samples, whole, seed)) yield source.next(size);
}

async function recorded(
  trace: readonly string[],
  model: ServedModel,
  spec: RequestSpec,
  seed: number,
): Promise<{ readonly requests: DlrmRequest[]; readonly notes: string[] }> {
  const { features, denseFeatures } = model;
  const mapped = features.find(({ kind }) => kind !== 'rows');
  if (mapped !== undefined) {
    throw new UsageError(
      'USAGE',
      `--trace: recorded ids become rows here, and feature ${mapped.name} takes ids of a ${mapped.kind}`,
      { hint: 'serve the model without inputs of its own, or draw requests' },
    );
  }
  for (const [option, value] of [
    ['--bag-lengths', spec.bagLengths],
    ['--user-features', spec.userFeatures],
  ]) {
    if (value !== undefined)
      throw new UsageError('USAGE', `${option} shapes requests that are drawn, and --trace has its own`);
  }
  if (spec.samples !== undefined && !/^\d+$/.test(spec.samples)) {
    throw new UsageError('USAGE', `--samples ${spec.samples}: requests of --trace have one size`, {
      hint: 'pass a number, or none: then requests are as they were recorded',
    });
  }
  const tables = features.map(({ name, rows }) => ({
    name,
    rows,
    dim: 1,
    rowFormat: 'float32' as const,
    mode: 'sum' as const,
    weight: { dtype: 'float32' as const, shape: [rows, 1], seed: 1 },
  }));
  const inputs = defaultInputs(names(features), denseFeatures);
  const described = { naming: 'hotrow' as const, tables, denseFeatures, inputs };
  const all: DlrmRequest[] = [];
  const notes: string[] = [];
  for (const source of await trafficSources(trace)) {
    const traffic = await readTraffic(source, described, {
      usualBatchSize: 1,
      ...(spec.samples === undefined ? {} : { batchSize: Number(spec.samples) }),
      bagLengths: '1',
      seed,
      batches: spec.bodies,
    });
    notes.push(...traffic.notes);
    const random = createRandom(seed);
    for (const batch of traffic.batches) {
      const request =
        'dense' in batch
          ? batch
          : { ...batch, denseFeatures, dense: floats(random, batch.batchSize * denseFeatures) };
      all.push(request);
    }
  }
  return { requests: all, notes };
}

const names = (features: ServedModel['features']) => features.map(({ name }) => name);

/** The number of each next request: in order, or by chance, every one as likely. */
export function picker({ messages, inOrder }: RequestPool, seed: number): () => number {
  const random = createRandom(seed);
  let next = random.integer(messages.length);
  if (!inOrder) return () => random.integer(messages.length);
  return () => {
    next = (next + 1) % messages.length;
    return next;
  };
}

/** Least, mean and most of some numbers, rounded. */
export function spread(values: readonly number[]): { least: number; mean: number; most: number } {
  const sum = values.reduce((total, value) => total + value, 0);
  return {
    least: values.reduce((least, value) => Math.min(least, value), at(values, 0)),
    mean: Math.round((10 * sum) / values.length) / 10,
    most: values.reduce((most, value) => Math.max(most, value), 0),
  };
}
