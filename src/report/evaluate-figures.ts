/** A model's scores beside a reference's: errors by quantile, and calibration by tenths. */
import { errorAt } from '../evaluate/facts.ts';
import type { ErrorResults, EvaluateResults } from '../evaluate/results.ts';
import { digits, percent, quantileName } from '../numbers.ts';
import { type Figure, number, text } from './figure.ts';

export function evaluateFigures({ outputs, quality }: EvaluateResults): Figure[] {
  return [errorFigure(outputs), ...(quality === undefined ? [] : [calibrationFigure(quality)])];
}

function errorFigure(outputs: EvaluateResults['outputs']): Figure {
  const rows = outputs.flatMap(({ name, logit, value, bits, values }) => [
    { name, errors: value, equal: percent(bits / values, 1) },
    ...(logit === undefined ? [] : [{ name: `${name}: its logit`, errors: logit, equal: '–' }]),
  ]);
  const quantiles = rows[0]?.errors.quantiles.map(([quantile]) => quantile) ?? [];
  const cells = (errors: ErrorResults) => [
    ...quantiles.map((quantile) => digits(errorAt(errors, quantile))),
    ...[errors.worst, errors.rms, errors.bias].map(digits),
  ];
  return {
    id: 'errors',
    title: 'How far scores lie from the reference’s',
    note: 'Of |model − reference|, all samples. Bias: the mean with its sign. Equal bits: values that are the reference’s bit for bit.',
    table: {
      columns: [
        text('output'),
        ...quantiles.map((quantile) => number(quantileName(quantile))),
        ...['worst', 'rms', 'bias', 'equal bits'].map(number),
      ],
      rows: rows.map(({ name, errors, equal }) => [name, ...cells(errors), equal]),
    },
  };
}

function calibrationFigure({ bins, labels }: NonNullable<EvaluateResults['quality']>): Figure {
  const lines = [
    bins.map(({ reference }) => reference),
    bins.map(({ model }) => model),
    bins.map((bin) => bin.labels),
  ];
  return {
    id: 'calibration',
    title: 'Calibration',
    note: `Tenths of the samples by the reference’s probability: mean probabilities, and the share of labels that are 1 (${labels === 'given' ? 'given' : 'drawn from the reference’s probabilities'}).`,
    chart: {
      kind: 'lines',
      yTitle: 'probability',
      yScale: 'share',
      legend: ['reference', 'model', 'labels'],
      panels: [
        {
          title: 'by tenths of the samples',
          xTitle: 'tenth, lowest probability first',
          steps: bins.map((_, i) => String(i + 1)),
          lines: lines.map((values, series) => ({
            series,
            dashed: false,
            points: values.map((value, i) => [i, value] as const),
          })),
        },
      ],
    },
    table: {
      columns: [text('tenth'), ...['samples', 'reference', 'model', 'labels'].map(number)],
      rows: bins.map((bin, i) => [
        String(i + 1),
        bin.samples.toLocaleString('en-US'),
        ...[bin.reference, bin.model, bin.labels].map(digits),
      ]),
    },
  };
}
