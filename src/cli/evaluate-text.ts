/** What `hotrow evaluate` prints. */
import { aucRatio, errorAt, evaluateFacts, lossIncrease, signedPercent } from '../evaluate/facts.ts';
import type { ErrorResults, EvaluateResults } from '../evaluate/results.ts';
import { digits, percent, quantileName } from '../numbers.ts';
import { printable } from '../text.ts';
import { formatCount, NOTE_CHARACTERS, renderTable } from './print.ts';

/** Tables of errors and of how good both are, by tenths of probability too; then the facts. */
export function evaluateText(results: EvaluateResults): string {
  const { outputs, quality, notes } = results;
  const quantiles = outputs[0]?.value.quantiles ?? [];
  const row = (name: string, errors: ErrorResults, equal: string) => [
    name,
    ...quantiles.map(([quantile]) => digits(errorAt(errors, quantile))),
    digits(errors.worst),
    digits(errors.rms),
    digits(errors.bias),
    equal,
  ];
  const errors = renderTable(
    [
      { title: '|model − reference|', left: true },
      ...quantiles.map(([quantile]) => ({ title: quantileName(quantile) })),
      { title: 'worst' },
      { title: 'rms' },
      { title: 'bias' },
      { title: 'equal bits' },
    ],
    outputs.flatMap(({ name, logit, value, bits, values }) => [
      row(printable(name, NOTE_CHARACTERS), value, percent(bits / values, 1)),
      ...(logit === undefined ? [] : [row('its logit', logit, '')]),
    ]),
  );
  const facts = [
    ...evaluateFacts(results).map(([name, text]) => `${name.padEnd(10)} ${text}`),
    ...notes.map((note) => `note: ${note}`),
  ];
  return [
    errors,
    ...(quality === undefined ? [] : qualityTables(quality)),
    facts.map((fact) => printable(fact, 4 * NOTE_CHARACTERS)).join('\n'),
  ].join('\n\n');
}

function qualityTables(quality: NonNullable<EvaluateResults['quality']>): string[] {
  const { model, reference, bins } = quality;
  const increase = lossIncrease(quality);
  const ratio = aucRatio(quality);
  const scores = renderTable(
    [{ title: '', left: true }, { title: 'log loss' }, { title: 'AUC' }, { title: 'calibration' }],
    [
      ['reference', reference],
      ['model', model],
    ].map(([name, own]) => {
      const { logLoss, auc, calibration } = own as typeof model;
      return [name as string, logLoss.toFixed(6), auc?.toFixed(6) ?? '–', calibration?.toFixed(4) ?? '–'];
    }),
  );
  const compared = [
    ...(increase === undefined ? [] : [`log loss ${signedPercent(increase)}`]),
    ...(ratio === undefined ? [] : [`AUC ${percent(ratio, 4)} of the reference’s`]),
  ].join(', ');
  const tenths = renderTable(
    [
      { title: 'tenth', left: true },
      { title: 'samples' },
      { title: 'reference' },
      { title: 'model' },
      { title: 'labels' },
    ],
    bins.map((bin, i) => [
      String(i + 1),
      formatCount(bin.samples),
      ...[bin.reference, bin.model, bin.labels].map(digits),
    ]),
  );
  return [compared === '' ? scores : `${scores}\n${compared}`, tenths];
}
