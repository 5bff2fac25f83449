/** docs/evaluate.md with what precisions cost on a model that has learned. */
import { at } from '../src/at.ts';
import { aucRatio, lossIncrease, signedPercent } from '../src/evaluate/facts.ts';
import type { EvaluateResults } from '../src/evaluate/results.ts';
import { digits } from '../src/numbers.ts';
import { fill, markdownTable, readPage, recorded } from './recorded.ts';

const RECORDED = [
  ['float16', 'float16'],
  ['float8_e4m3', 'float8_e4m3-tensor'],
  ['float8_e4m3, `--weight-scales output`', 'float8_e4m3-output'],
] as const;

export function accuracyPage(): string {
  const rows = RECORDED.map(([title, name]) => [title, ...costsOf(`h200-accuracy-${name}.json`)]);
  const table = markdownTable(
    ['precision', 'log loss', 'AUC, of the reference’s', 'worst error of a logit'],
    rows,
  );
  return fill(readPage('docs/evaluate.md'), 'accuracy', table);
}

function costsOf(file: string): string[] {
  const { outputs, quality } = JSON.parse(recorded(file)) as EvaluateResults;
  const { logit } = at(outputs, 0);
  const increase = quality && lossIncrease(quality);
  const ratio = quality && aucRatio(quality);
  if (increase === undefined || ratio === undefined || logit === undefined)
    throw new Error(`${file} tells no log loss, AUC or logits`);
  return [signedPercent(increase), `${(100 * ratio).toFixed(3)} %`, digits(logit.worst)];
}
