import { Command, Option } from 'commander';
import { openDevice } from '../../backend/open-backend.ts';
import { bench } from '../../bench/bench.ts';
import { PEERS } from '../../bench/peers.ts';
import { PRESETS, type Preset, paperTables } from '../../bench/presets.ts';
import type { DensePrecision, DeviceDescription } from '../../device.ts';
import { UsageError } from '../../errors.ts';
import { TECHNIQUES, techniquesOn } from '../../plan/techniques/registry.ts';
import { benchText } from '../bench-text.ts';
import { interrupted } from '../interrupt.ts';
import {
  formatOption,
  integer,
  planOption,
  precisionOption,
  resolvePlan,
  type StreamFlags,
  streamsOf,
  withDevice,
  withStreams,
} from '../options.ts';
import { type Format, notice, printJson, printLine, progress } from '../print.ts';
import {
  checkResultFiles,
  commandLine,
  type ResultFiles,
  withResultFiles,
  writeResults,
} from '../result-files.ts';
import {
  bagLengthsOf,
  presetLines,
  readWorkloads,
  type WorkloadOptions,
  withWorkload,
  workloadInputs,
  workloadShape,
} from '../workload-options.ts';

interface Options extends WorkloadOptions, ResultFiles, StreamFlags {
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly rounds?: number;
  readonly sweep?: readonly string[];
  readonly peers: boolean;
  readonly format: Format;
}

export function benchCommand(): Command {
  const command = new Command('bench').description(
    'compare the embedding stage under every technique, then time the whole model',
  );
  return withStreams(withResultFiles(withWorkload(withDevice(command), 'quick')))
    .option('--rounds <n>', 'timed rounds', integer(1))
    .addOption(precisionOption())
    .addOption(planOption().default('auto', 'only the techniques and the best found').argParser(String))
    .addOption(
      new Option('--sweep <technique...>', 'also run techniques over their whole range').choices(
        TECHNIQUES.map(({ name }) => name),
      ),
    )
    .option('--no-peers', `do not measure ${PEERS.map(({ name }) => name).join(' and ')}`)
    .addOption(formatOption())
    .addHelpText(
      'after',
      `
Presets:
${presetLines()}

Examples:
  hotrow bench
  hotrow bench --trace med_hot.txt low_hot.txt --json results.json
  hotrow bench dlrm.safetensors --bag-lengths poisson:20
  hotrow bench dlrm.pt --trace requests/
  hotrow bench dlrm.pt --trace ads=ads.txt users=users.txt`,
    )
    .action(run);
}

async function run(modelFile: string | undefined, options: Options): Promise<void> {
  const preset: Preset = PRESETS[options.preset];
  await checkResultFiles(options, workloadInputs(modelFile, options, options.plan));
  const plan = await resolvePlan(options.plan);
  const asked = await workloadShape(modelFile, options);
  const drawAsked = await readWorkloads(asked, options);
  const { device, threads } = options;
  const { backend, reason } = openDevice({
    device,
    ...(threads === undefined ? {} : { threads }),
    ...streamsOf(options),
  });
  using _ = backend;
  checkSweeps(options.sweep ?? [], backend.device);
  const { shape, draw, whole } = await paperLookups(backend.device, modelFile, options, {
    shape: asked,
    draw: drawAsked,
  });
  const workloads = draw();

  const results = await bench({
    backend,
    architecture: shape.architecture,
    preset: options.preset,
    command: commandLine(),
    workloads,
    bagLengths: bagLengthsOf(workloads, shape),
    seed: options.seed,
    indexType: options.indexType,
    embeddingRounds: preset.embeddingRounds === 0 ? 0 : (options.rounds ?? preset.embeddingRounds),
    modelRounds: preset.modelRounds === 0 ? 0 : (options.rounds ?? preset.modelRounds),
    sweeps: options.sweep ?? [],
    peers: options.peers,
    paper: preset.paper !== undefined,
    ...(whole === undefined
      ? {}
      : { whole: { architecture: whole.shape.architecture, workloads: whole.draw() } }),
    onProgress: progress,
    signal: interrupted,
    ...(plan === undefined ? {} : { plan }),
    ...(options.precision === undefined ? {} : { precision: options.precision }),
  });
  progress('');
  await writeResults(results, options);
  if (options.format === 'json') printJson(results);
  else printLine(benchText(results, reason));
  if (options.format === 'table' && options.report === undefined)
    notice('charts: add --report bench.html; a server to try: hotrow serve --preset quick');
}

/** Tables with the lookups of a run. */
interface Lookups {
  readonly shape: Awaited<ReturnType<typeof workloadShape>>;
  readonly draw: Awaited<ReturnType<typeof readWorkloads>>;
}

/** What a preset by the paper's protocol looks up on a device, unless a model or a number of tables was given. */
async function paperLookups(
  device: DeviceDescription,
  modelFile: string | undefined,
  options: Options,
  asked: Lookups,
): Promise<Lookups & { readonly whole?: Lookups }> {
  const { paper }: Preset = PRESETS[options.preset];
  if (paper === undefined || modelFile !== undefined || options.tables !== undefined) return asked;
  const lookups = async (tables: number, batches: number): Promise<Lookups> => {
    const shape = { ...(await workloadShape(undefined, { ...options, tables })), batches };
    return { shape, draw: await readWorkloads(shape, options) };
  };
  const { embedding, model } = paperTables(paper, asked.shape.architecture.tables, device);
  if (model === embedding) return lookups(embedding, asked.shape.batches);
  return { ...asked, whole: await lookups(model, paper.modelBatches) };
}

/** @throws UsageError for a technique that the device does not have. */
function checkSweeps(sweeps: readonly string[], { kind, id }: DeviceDescription): void {
  const names = techniquesOn(kind).map(({ technique }) => technique.name);
  const unknown = sweeps.find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new UsageError('USAGE', `--sweep ${unknown}: ${id} has no such technique`, {
    hint: `its techniques are ${names.join(', ')}`,
  });
}
