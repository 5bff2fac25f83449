/** What a benchmark's results say, rule by rule. */
import {
  baselineName,
  byRole,
  compared,
  heading,
  launchSpeedup,
  type MeasuredPeer,
  peersOf,
  plainRows,
  planWords,
  techniques,
  unique,
  unpinned,
} from '../bench/comparison.ts';
import { type BenchResults, type EmbeddingRow, hasStages, type ModelRow } from '../bench/results.ts';
import { percent, significant, times } from '../numbers.ts';
import type { Plan } from '../plan/plan.ts';
import { applyRules, type Citation, type Finding, highest, type Rule, span } from './findings.ts';
import { PAPER_CLAIMS } from './paper-section.ts';
import { sweepPoints, sweptTechniques } from './sweep-figures.ts';

/** Medians of repeated runs of one plan differ by up to a few percent; less than this is no difference. */
const NOISE = 1.05;
const NOISE_REASON = 'medians of the same plan differ by a few percent from run to run';

const ms = (value: number) => `${significant(value)} ms`;
const us = (value: number) => `${significant(value)} µs`;

/** The patterns with the smallest and the largest share of distinct rows, if they differ. */
function hottestAndColdest<T extends { readonly distinctShare: number }>(rows: readonly T[]) {
  const hottest = highest(rows, ({ distinctShare }) => -distinctShare);
  const coldest = highest(rows, ({ distinctShare }) => distinctShare);
  if (hottest === undefined || coldest === undefined) return undefined;
  return hottest.distinctShare === coldest.distinctShare ? undefined : { hottest, coldest };
}

const HOTNESS: Rule<BenchResults> = {
  name: 'hotness-costs',
  threshold: 1.2,
  reason:
    'coldest over hottest pattern under the plain kernel; a fifth is well past noise and worth acting on',
  find(results) {
    const ends = hottestAndColdest([...plainRows(results).values()]);
    if (ends === undefined) return [];
    const { hottest, coldest } = ends;
    const ratio = coldest.timing.medianMs / hottest.timing.medianMs;
    if (!Number.isFinite(ratio)) return [];
    const cites = [
      { what: `${baselineName(results)}, ${hottest.pattern}`, value: ms(hottest.timing.medianMs) },
      { what: `${baselineName(results)}, ${coldest.pattern}`, value: ms(coldest.timing.medianMs) },
      { what: 'ratio', value: times(ratio) },
    ] as const;
    if (ratio >= this.threshold) {
      const text = `The colder the lookups, the slower: the ${baselineName(results)} takes ${times(ratio)} as long on ${coldest.pattern} as on ${hottest.pattern}.`;
      return [{ text, cites, figure: 'speedup' }];
    }
    if (ratio <= 1 / this.threshold) {
      const text = `The ${baselineName(results)} is slower on hot lookups than on cold ones: ${hottest.pattern} takes ${times(1 / ratio)} as long as ${coldest.pattern}.`;
      return [{ text, cites, figure: 'speedup' }];
    }
    return [];
  },
};

/** Rows of searched and listed plans, by pattern, without the plain kernel and peers. */
function candidates(results: BenchResults): Map<string, EmbeddingRow[]> {
  const plain = plainRows(results);
  const rows = compared(results).filter(
    (row) => row.implementation === 'hotrow' && row !== plain.get(row.pattern) && plain.has(row.pattern),
  );
  const patterns = unique(rows.map(({ pattern }) => pattern));
  return new Map(patterns.map((pattern) => [pattern, rows.filter((row) => row.pattern === pattern)]));
}

/** The fastest candidate of every pattern, the plain kernel left out. */
function fastest(results: BenchResults): EmbeddingRow[] {
  return [...candidates(results).values()].flatMap((rows) => highest(rows, ({ speedup }) => speedup) ?? []);
}

const speedCitation = (row: EmbeddingRow) => ({
  what: `${planWords(row)}, ${row.pattern}`,
  value: `${ms(row.timing.medianMs)}, ${times(row.speedup)}`,
});

const patternCitation = (row: EmbeddingRow) => ({ ...speedCitation(row), what: row.pattern });

