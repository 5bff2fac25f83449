/** What an evaluation was, as the terminal and reports say it. */
import { digits } from '../numbers.ts';
import type { ErrorResults, EvaluateResults } from './results.ts';

type Side = EvaluateResults['model'];

/** Model, reference, samples and labels: [name, in words]. */
export function evaluateFacts({ model, reference, requests, quality }: EvaluateResults): [string, string][] {
  const side = ({ file, device, precision, rowFormats, plan }: Side) =>
    `${file} on ${device}, dense layers in ${precision}, rows in ${rowFormats}, plan ${plan}`;
  const samples = requests.samples.toLocaleString('en-US');
  return [
    ['model', side(model)],
    ['reference', side(reference)],
    ['samples', `${samples} of ${requests.files.join(', ')}, at most ${requests.batchSize} at once`],
    ...(quality === undefined ? [] : ([['labels', labelFacts(quality)]] as [string, string][])),
  ];
}

function labelFacts({ labels, seed, ones }: NonNullable<EvaluateResults['quality']>): string {
  const count = `${ones.toLocaleString('en-US')} are 1`;
  if (labels === 'given') return `given: ${count}`;
  return `drawn from the reference’s probabilities${seed === undefined ? '' : `, seed ${seed}`}: ${count}`;
}

/** Log loss of the model over that of the reference, less 1; undefined where the latter is 0. */
export function lossIncrease({
  model,
  reference,
}: NonNullable<EvaluateResults['quality']>): number | undefined {
  const increase = model.logLoss / reference.logLoss - 1;
  return Number.isFinite(increase) ? increase : undefined;
}

/** AUC of the model over that of the reference; undefined where one has none. */
export function aucRatio({ model, reference }: NonNullable<EvaluateResults['quality']>): number | undefined {
  if (model.auc === undefined || reference.auc === undefined || reference.auc === 0) return undefined;
  return model.auc / reference.auc;
}

/** A share with its sign and as many digits as small ones need: `+0.0132 %`. */
export function signedPercent(share: number): string {
  return `${share < 0 ? '−' : '+'}${digits(Math.abs(100 * share))} %`;
}

/** The error of a quantile. */
export function errorAt({ quantiles }: ErrorResults, quantile: number): number {
  return quantiles.find(([own]) => own === quantile)?.[1] ?? Number.NaN;
}
