/** Results as tables for a terminal of 80 columns. Pure: results in, cells out. */

import { percent, significant, times } from '../numbers.ts';
import { type Plan, planLabel } from '../plan/plan.ts';
import { artifactCombinations, paperClaims, productCombinations } from './claims.ts';
import {
  baselineName,
  byRole,
  compared,
  heading,
  launchPerTable,
  launchSpeedup,
  modelRole,
  peersOf,
  plainRows,
  techniques,
  unique,
} from './comparison.ts';
import { type BenchResults, type EmbeddingRow, type ModelRow, PLACES } from './results.ts';

export interface RenderedTable {
  readonly title: string;
  readonly columns: readonly { readonly title: string; readonly left?: boolean }[];
  readonly rows: readonly (readonly string[])[];
}

/** Variants × patterns; `cell` says what stands where they meet. */
function grid(
  title: string,
  rows: readonly EmbeddingRow[],
  cell: (row: EmbeddingRow) => string | undefined,
): RenderedTable | undefined {
  const told = rows.filter((row) => cell(row) !== undefined);
  if (told.length === 0) return undefined;
  const patterns = unique(told.map((row) => row.pattern));
  const cells = new Map(told.map((row) => [`${heading(row)} ${row.pattern}`, cell(row)]));
  return {
    title,
    columns: [{ title: 'variant', left: true }, ...patterns.map((pattern) => ({ title: pattern }))],
    rows: unique(told.map(heading)).map((name) => [
      name,
      ...patterns.map((pattern) => cells.get(`${name} ${pattern}`) ?? '–'),
    ]),
  };
}

/** Variants × patterns: median ms and speed relative to the plain kernel. */
export function embeddingTable(results: BenchResults): RenderedTable | undefined {
  const rows = compared(results);
  const [first] = rows;
  if (first === undefined) return undefined;
  return grid(
    `embedding stage: ms per batch of ${first.batchSize}, ${first.tables} tables, and speed over the ${baselineName(results)}`,
    rows,
    ({ timing, speedup }) => `${significant(timing.medianMs)} ${significant(speedup)}×`,
  );
}

/** Where launches are timed: µs of one, by table, and speed relative to the plain kernel, pinning left out. */
export function launchTable(results: BenchResults): RenderedTable | undefined {
  const plain = plainRows(results);
  return grid(
    `one table, µs by a pair of events around its launch (of one for all tables: its share), and speed over the ${baselineName(results)};\npinning left out`,
    compared(results),
    (row) => {
      const speedup = launchSpeedup(row, plain.get(row.pattern));
      if (speedup === undefined) return undefined;
      return `${significant(launchPerTable(row)?.medianUs as number)} ${significant(speedup)}×`;
    },
  );
}

/** µs that bringing a table's pinned rows in takes, and both together. */
export function pinTable(results: BenchResults): RenderedTable | undefined {
  return grid(
    'one table, µs to bring its pinned rows in, and with its launch',
    compared(results),
    ({ pin, launch }) => {
      if (pin === undefined || launch === undefined) return undefined;
      return `${significant(pin.medianUs)}, ${significant(pin.medianUs + launch.medianUs)}`;
    },
  );
}

/** Speed relative to every peer, launch by launch. */
export function peerTables(results: BenchResults): (RenderedTable | undefined)[] {
  return peersOf(results).map(({ implementation, rows }) =>
    grid(
      `one table, speed over ${implementation} in the same run, by the event pairs; pinning left out`,
      compared(results),
      (row) => {
        const speedup = launchSpeedup(row, rows.get(row.pattern));
        return speedup === undefined ? undefined : `${significant(speedup)}×`;
      },
    ),
  );
}

/** How near every variant is to the speed of light. */
export function limitTable(results: BenchResults): RenderedTable | undefined {
  return grid(
    'share of the speed of light\n(distinct rows from memory, all lookups from the last cache; more: from nearer)',
    compared(results),
    ({ limitShare }) => (limitShare === undefined ? undefined : percent(limitShare)),
  );
}

