/** Characterization results as the terminal shows them. */
import { at } from '../at.ts';
import { byRole, techniques, unique, variantHeading } from '../bench/comparison.ts';
import { hasStages, type ModelRow, PLACES, type StagedModelRow } from '../bench/results.ts';
import {
  type Characterization,
  type CounterRow,
  groupLabel,
  groupsOf,
  type LaunchRow,
  type MeasuredGroup,
  plainTableUs,
  type StaticRow,
  tableUs,
} from '../characterize/results.ts';
import { percent, significant, times } from '../numbers.ts';
import { printable } from '../text.ts';
import { emphasise, NOTE_CHARACTERS, renderTable } from './print.ts';

export function characterizeText(results: Characterization): string {
  const { device, tools, counters, launches = [], static: compiled, model = [], notes } = results;
  const versions = Object.entries(tools).map(([name, number]) => `${name} ${number}`);
  const from = versions.length === 0 ? '' : `with ${versions.join(', ')}`;
  return [
    device === undefined
      ? `compiled ${from}; no GPU was asked`
      : printable(`${device.id}: ${device.name}, ${device.architecture} ${from}`.trimEnd()),
    ...groupTable(groupsOf([...counters, ...launches])),
    ...byKey(counters, ({ pattern }) => pattern, counterTable),
    ...byKey(launches, ({ pattern }) => pattern, launchTable),
    ...byKey(compiled, ({ gpu, architecture }) => `${gpu} (${architecture})`, staticTable),
    ...byRole(model.filter(hasStages)).flatMap(({ words, rows }) =>
      byKey(rows, ({ inputs }) => `whole model under ${words}${place(inputs)}`, stageTable),
    ),
    ...notes.map((note) => `\nnote: ${printable(note, NOTE_CHARACTERS)}`),
  ].join('\n');
}

/** A table under a heading for every key. */
function byKey<Row>(
  rows: readonly Row[],
  key: (row: Row) => string,
  table: (rows: readonly Row[]) => string,
): string[] {
  return [...new Set(rows.map(key))].map(
    (wanted) => `\n${emphasise(printable(wanted))}\n${table(rows.filter((row) => key(row) === wanted))}`,
  );
}

/** Time over the plain kernel's for the same tables, if that is among the rows. */
function ratio(row: LaunchRow | CounterRow, rows: readonly (LaunchRow | CounterRow)[]): string {
  const plain = plainTableUs(row, rows);
  return plain === undefined ? '–' : times(tableUs(row) / plain);
}

/** Which tables a row is for. */
function tablesOf({ group, tablesPerLaunch }: Pick<LaunchRow, 'group' | 'tablesPerLaunch'>): string {
  if (group !== undefined) return groupLabel(group);
  return tablesPerLaunch === 1 ? '–' : `all ${tablesPerLaunch}`;
}

/** Tables of which one was measured for all. */
function groupTable(groups: readonly MeasuredGroup[]): string[] {
  if (groups.length === 0) return [];
  const heads = ['dim', 'lookups a bag', 'distinct'].map((title) => ({ title }));
  const table = renderTable(
    [
      { title: 'tables', left: true },
      ...heads,
      { title: 'rows are', left: true },
      { title: 'pooling', left: true },
    ],
    groups.map((group) => [
      groupLabel(group),
      String(group.dim),
      significant(group.bagLength),
      percent(group.distinctShare),
      group.rowFormat,
      group.pooling,
    ]),
  );
  return [`\n${emphasise('tables, one of each kind measured')}\n${table}`];
}

