/** Runs a model before its first request: programs are prepared and captured, and the policy learns how long batches take. */
import type { DlrmModel } from '../../model/dlrm.ts';
import { syntheticRequest } from '../../workload/synthetic.ts';
import type { Measured } from '../batching/latency-model.ts';
import { nowMs } from './clock.ts';

/** Sizes of batches: each 4 times the one before it. */
const GROWTH = 4;
/** Runs of a size: the first prepares, the second captures, the fastest of the others counts. */
const RUNS = 4;
const PREPARING_RUNS = 2;
/** Lookups of a bag, where nothing is known of them. */
const USUAL_BAG_LENGTHS = '10';

/** What batches of growing size take, until one takes longer than `longestMs` or has `mostSamples`. */
export async function warmUp(
  model: DlrmModel,
  {
    mostSamples,
    longestMs,
    bagLengths = USUAL_BAG_LENGTHS,
  }: { readonly mostSamples: number; readonly longestMs: number; readonly bagLengths: string | undefined },
): Promise<Measured[]> {
  const { tables, denseFeatures } = model.architecture;
  const measured: Measured[] = [];
  for (let samples = 1; ; samples = Math.min(mostSamples, samples * GROWTH)) {
    const shape = {
      tables,
      batchSize: samples,
      pattern: 'random',
      bagLengths,
      seed: 1,
      denseFeatures,
    } as const;
    const request = syntheticRequest(shape);
    let ms = Number.POSITIVE_INFINITY;
    for (let run = 0; run < RUNS; run++) {
      const beganMs = nowMs();
      await model.predict(request);
      const took = nowMs() - beganMs;
      if (run >= PREPARING_RUNS) ms = Math.min(ms, took);
      else if (took > longestMs && run > 0) break;
    }
    if (!Number.isFinite(ms)) return measured;
    measured.push({ samples, ms });
    if (samples >= mostSamples || ms > longestMs) return measured;
  }
}
