import { Command, Option } from 'commander';
import type { Backend } from '../../backend/backend.ts';
import { openDevice } from '../../backend/open-backend.ts';
import type { BenchWorkload } from '../../bench/workload.ts';
import { type Plan, planLabel } from '../../embedding/plan.ts';
import { savedPlanFile, savePlan, tunedVersions } from '../../embedding/saved-plans.ts';
import { EmbeddingTimer } from '../../tuner/embedding-timer.ts';
import { type SearchResult, searchPlan } from '../../tuner/search.ts';
import { ACCESS_PATTERNS } from '../../workload/access-patterns.ts';
import { duration, formatOption, withDevice } from '../options.ts';
import {
  type Format,
  formatMs,
  formatPercent,
  printJson,
  printLine,
  progress,
  renderTable,
} from '../output.ts';
import { readWorkloads, type ShapeOptions, withShape, workloadShape } from '../workload-options.ts';

interface Options extends ShapeOptions {
  readonly device: string;
  readonly threads?: number;
  readonly trace?: string;
  readonly pattern: string;
  readonly budget: number;
  readonly out?: string;
  readonly format: Format;
}

/** Distinct batches in rotation. */
const BATCHES = 4;
/** Plans that the table shows. */
const SHOWN = 10;

export function tuneCommand(): Command {
  const command = new Command('tune').description(
    'find the fastest plan for a model, its traffic and this device, and save it',
  );
  return withShape(withDevice(command), 'quick')
    .option('--trace <file>', 'lookups to tune for')
    .addOption(
      new Option('--pattern <pattern>', 'access pattern to tune for when there is no trace')
        .choices(Object.keys(ACCESS_PATTERNS))
        .default('med_hot'),
    )
    .option('--budget <time>', 'time to spend on measurements: 60s, 2m', duration, 60)
    .option('--out <file>', 'save the plan here, for --plan; default: where --plan auto finds it')
    .addOption(formatOption())
    .addHelpText('after', '\nExample:\n  hotrow tune dlrm.pt --trace lookups.txt --budget 30s')
    .action(tune);
}

async function tune(modelFile: string | undefined, options: Options): Promise<void> {
  const shape = { ...(await workloadShape(modelFile, options)), batches: BATCHES };
  const { trace, pattern } = options;
  const draw = await readWorkloads(shape, trace === undefined ? { patterns: pattern } : { trace: [trace] });
  const { backend, reason } = openDevice(options);
  using _ = backend;
  const [{ embedding }] = draw() as [BenchWorkload];
  using timer = new EmbeddingTimer(backend, shape.architecture.tables, progress);
  await timer.load(embedding.batches);
  const search = await searchPlan(timer, { seconds: options.budget, onProgress: progress });
  progress('');
  const plan = withProvenance(search, backend, embedding);
  const file = options.out ?? savedPlanFile(timer.context);
  await savePlan(plan, file);
  if (options.format === 'json') printJson({ plan, file, ...asJson(search) });
  else printSearch(search, plan, file, backend, reason);
}

function withProvenance(
  { plan, batchMs, plainMs }: SearchResult,
  { device }: Backend,
  { pattern, batches, distinctShare }: BenchWorkload['embedding'],
): Plan {
  return {
    ...plan,
    tunedOn: {
      device: device.name,
      architecture: device.architecture,
      versions: tunedVersions(device),
      createdAt: new Date().toISOString(),
      workload: pattern,
      distinctShare,
      batchSize: batches[0]?.batchSize ?? 0,
      batchMs,
      plainMs,
    },
  };
}

function asJson({ legal, rejected, measured, finished, seconds }: SearchResult) {
  const plans = measured.map(({ plan, batchMs }) => ({ plan: planLabel(plan), batchMs }));
  return { legal, rejected, finished, seconds, measured: plans };
}

function printSearch(
  search: SearchResult,
  plan: Plan,
  file: string,
  { device }: Backend,
  reason: string | undefined,
): void {
  const { legal, rejected, measured, finished, seconds, batchMs, plainMs } = search;
  printLine(`device  ${device.id}: ${device.name}, ${device.architecture}`);
  if (reason !== undefined) printLine(`        (${reason})`);
  printLine(
    `lookups ${plan.tunedOn?.workload}, ${formatPercent(plan.tunedOn?.distinctShare ?? 0)} distinct in a batch`,
  );
  const left = rejected > 0 ? `, ${rejected} rejected by the model of occupancy` : '';
  printLine(
    `search  ${legal} legal plans${left}, ${measured.length} measured in ${seconds.toFixed(1)} s${finished ? '' : '; the budget ended it'}`,
  );
  printLine();
  const rows = measured
    .map(({ plan, batchMs }) => ({
      label: planLabel(plan),
      best: Math.min(...batchMs),
      runs: batchMs.length,
    }))
    .sort((a, b) => b.runs - a.runs || a.best - b.best)
    .slice(0, SHOWN)
    .map(({ label, best, runs }) => [label, formatMs(best), String(runs)]);
  printLine(
    renderTable(
      [{ title: 'last in the race', left: true }, { title: 'fastest ms' }, { title: 'runs' }],
      rows,
    ),
  );
  printLine();
  printLine(
    `best    ${planLabel(plan)}: ${formatMs(batchMs)} ms a batch, ${(plainMs / batchMs).toFixed(2)}× the plain kernel`,
  );
  printLine(`saved   ${file}`);
}