const FASTEST: Rule<BenchResults> = {
  name: 'fastest-plan',
  threshold: NOISE,
  reason: `speed of the fastest plan over the plain kernel; ${NOISE_REASON}`,
  find(results) {
    const rows = fastest(results);
    const faster = rows.filter(({ speedup }) => speedup >= this.threshold);
    const slower = rows.filter(({ speedup }) => speedup < this.threshold);
    const gains = unique(faster.map(planWords)).flatMap((plan) => {
      const own = faster.filter((row) => planWords(row) === plan);
      const text = `${plan} is fastest on ${own.map(({ pattern }) => pattern).join(', ')}: ${span(own, ({ speedup }) => speedup)} the ${baselineName(results)}'s speed.`;
      return [{ text, cites: own.map(patternCitation) as [Citation, ...Citation[]], figure: 'speedup' }];
    });
    if (slower.length === 0) return gains;
    const text = `No plan is measurably faster than the ${baselineName(results)} on ${slower.map(({ pattern }) => pattern).join(', ')}.`;
    return [
      ...gains,
      { text, cites: slower.map(speedCitation) as [Citation, ...Citation[]], figure: 'speedup' },
    ];
  },
};

const LOSES: Rule<BenchResults> = {
  name: 'technique-loses',
  threshold: 1 / NOISE,
  reason: `speed over the plain kernel on the pattern that suits a plan least; ${NOISE_REASON}`,
  find(results) {
    const rows = [...candidates(results).values()].flat().filter(({ best }) => !best);
    const worst = unique(rows.map(heading)).flatMap(
      (name) =>
        highest(
          rows.filter((row) => heading(row) === name),
          ({ speedup }) => -speedup,
        ) ?? [],
    );
    const losers = worst.filter(({ speedup }) => speedup <= this.threshold);
    const last = highest(losers, ({ speedup }) => -speedup);
    if (last === undefined) return [];
    const text = `${losers.length} of ${worst.length} plans are slower than the ${baselineName(results)} on some pattern; ${planWords(last)} most, at ${times(last.speedup)} its speed on ${last.pattern}.`;
    return [{ text, cites: losers.map(speedCitation) as [Citation, ...Citation[]], figure: 'speedup' }];
  },
};

const OCCUPANCY: Rule<BenchResults> = {
  name: 'register-cap',
  threshold: NOISE,
  reason: `largest gain of a register cap by itself; ${NOISE_REASON}`,
  find(results) {
    const plain = plainRows(results);
    const capped = compared(results).filter(
      ({ plan, best }) =>
        !best && Object.keys((plan as Plan | undefined)?.techniques ?? {}).join() === 'occupancy',
    );
    const gain = (row: EmbeddingRow) => launchSpeedup(row, plain.get(row.pattern)) ?? row.speedup;
    const most = highest(capped, gain);
    const kernel = most && plain.get(most.pattern)?.kernel;
    if (most === undefined || kernel === undefined) return [];
    const cites = [
      { what: `${planWords(most)}, ${most.pattern}`, value: times(gain(most)) },
      { what: `the ${baselineName(results)}'s occupancy`, value: percent(kernel.occupancy) },
      { what: 'its registers', value: String(kernel.registers) },
    ] as const;
    const isLaunch = launchSpeedup(most, plain.get(most.pattern)) !== undefined;
    const figure = isLaunch ? 'launch-speedup' : 'speedup';
    const text =
      gain(most) >= this.threshold
        ? `A register cap alone brings up to ${times(gain(most))} (${most.pattern}); the ${baselineName(results)} has ${kernel.registers} registers and ${percent(kernel.occupancy)} occupancy.`
        : `A register cap alone brings nothing: at ${kernel.registers} registers the ${baselineName(results)} has ${percent(kernel.occupancy)} occupancy already.`;
    return [{ text, cites, figure }];
  },
};