function counterTable(rows: readonly CounterRow[]): string {
  const figures = renderTable(
    [
      { title: 'variant', left: true },
      { title: 'tables', left: true },
      ...[
        'µs a table',
        'by events',
        'of plain',
        'regs',
        'warps',
        'issue',
        'loads',
        'L1 hit',
        'L2 hit',
        'DRAM MB',
      ].map((title) => ({ title })),
      ...['DRAM', 'L2', 'fabric', 'L1', 'SM'].map((title) => ({ title })),
    ],
    rows.map((row) => [
      variantHeading(row.variant),
      tablesOf(row),
      significant(tableUs(row)),
      row.pairUs === undefined ? '–' : significant(row.pairUs / row.tablesPerLaunch),
      ratio(row, rows),
      String(row.registers),
      `${significant(row.achievedWarps)}/${Number(significant(row.theoreticalWarps))}`,
      percent(row.issueSlotUse),
      significant(row.longScoreboardPerIssue),
      percent(row.l1HitRate),
      percent(row.l2HitRate),
      (row.dramBytes / row.tablesPerLaunch / 1e6).toFixed(1),
      ...[row.dramShare, row.l2Share, row.fabricShare, row.l1Share, row.smShare].map((share) =>
        share === undefined ? '–' : percent(share),
      ),
    ]),
  );
  const limits = renderTable(
    [
      { title: 'variant', left: true },
      { title: 'tables', left: true },
      { title: 'bound by', left: true },
      { title: 'because', left: true },
    ],
    rows.map((row) => [variantHeading(row.variant), tablesOf(row), row.limiter, row.because]),
  );
  return `${figures}\n\n${limits}`;
}

function launchTable(rows: readonly LaunchRow[]): string {
  return renderTable(
    [
      { title: 'variant', left: true },
      { title: 'tables', left: true },
      { title: 'µs a table' },
      { title: 'of plain' },
    ],
    rows.map((row) => [
      variantHeading(row.variant),
      tablesOf(row),
      significant(tableUs(row)),
      ratio(row, rows),
    ]),
  );
}

function staticTable(rows: readonly StaticRow[]): string {
  return renderTable(
    [
      { title: 'variant', left: true },
      { title: 'registers' },
      { title: 'spilled' },
      { title: 'shared' },
      { title: 'warps' },
      { title: 'occupancy' },
      { title: 'limited by', left: true },
    ],
    rows.map(({ variant, registers, spillBytes, sharedBytes, warps, occupancy, limiter }) => [
      variantHeading(variant),
      String(registers),
      spillBytes === 0 ? '–' : `${spillBytes} B`,
      sharedBytes === 0 ? '–' : `${sharedBytes} B`,
      String(warps),
      percent(occupancy),
      limiter,
    ]),
  );
}

const place = (inputs: ModelRow['inputs']) => (inputs === undefined ? '' : `, inputs in ${PLACES[inputs]}`);

/** Where the time goes, and how much longer the coldest pattern takes than the hottest. */
function stageTable(rows: readonly StagedModelRow[]): string {
  const tellPlans = unique(rows.map(({ variant }) => variant)).length > 1;
  const stages = ['embedding', 'bottom', 'interaction', 'top', 'copies', 'host'];
  const table = renderTable(
    [
      { title: 'pattern', left: true },
      { title: 'ms' },
      ...stages.map((title) => ({ title })),
      { title: 'share' },
      ...(tellPlans ? [{ title: 'techniques', left: true }] : []),
    ],
    rows.map((row) => [
      row.pattern,
      ...[row.timing.medianMs, row.embeddingMs, row.bottomMs, row.interactionMs, row.topMs].map(significant),
      ...[row.copyMs, row.hostMs].map(significant),
      percent(row.embeddingShare),
      ...(tellPlans ? [techniques(row.variant)] : []),
    ]),
  );
  const byTime = rows.toSorted((a, b) => a.timing.medianMs - b.timing.medianMs);
  const [hottest, coldest] = [at(byTime, 0), at(byTime, byTime.length - 1)];
  const over = significant(coldest.timing.medianMs / hottest.timing.medianMs);
  return `${table}\n${printable(`${coldest.pattern} takes ${over}× as long as ${hottest.pattern}`)}`;
}
