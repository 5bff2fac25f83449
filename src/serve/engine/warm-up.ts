/** Runs a model before its first request: programs are prepared and captured, and the policy learns how long batches take. */
import { at } from '../../at.ts';
import type { Backend } from '../../backend/backend.ts';
import { hasWideIndices } from '../../ffi/merge-requests.ts';
import type { DlrmModel } from '../../model/dlrm.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { syntheticRequest } from '../../workload/synthetic.ts';
import { LatencyModel, type Measured } from '../batching/latency-model.ts';
import { nowMs } from './clock.ts';

/** Sizes of batches where any size runs alike: each so many times the one before it. */
const GROWTH = 4;
/** Runs of a size: the first prepares it, the second captures it, for each batch at once; the fastest of the others counts. */
const RUNS = 4;
const PREPARING_RUNS = 2;
/** Lookups of a bag, where nothing is known of them. */
const USUAL_BAG_LENGTHS = '10';

/** What of a model is warmed up. */
export type WarmUpModel = Pick<DlrmModel, 'architecture' | 'predict' | 'device'>;

export interface WarmUpOptions {
  readonly backend: Pick<Backend, 'capacityFor'>;
  readonly mostSamples: number;
  /** Batches under way at once: each has programs of its own. */
  readonly atOnce: number;
  /** No batch takes longer in service, ms. */
  readonly longestMs: number;
  /** As `--bag-lengths` says it. */
  readonly bagLengths: string | undefined;
  /** What batches of a model like it take: then none is timed, and programs alone are prepared. */
  readonly known?: readonly Measured[] | undefined;
  readonly onProgress: (samples: number) => void;
}

/** What batches of growing size take, until one takes longer than `longestMs` or has `mostSamples`. */
export async function warmUp(model: WarmUpModel, options: WarmUpOptions): Promise<readonly Measured[]> {
  const { backend, mostSamples, atOnce, longestMs, bagLengths = USUAL_BAG_LENGTHS } = options;
  const { known, onProgress } = options;
  const expected =
    known && new LatencyModel({ capacityOf: (samples) => backend.capacityFor(samples), warmUp: known });
  const { tables, denseFeatures } = model.architecture;
  const measured: Measured[] = [];
  for (const samples of sizes(model, options)) {
    onProgress(samples);
    const shape = {
      tables,
      batchSize: samples,
      pattern: 'random',
      bagLengths,
      seed: 1,
      denseFeatures,
    } as const;
    const request = asMerged(syntheticRequest(shape), tables);
    // Kernels for bags per user are compiled once, for any size.
    if (measured.length === 0 && tables.length > 0) await model.predict(withUser(request));
    for (let run = 0; run < PREPARING_RUNS; run++)
      await Promise.all(Array.from({ length: atOnce }, () => model.predict(request)));
    const ms = expected?.predictMs(samples) ?? (await fastestMs(model, request));
    measured.push({ samples, ms });
    if (samples >= mostSamples || ms > longestMs) break;
  }
  return known ?? measured;
}

async function fastestMs(model: WarmUpModel, request: DlrmRequest): Promise<number> {
  let ms = Number.POSITIVE_INFINITY;
  for (let run = PREPARING_RUNS; run < RUNS; run++) {
    const beganMs = nowMs();
    await model.predict(request);
    ms = Math.min(ms, nowMs() - beganMs);
  }
  return ms;
}

/** With arrays as merged batches have them: int32 where rows can be told so, offsets with their end. */
function asMerged(request: DlrmRequest, tables: readonly { readonly rows: number }[]): DlrmRequest {
  const bags = request.bags.map(({ indices, offsets }, t) => {
    const starts = new Int32Array(request.batchSize + 1).fill(indices.length);
    starts.set(lowWords(offsets as BigInt64Array));
    const isWide = hasWideIndices(at(tables, t).rows);
    return { indices: isWide ? indices : lowWords(indices as BigInt64Array), offsets: starts };
  });
  return { ...request, bags };
}

/** int64 values from 0 to 2^31 as int32. `Int32Array.from` would make a BigInt of each, which takes longer than the batch. */
function lowWords({ buffer, byteOffset, length }: BigInt64Array): Int32Array {
  const words = new Int32Array(buffer, byteOffset, 2 * length);
  const low = new Int32Array(length);
  for (let i = 0; i < length; i++) low[i] = words[2 * i] as number;
  return low;
}

/** Half of the tables have the bag of one user. */
function withUser({ bags, ...request }: DlrmRequest): DlrmRequest {
  const half = Math.ceil(bags.length / 2);
  const ofUser = bags.map(({ indices, offsets }, t) => {
    if (t >= half) return { indices, offsets };
    const end = Number(offsets[1] ?? 0);
    return { indices: indices.subarray(0, end), offsets: Int32Array.of(0, end), perUser: true };
  });
  return { ...request, bags: ofUser, users: Int32Array.of(0, request.batchSize) };
}

/** Devices that compile and capture have a program for each capacity, which the first batch of a size would wait for. */
function* sizes(
  model: Pick<WarmUpModel, 'device'>,
  { backend, mostSamples, known }: Pick<WarmUpOptions, 'backend' | 'mostSamples' | 'known'>,
): Iterable<number> {
  const { compilesKernels } = model.device.capabilities;
  for (let samples = 1; ; ) {
    yield Math.min(samples, mostSamples);
    if (samples >= mostSamples || (known !== undefined && !compilesKernels)) return;
    samples = compilesKernels ? backend.capacityFor(samples + 1) : samples * GROWTH;
  }
}