/** What the compiled kernels take. */
export function kernelTable(results: BenchResults): RenderedTable | undefined {
  const rows = results.embedding.filter(({ kernel }) => kernel !== undefined);
  if (rows.length === 0) return undefined;
  const kernels = new Map(rows.map((row) => [heading({ ...row, best: false }), row.kernel]));
  return {
    title: 'kernels: registers and local bytes of a thread, warps on a multiprocessor',
    columns: [
      { title: 'variant', left: true },
      ...['registers', 'local', 'warps', 'occupancy'].map((title) => ({ title })),
    ],
    rows: [...kernels].map(([name, kernel]) => [
      name,
      `${kernel?.registers}`,
      `${kernel?.localBytes}`,
      `${kernel?.warps}`,
      percent(kernel?.occupancy ?? 0),
    ]),
  };
}

/** A technique over its whole range: µs per launch (pinning + kernel), or ms per batch. */
function sweepTables(results: BenchResults): (RenderedTable | undefined)[] {
  const sweeps = unique(results.embedding.flatMap(({ sweep }) => (sweep === undefined ? [] : [sweep])));
  return sweeps.map((sweep) => {
    const rows = results.embedding.filter((row) => row.sweep === sweep);
    const inMicroseconds = rows.some(({ launch }) => launch !== undefined);
    return grid(
      `${sweep}, over its range: ${inMicroseconds ? 'µs of one table (pinning + kernel)' : 'ms per batch'}`,
      rows,
      (row) => {
        const { pin, timing } = row;
        const launch = launchPerTable(row);
        if (launch === undefined) return significant(timing.medianMs);
        const bags = significant(launch.medianUs);
        return pin === undefined ? bags : `${significant(pin.medianUs)}+${bags}`;
      },
    );
  });
}

/** Per pattern: the best plan, how hot the lookups are, and the ratio to every peer. */
export function bestTable(results: BenchResults): RenderedTable | undefined {
  const best = results.embedding.filter((row) => row.best);
  if (best.length === 0) return undefined;
  const peers = peersOf(results);
  return {
    title: 'best plan found',
    columns: [
      { title: 'pattern', left: true },
      { title: 'distinct' },
      { title: 'GB/s' },
      ...peers.map(({ name }) => ({ title: `vs ${name}` })),
      { title: 'techniques', left: true },
    ],
    rows: best.map(({ pattern, distinctShare, gigabytesPerSecond, plan, timing }) => {
      const ratios = peers.map(({ rows }) => {
        const peer = rows.get(pattern);
        return peer === undefined ? '–' : `${significant(peer.timing.medianMs / timing.medianMs)}×`;
      });
      return [
        pattern,
        percent(distinctShare, 1),
        gigabytesPerSecond.toFixed(1),
        ...ratios,
        techniques(planLabel(plan as Plan)),
      ];
    }),
  };
}

/** Pattern × plan: latency, the embedding stage's share, throughput. One table for each place of the inputs. */
export function modelTables({ model, embedding }: BenchResults): RenderedTable[] {
  const bestTold = embedding.some(({ best }) => best);
  return unique(model.map(({ inputs }) => inputs)).map((inputs) =>
    modelTable(
      model.filter((row) => row.inputs === inputs),
      bestTold,
    ),
  );
}

