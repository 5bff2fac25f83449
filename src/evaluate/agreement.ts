/**
 * How well scores agree with those of a reference, and how good both are: quantiles of errors, log loss, area under the ROC curve,
 * calibration. Pure.
 */
import { at } from '../at.ts';

/** How far values lie from the reference's. */
export interface ErrorFigures {
  /** [quantile, |error| that it does not exceed]. */
  readonly quantiles: [quantile: number, error: number][];
  readonly worst: number;
  /** √(mean of squares). */
  readonly rms: number;
  /** Mean of value − reference's. */
  readonly bias: number;
}

/** How good scores are. */
export interface QualityFigures {
  /** Mean of −log of what the label's class was given, in nats. */
  readonly logLoss: number;
  /** The chance that a sample with label 1 scores higher than one with label 0, ties counting half; undefined: all labels are one. */
  readonly auc?: number;
  /** Mean probability over mean label; undefined: no label is 1. */
  readonly calibration?: number;
}

/** Samples of about one probability: a tenth of all, in the order of the reference's. */
export interface CalibrationBin {
  readonly samples: number;
  readonly reference: number;
  readonly model: number;
  /** Share of labels that are 1. */
  readonly labels: number;
}

export const QUANTILES = [0.5, 0.9, 0.99, 0.999];
const BINS = 10;

/** Errors of `values` beside `reference`'s, of the same length, at least one. */
export function errorFigures(values: Float64Array, reference: Float64Array): ErrorFigures {
  const { length } = values;
  const errors = new Float64Array(length);
  let [squares, sum] = [0, 0];
  for (let i = 0; i < length; i++) {
    const error = at(values, i) - at(reference, i);
    errors[i] = Math.abs(error);
    squares += error * error;
    sum += error;
  }
  errors.sort();
  return {
    quantiles: QUANTILES.map((quantile) => [quantile, at(errors, Math.ceil(quantile * length) - 1)]),
    worst: at(errors, length - 1),
    rms: Math.sqrt(squares / length),
    bias: sum / length,
  };
}

/** `labels`: 0 or 1, one for each logit. */
export function qualityFigures(logits: Float64Array, labels: Uint8Array): QualityFigures {
  const { length } = logits;
  let [loss, probabilities, ones] = [0, 0, 0];
  for (let i = 0; i < length; i++) {
    const logit = at(logits, i);
    const label = at(labels, i);
    loss += softplus(label === 1 ? -logit : logit);
    probabilities += sigmoid(logit);
    ones += label;
  }
  const auc = areaUnderCurve(logits, labels);
  return {
    logLoss: loss / length,
    ...(auc === undefined ? {} : { auc }),
    ...(ones === 0 ? {} : { calibration: probabilities / ones }),
  };
}

/** The Mann–Whitney statistic over its range; undefined where all labels are one. */
function areaUnderCurve(scores: Float64Array, labels: Uint8Array): number | undefined {
  const order = Uint32Array.from(scores, (_, i) => i).sort((a, b) => at(scores, a) - at(scores, b));
  let [ones, ranks] = [0, 0];
  for (let first = 0; first < order.length; ) {
    const score = at(scores, at(order, first));
    let [end, tiedOnes] = [first, 0];
    for (; end < order.length && at(scores, at(order, end)) === score; end++)
      tiedOnes += at(labels, at(order, end));
    // All of a tie have its mean rank, from 1 on.
    ranks += tiedOnes * ((first + 1 + end) / 2);
    ones += tiedOnes;
    first = end;
  }
  const zeros = order.length - ones;
  return ones === 0 || zeros === 0 ? undefined : (ranks - (ones * (ones + 1)) / 2) / (ones * zeros);
}

/** Tenths of the samples, by the reference's probability. */
export function calibrationBins(
  logits: Float64Array,
  reference: Float64Array,
  labels: Uint8Array,
): CalibrationBin[] {
  const { length } = logits;
  const order = Uint32Array.from(reference, (_, i) => i).sort((a, b) => at(reference, a) - at(reference, b));
  const bins = Math.min(BINS, length);
  return Array.from({ length: bins }, (_, bin) => {
    const own = order.subarray(Math.floor((bin * length) / bins), Math.floor(((bin + 1) * length) / bins));
    const mean = (value: (sample: number) => number) =>
      own.reduce((sum, i) => sum + value(i), 0) / own.length;
    return {
      samples: own.length,
      reference: mean((i) => sigmoid(at(reference, i))),
      model: mean((i) => sigmoid(at(logits, i))),
      labels: mean((i) => at(labels, i)),
    };
  });
}

export function sigmoid(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

/** The logit of a probability in float32: infinite where it was rounded to 0 or 1. */
export function logitOf(probability: number): number {
  return Math.log(probability) - Math.log1p(-probability);
}

/** log(1 + eˣ), without overflow. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