const PINNING: Rule<BenchResults> = {
  name: 'pinning-pays',
  threshold: NOISE,
  reason: `time without pinning over the time with it; ${NOISE_REASON}`,
  find(results) {
    const pairs = compared(results).flatMap((row) => {
      const bare = unpinned(results, row);
      if (row.best || row.pin === undefined || row.launch === undefined || bare?.launch === undefined)
        return [];
      const kernel = row.launch.medianUs;
      const both = kernel + row.pin.medianUs;
      return [{ row, without: bare.launch.medianUs, kernel, both }];
    });
    const out = highest(pairs, ({ without, kernel }) => without / kernel);
    const whole = highest(pairs, ({ without, both }) => without / both);
    if (out === undefined || whole === undefined) return [];
    const ratio = whole.without / whole.both;
    const cites = [
      {
        what: `${planWords(out.row)}, ${out.row.pattern}: kernel without and with pinning`,
        value: `${us(out.without)}, ${us(out.kernel)}`,
      },
      {
        what: `${planWords(whole.row)}, ${whole.row.pattern}: without, and pin + kernel`,
        value: `${us(whole.without)}, ${us(whole.both)}`,
      },
    ] as const;
    const kernelGain = `it shortens the kernel by at most ${times(out.without / out.kernel)} (${out.row.pattern})`;
    const text =
      ratio >= this.threshold
        ? `Pinning pays with its own time counted: up to ${times(ratio)} (${whole.row.pattern}).`
        : ratio <= 1 / this.threshold
          ? `Pinning does not pay with its own time counted: ${kernelGain}, and at best the whole runs at ${times(ratio)} the speed without it.`
          : `Pinning is even with its own time counted: ${kernelGain}.`;
    return [{ text, cites, figure: 'pinning' }];
  },
};

const PEER: Rule<BenchResults> = {
  name: 'peer',
  threshold: NOISE,
  reason: `speed of the best plan over a peer's in the same run; ${NOISE_REASON}`,
  find(results) {
    return peersOf(results).flatMap((peer) => besidePeer(results, peer, this.threshold));
  },
};

/** The fastest plans beside one peer. */
function besidePeer(
  results: BenchResults,
  { implementation: name, rows }: MeasuredPeer,
  threshold: number,
): Omit<Finding, 'rule'>[] {
  const pairs = fastest(results).flatMap(({ pattern, timing }) => {
    const peer = rows.get(pattern);
    return peer === undefined ? [] : [{ pattern, ratio: peer.timing.medianMs / timing.medianMs }];
  });
  const most = highest(pairs, ({ ratio }) => ratio);
  const least = highest(pairs, ({ ratio }) => -ratio);
  if (most === undefined || least === undefined) return [];
  const cites = [
    { what: `over ${name}, ${least.pattern}`, value: times(least.ratio) },
    { what: `over ${name}, ${most.pattern}`, value: times(most.ratio) },
  ] as const;
  const text =
    least.ratio >= threshold
      ? `The fastest plan is ${times(least.ratio)} (${least.pattern}) to ${times(most.ratio)} (${most.pattern}) as fast as ${name}.`
      : most.ratio <= 1 / threshold
        ? `${name} is faster than every plan: they have ${times(least.ratio)} to ${times(most.ratio)} its speed.`
        : `Against ${name} it depends: ${times(least.ratio)} its speed on ${least.pattern}, ${times(most.ratio)} on ${most.pattern}.`;
  return [{ text, cites, figure: 'speedup' }];
}

const LIMIT: Rule<BenchResults> = {
  name: 'near-limit',
  threshold: 0.85,
  reason: 'share of the speed of light; the measured ceilings differ by up to a tenth from run to run',
  find(results) {
    const rows = [...candidates(results).values()].flatMap((own) => {
      const known = own.filter(({ limitShare }) => limitShare !== undefined);
      return highest(known, ({ limitShare }) => limitShare as number) ?? [];
    });
    if (rows.length === 0) return [];
    const words = (row: EmbeddingRow) => `${percent(row.limitShare as number)} on ${row.pattern}`;
    const between = (from: number, to: number) =>
      rows.filter(({ limitShare }) => (limitShare as number) >= from && (limitShare as number) < to);
    const cite = (row: EmbeddingRow) => ({
      what: `${planWords(row)}, ${row.pattern}`,
      value: percent(row.limitShare as number),
    });
    return [
      {
        rows: between(2 - this.threshold, Number.POSITIVE_INFINITY),
        text: 'The best plans go past the limit of memory and the last cache, since nearer caches answer',
      },
      {
        rows: between(this.threshold, 2 - this.threshold),
        text: 'The best plans stand at the limit of memory and the last cache',
      },
      {
        rows: between(0, this.threshold),
        text: 'The best plans stay below the limit, which reads every distinct row from memory once',
      },
    ].flatMap(({ rows: own, text }) =>
      own.length === 0
        ? []
        : [
            {
              text: `${text}: ${own.map(words).join(', ')}.`,
              cites: own.map(cite) as [Citation, ...Citation[]],
              figure: 'limit',
            },
          ],
    );
  },
};