/** `bestTold`: a table before this one has the best plans of all patterns. */
function modelTable(model: readonly ModelRow[], bestTold: boolean): RenderedTable {
  const [first] = model as [ModelRow];
  const withP99 = first.timing.p99Ms !== undefined;
  const several = model.some(({ inFlight = 1 }) => inFlight > 1);
  const isOwn = ({ implementation }: ModelRow) => implementation === 'hotrow';
  const name = (row: ModelRow) =>
    isOwn(row) ? modelRole(row) : `${row.implementation.split(/[ +]/, 2).join(' ')} ${row.variant}`;
  const where = several && first.inputs !== undefined ? `; inputs in ${PLACES[first.inputs]}` : '';
  const roles = byRole(model);
  const rowsTellPlans = !bestTold && roles.some(({ plans }) => plans.length > 1);
  const plans = rowsTellPlans
    ? []
    : roles
        .filter(({ role }) => role !== 'plain' && role !== 'artifact')
        .map(({ role, plans: [plan, ...others] }) =>
          others.length > 0
            ? `${role}: the best plan found on each pattern`
            : `${role}: ${techniques(plan as string)}`,
        );
  const ms = (value: number | undefined) => (value === undefined ? '–' : significant(value));
  const share = (value: number | undefined) => (value === undefined ? '–' : percent(value));
  return {
    title: `whole model: latency per batch of ${first.batchSize}, ${first.tables} tables${where}${plans.map((line) => `\n${line}`).join('')}`,
    columns: [
      { title: 'pattern', left: true },
      { title: 'plan', left: true },
      { title: 'ms' },
      { title: withP99 ? 'p99' : 'p10–p90' },
      ...(several ? [{ title: 'ms in flight' }] : []),
      { title: 'embedding' },
      { title: 'share' },
      ...(first.inputLimitShare === undefined ? [] : [{ title: 'of link' }]),
      { title: 'samples/s' },
      { title: 'speed' },
      ...(rowsTellPlans ? [{ title: 'techniques', left: true }] : []),
    ],
    rows: model.map((row) => [
      row.pattern,
      name(row),
      significant(row.timing.medianMs),
      withP99
        ? significant(row.timing.p99Ms ?? Number.NaN)
        : `${significant(row.timing.p10Ms)}–${significant(row.timing.p90Ms)}`,
      ...(several ? [ms(row.batchMs)] : []),
      ms(row.embeddingMs),
      share(row.embeddingShare),
      ...(first.inputLimitShare === undefined ? [] : [share(row.inputLimitShare)]),
      Math.round(row.samplesPerSecond).toLocaleString('en-US'),
      `${significant(row.speedup)}×`,
      ...(rowsTellPlans ? [isOwn(row) ? techniques(row.variant) : ''] : []),
    ]),
  };
}

/** The paper's claims beside what the run gives. */
export function claimsTable(results: BenchResults): RenderedTable | undefined {
  const claims = paperClaims(results);
  if (claims.length === 0) return undefined;
  return {
    title: `the paper's claims, on an A100, and what ${results.device.id} gives:\nthe largest ratio over the patterns`,
    columns: [
      { title: 'claim', left: true },
      { title: 'paper' },
      { title: 'here' },
      { title: 'where', left: true },
    ],
    rows: claims.map(({ what, paper, here, where = '' }) => [
      what,
      paper === undefined ? '–' : times(paper),
      here === undefined ? '–' : times(here),
      where,
    ]),
  };
}

/** The paper's combinations on its own kernel, and Hotrow's plans, over that kernel without a technique. */
export function combinationsTable(results: BenchResults): RenderedTable | undefined {
  const artifact = artifactCombinations(results);
  if (artifact.length === 0) return undefined;
  const patterns = unique(compared(results).map(({ pattern }) => pattern));
  return {
    title:
      "one table, µs by a pair of events around its launch, and speed over\nthe paper's kernel without a technique; of each combination the fastest setting",
    columns: [{ title: 'techniques', left: true }, ...patterns.map((pattern) => ({ title: pattern }))],
    rows: [...artifact, ...productCombinations(results)].map(({ name, byPattern }) => [
      name,
      ...patterns.map((pattern) => {
        const fastest = byPattern.get(pattern);
        return fastest === undefined ? '–' : `${significant(fastest.time)} ${times(fastest.speedup)}`;
      }),
    ]),
  };
}

/** Every table of the results, in reading order. */
export function benchTables(results: BenchResults): RenderedTable[] {
  return [
    claimsTable(results),
    combinationsTable(results),
    launchTable(results),
    ...peerTables(results),
    pinTable(results),
    embeddingTable(results),
    limitTable(results),
    bestTable(results),
    kernelTable(results),
    ...sweepTables(results),
    ...modelTables(results),
  ].filter((table) => table !== undefined);
}
