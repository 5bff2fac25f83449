/** What a run by the paper's protocol says of the paper's claims: figures, and a finding. */
import {
  artifactCombinations,
  type Claim,
  type Combination,
  paperClaims,
  productCombinations,
} from '../bench/claims.ts';
import { compared, unique } from '../bench/comparison.ts';
import type { BenchResults } from '../bench/results.ts';
import { significant, times } from '../numbers.ts';
import { type Figure, number, text } from './figure.ts';
import type { Citation, Rule } from './findings.ts';

const ratio = (value: number | undefined) => (value === undefined ? '–' : times(value));

/** The paper's claims, and its techniques on its own kernel; none: the run did not compare by the paper's protocol. */
export function paperFigures(results: BenchResults): Figure[] {
  return [claimsFigure(results), combinationsFigure(results)].filter((figure) => figure !== undefined);
}

function claimsFigure(results: BenchResults): Figure | undefined {
  const claims = paperClaims(results);
  if (claims.length === 0) return undefined;
  return {
    id: 'paper-claims',
    title: "The paper's claims",
    note: `What "Pushing the Performance Envelope of DNN-based Recommendation Systems Inference on GPUs" (MICRO 2024) claims of an A100, and what ${results.device.id} gives in this run: the largest ratio over the patterns, by a pair of events around each launch where launches are timed.`,
    table: {
      columns: [text('claim'), number('paper'), number('here'), text('where'), text('plan')],
      rows: claims.map(({ what, paper, here, where = '', plan = '' }) => [
        what,
        ratio(paper),
        ratio(here),
        where,
        plan,
      ]),
    },
  };
}

function combinationsFigure(results: BenchResults): Figure | undefined {
  const artifact = artifactCombinations(results);
  if (artifact.length === 0) return undefined;
  const own = new Set<Combination>(productCombinations(results));
  const all = [...artifact, ...own];
  const patterns = unique(compared(results).map(({ pattern }) => pattern));
  const fastest = (pattern: string) =>
    all.flatMap((combination) => {
      const found = combination.byPattern.get(pattern);
      return found === undefined ? [] : [{ combination, ...found }];
    });
  return {
    id: 'paper-techniques',
    title: "The paper's techniques on the kernel that needs them",
    note: "Speed of one launch over the paper's kernel without a technique, each combination at the fastest of its settings; below, Hotrow's own kernels over the same baseline. More is better.",
    chart: {
      kind: 'bars',
      axis: "speed over the paper's kernel (×)",
      legend: [],
      references: [{ label: 'no technique', value: 1 }],
      panels: patterns.map((pattern) => ({
        title: pattern,
        bars: fastest(pattern).map(({ combination, time, speedup }) => ({
          label: combination.name,
          ...(own.has(combination) ? { tone: 'best' as const } : {}),
          text: `${times(speedup)} · ${significant(time)} µs`,
          parts: [speedup],
        })),
      })),
    },
    table: {
      columns: [text('pattern'), text('techniques'), text('fastest plan'), number('µs'), number('speed')],
      rows: patterns.flatMap((pattern) =>
        fastest(pattern).map(({ combination, row, time, speedup }) => [
          pattern,
          combination.name,
          row.variant,
          significant(time),
          times(speedup),
        ]),
      ),
    },
  };
}

export const PAPER_CLAIMS: Rule<BenchResults> = {
  name: 'paper-claims',
  threshold: 0.9,
  reason:
    "gain over the paper's kernel here as a share of the paper's on an A100; GPUs differ by a tenth and more",
  find(results) {
    const claims = paperClaims(results).filter(
      (claim): claim is Claim & Required<Pick<Claim, 'paper' | 'here'>> =>
        claim.paper !== undefined && claim.here !== undefined,
    );
    // Without the paper's kernel there are gains of other kernels alone.
    if (artifactCombinations(results).length === 0 || claims.length === 0) return [];
    const words = ({ what, here, paper }: (typeof claims)[number]) =>
      `${what} ${times(here)} (paper: ${times(paper)})`;
    return [true, false].flatMap((reached) => {
      const own = claims.filter(({ here, paper }) => here >= this.threshold * paper === reached);
      if (own.length === 0) return [];
      const head = reached
        ? "Of the paper's claims this device reaches"
        : "Of the paper's claims this device stays below";
      const cites = own.map(({ what, here, where }) => ({ what: `${what}, ${where}`, value: times(here) }));
      return [
        {
          text: `${head}: ${own.map(words).join(', ')}.`,
          cites: cites as [Citation, ...Citation[]],
          figure: 'paper-claims',
        },
      ];
    });
  },
};
