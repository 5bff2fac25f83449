/** What an evaluation says, rule by rule. */
import { aucRatio, lossIncrease, signedPercent } from '../evaluate/facts.ts';
import type { EvaluateResults } from '../evaluate/results.ts';
import { digits, percent } from '../numbers.ts';
import { applyRules, type Finding, type Rule } from './findings.ts';

const LOSS: Rule<EvaluateResults> = {
  name: 'loss',
  threshold: 0.001,
  reason: 'relative increase of log loss; NVIDIA’s and MLPerf’s 99.9 % class of accuracy loses less',
  find({ quality }) {
    const increase = quality && lossIncrease(quality);
    if (quality === undefined || increase === undefined) return [];
    const verdict = increase <= this.threshold ? 'costs little' : 'costs accuracy';
    return [
      {
        text: `The difference ${verdict}: log loss ${signedPercent(increase)}.`,
        cites: [
          { what: 'log loss of the model', value: quality.model.logLoss.toFixed(6) },
          { what: 'log loss of the reference', value: quality.reference.logLoss.toFixed(6) },
        ],
        figure: 'calibration',
      },
    ];
  },
};

const RANKS: Rule<EvaluateResults> = {
  name: 'ranks',
  threshold: 0.999,
  reason: 'AUC over the reference’s: MLPerf’s stricter class of accuracy for recommendation',
  find({ quality }) {
    const ratio = quality && aucRatio(quality);
    if (ratio === undefined || ratio >= this.threshold) return [];
    return [
      {
        text: `The model ranks worse than the reference: ${percent(ratio, 3)} of its AUC.`,
        cites: [{ what: 'AUC, of the reference’s', value: percent(ratio, 4) }],
        figure: 'calibration',
      },
    ];
  },
};

const WORST: Rule<EvaluateResults> = {
  name: 'worst-logit',
  threshold: 0,
  reason: 'any error at all: the worst one is told',
  find({ outputs }) {
    const [first] = outputs;
    if (first?.logit === undefined || !(first.logit.worst > this.threshold)) return [];
    return [
      {
        text: `No logit is off by more than ${digits(first.logit.worst)}.`,
        cites: [{ what: 'worst error of a logit', value: digits(first.logit.worst) }],
        figure: 'errors',
      },
    ];
  },
};

const RULES: readonly Rule<EvaluateResults>[] = [LOSS, RANKS, WORST];

export function evaluateFindings(results: EvaluateResults): Finding[] {
  return applyRules(RULES, results);
}