const SWEEP: Rule<BenchResults> = {
  name: 'sweep-optimum',
  threshold: NOISE,
  reason: `time with the technique off over the best of its sweep; ${NOISE_REASON}`,
  find(results) {
    return sweptTechniques(results).flatMap((name) => {
      const points = sweepPoints(results, name).map((point) => ({
        ...point,
        whole: point.timeWithPin ?? point.time,
      }));
      const gains = points.flatMap((point) => {
        const off = points.find(
          (other) =>
            other.settings === undefined &&
            other.base === point.base &&
            other.row.pattern === point.row.pattern,
        );
        return off === undefined || point.settings === undefined
          ? []
          : [{ point, off, gain: off.whole / point.whole }];
      });
      const best = highest(gains, ({ gain }) => gain);
      if (best === undefined) return [];
      const unit = best.point.row.launch === undefined ? ms : us;
      const cites = [
        { what: `${best.point.row.variant}, ${best.point.row.pattern}`, value: unit(best.point.whole) },
        { what: `without ${name}`, value: unit(best.off.whole) },
      ] as const;
      const setting = techniques(best.point.row.variant);
      const text =
        best.gain >= this.threshold
          ? `Over its whole range, ${name} brings most as ${setting} on ${best.point.row.pattern}: ${times(best.gain)}.`
          : `Over its whole range, ${name} brings nothing on any pattern (at most ${times(best.gain)}).`;
      return [{ text, cites, figure: `sweep-${name}` }];
    });
  },
};

const EMBEDDING_SHARE: Rule<BenchResults> = {
  name: 'embedding-share',
  threshold: 0.5,
  reason: "the embedding stage's share of the latency; past half, it is worth more than all else together",
  find({ model }) {
    const plain = byRole(model.filter(hasStages)).find(({ role }) => role === 'plain' || role === 'artifact');
    const most = highest(plain?.rows ?? [], ({ embeddingShare }) => embeddingShare);
    if (most === undefined) return [];
    const cites = [
      { what: `embedding, ${most.pattern}`, value: ms(most.embeddingMs) },
      { what: 'of', value: ms(most.timing.medianMs) },
    ] as const;
    const share = percent(most.embeddingShare);
    const text =
      most.embeddingShare >= this.threshold
        ? `The embedding stage is the bottleneck of the whole model: ${share} of a batch on ${most.pattern} under ${plain?.words}.`
        : `The embedding stage is not the bottleneck of the whole model: at most ${share} of a batch (${most.pattern}) under ${plain?.words}.`;
    return [{ text, cites, figure: 'model' }];
  },
};

const MODEL_HOTNESS: Rule<BenchResults> = {
  name: 'model-hotness',
  threshold: NOISE,
  reason: `latency on the coldest over the hottest pattern; ${NOISE_REASON}`,
  find({ model }) {
    // Inputs in one place: elsewhere, copies hide what the lookups take.
    const inOnePlace = model.filter(({ inputs }) => inputs === model[0]?.inputs);
    return byRole(inOnePlace).flatMap(({ plans, words, rows }) => {
      const ends = hottestAndColdest(rows);
      if (ends === undefined) return [];
      const { hottest, coldest } = ends;
      const ratio = coldest.timing.medianMs / hottest.timing.medianMs;
      if (!Number.isFinite(ratio)) return [];
      const on = ({ pattern, variant }: ModelRow) =>
        plans.length > 1 ? `${pattern} (${techniques(variant)})` : pattern;
      const cites = [
        { what: on(coldest), value: ms(coldest.timing.medianMs) },
        { what: on(hottest), value: ms(hottest.timing.medianMs) },
      ] as const;
      const text =
        ratio >= this.threshold
          ? `With ${words}, the whole model takes ${times(ratio)} as long on ${on(coldest)} as on ${on(hottest)}.`
          : `With ${words}, the whole model does not slow down on cold lookups: ${times(ratio)} from ${on(hottest)} to ${on(coldest)}.`;
      return [{ text, cites, figure: 'model' }];
    });
  },
};

export const BENCH_RULES: readonly Rule<BenchResults>[] = [
  PAPER_CLAIMS,
  HOTNESS,
  FASTEST,
  PEER,
  OCCUPANCY,
  PINNING,
  LOSES,
  LIMIT,
  SWEEP,
  EMBEDDING_SHARE,
  MODEL_HOTNESS,
];

/** What a benchmark's results say. */
export const benchFindings = (results: BenchResults) => applyRules(BENCH_RULES, results);
