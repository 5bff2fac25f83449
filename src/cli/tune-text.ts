/** What `hotrow tune` found, for a terminal. */
import type { DeviceDescription } from '../device.ts';
import { type Plan, planLabel } from '../plan/plan.ts';
import { printable } from '../text.ts';
import type { SearchResult } from '../tuner/search.ts';
import type { SideBySide, Spread } from '../tuner/side-by-side.ts';
import type { Tuned } from '../tuner/tune.ts';
import { formatMs, formatPercent, NOTE_CHARACTERS, renderTable } from './print.ts';

export interface TunedReport {
  readonly tuned: Tuned;
  readonly plan: Plan;
  /** Where it was saved. */
  readonly file: string | undefined;
  readonly notes: readonly string[];
  /** Plans saved for this model and device before, which stay. */
  readonly kept: number;
  readonly device: DeviceDescription;
  /** Why this device was chosen. */
  readonly reason: string | undefined;
}

/** Plans that the table shows. */
const SHOWN = 10;

export function tunedText({ tuned, plan, file, notes, kept, device, reason }: TunedReport): string {
  const { search, comparison } = tuned;
  const { legal, rejected, measured, finished, seconds, plainMs } = search;
  const { workload = '', distinctShare = 0, batchSize = 0, batchMs = 0 } = plan.tunedOn ?? {};
  const left = rejected > 0 ? `, ${rejected} rejected by the model of occupancy` : '';
  return [
    printable(`device  ${device.id}: ${device.name}, ${device.architecture}`),
    ...(reason === undefined ? [] : [`        (${printable(reason)})`]),
    `lookups ${printable(workload)}, ${formatPercent(distinctShare)} distinct in a batch of ${batchSize}`,
    ...notes.map((note) => `        note: ${printable(note, NOTE_CHARACTERS)}`),
    `search  ${legal} legal plans${left}, ${measured.length} measured in ${seconds.toFixed(1)} s${finished ? '' : '; the budget ended it'}`,
    '',
    lastInTheRace(search),
    '',
    ...(comparison === undefined ? [] : [sideBySideTable(tuned, comparison), '']),
    `best    ${planLabel(plan)}: ${formatMs(batchMs)} ms a batch, ${(plainMs / batchMs).toFixed(2)}× the plain kernel`,
    ...verdict(tuned).map((line) => `        ${line}`),
    ...(file === undefined ? [] : [`saved   ${printable(file)}`]),
    ...(file === undefined && kept > 0
      ? ['        plans that were saved before stay; --plan auto takes the newest']
      : []),
  ].join('\n');
}

function lastInTheRace({ measured }: SearchResult): string {
  const rows = measured
    .map(({ plan, batchMs }) => ({
      label: planLabel(plan),
      best: Math.min(...batchMs),
      runs: batchMs.length,
    }))
    .sort((a, b) => b.runs - a.runs || a.best - b.best)
    .slice(0, SHOWN)
    .map(({ label, best, runs }) => [label, formatMs(best), String(runs)]);
  return renderTable(
    [{ title: 'last in the race', left: true }, { title: 'fastest ms' }, { title: 'runs' }],
    rows,
  );
}

function sideBySideTable({ search, heuristic }: Tuned, { standing, challenger, rounds }: SideBySide): string {
  const row = (name: string, plan: Plan, { medianMs, p10Ms, p90Ms }: Spread) => [
    name,
    planLabel(plan),
    formatMs(medianMs),
    `${formatMs(p10Ms)}–${formatMs(p90Ms)}`,
  ];
  return renderTable(
    [
      { title: 'side by side', left: true },
      { title: `in turns, ${rounds} rounds`, left: true },
      { title: 'median ms' },
      { title: 'p10–p90' },
    ],
    [row('found', search.plan, challenger), row('heuristic', heuristic, standing)],
  );
}

/** What the comparison says. */
function verdict({ comparison, isBetter }: Tuned): string[] {
  if (comparison === undefined) return ['the heuristic plan won the race'];
  const { gain, gainLow, gainHigh } = comparison;
  const times = `${gain.toFixed(3)}× (${gainLow.toFixed(3)}–${gainHigh.toFixed(3)}×) the heuristic plan`;
  if (isBetter) return [times];
  const why = gainHigh < 1 ? 'slower' : gainLow > 1 ? 'hardly any gain' : 'within the noise';
  return [`the plan found is ${times}: ${why}, so it is not saved, and the heuristic plan stays`];
}
