/** Chooses scales for a model's dense layers, and those that multiply in 8 bits within a loss, on requests. */
import { at } from '../at.ts';
import type { ScaledWeight } from '../backend/scaled-weight.ts';
import type { Tensor } from '../tensor.ts';
import { chooseLayers } from './choose-layers.ts';
import { HeadVariants } from './head-runs.ts';
import { lossIncrease } from './loss.ts';
import { type ScaleOptions, ScaleRun } from './scales.ts';

export interface CalibrationOptions extends ScaleOptions {
  /** By how much of itself the log loss may rise (loss.ts). */
  readonly mostLoss: number;
}

export interface CalibratedLayer {
  readonly name: string;
  readonly weight: Tensor;
  readonly inputs: number;
  readonly outputs: number;
  /** The largest size of an input. */
  readonly inputsReach: number;
  /** What inputs are divided by; undefined: each row has its own. */
  readonly inputScale?: number;
  /** What it loses alone in 8 bits; undefined: it gains nothing by them. */
  readonly loss?: number;
  /** Its weight in 8 bits, where it is to multiply so. */
  readonly chosen?: ScaledWeight;
}

export interface Calibration {
  /** In the order in which they multiply. */
  readonly layers: readonly CalibratedLayer[];
  /** Of the layers that were chosen, together. */
  readonly loss: number;
  readonly samples: number;
}

/**
 * Runs the requests in float32 for what goes into each layer, then with layers in 8 bits, one by one and together.
 * @throws UsageError USAGE for a model that gives no probability, and without samples; ModelError VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE
 *   naming layer and sample; CHECKPOINT_UNSUPPORTED for layers that have scales already; DeviceError DEVICE_UNAVAILABLE where the device
 *   has no float8_e4m3, OUT_OF_MEMORY; RequestError for requests that do not fit; AbortError.
 */
export async function calibrate(options: CalibrationOptions): Promise<Calibration> {
  const { mostLoss, onProgress } = options;
  using run = await ScaleRun.open(options);
  const { target, layers, samples } = run;
  const { reach, reference, scales, scaled, candidates } = await run.findScales();
  using variants = await HeadVariants.place(target, scaled);
  // Each alone, none, all, and as many as there are at most.
  const mostRuns = 2 * candidates.length + 2;
  let runs = 0;
  const { alone, chosen, loss } = await chooseLayers(
    candidates.map((i) => ({ multiplyAdds: at(layers, i).inputs * at(layers, i).outputs })),
    mostLoss,
    async (set) => {
      runs += 1;
      onProgress?.('running the requests with layers in 8 bits', runs, mostRuns);
      return lossIncrease(reference, await variants.run(new Set([...set].map((c) => at(candidates, c)))));
    },
  );
  return {
    samples,
    loss,
    layers: layers.map((layer, i): CalibratedLayer => {
      const { name, weight, inputs, outputs } = layer;
      const candidate = candidates.indexOf(i);
      const inputScale = scales[i];
      const own = { name, weight, inputs, outputs, inputsReach: at(reach, i) };
      if (candidate < 0) return own;
      return {
        ...own,
        ...(inputScale === undefined ? {} : { inputScale }),
        loss: at(alone, candidate),
        ...(chosen.has(candidate) ? { chosen: scaled.get(weight) as ScaledWeight } : {}),
      };
    }),
  };
}
