import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { PRESETS, type PresetName } from '../../bench/presets.ts';
import type { DensePrecision } from '../../device.ts';
import { ROW_FORMATS, type RowFormat } from '../../embedding/bag.ts';
import { UsageError } from '../../errors.ts';
import { devicesOf } from '../../serve/devices-of.ts';
import { DEFAULT_FRONT_LIMITS } from '../../serve/door.ts';
import type { Placing } from '../../serve/engine/model-source.ts';
import { METRIC_NAMES, type MetricNames } from '../../serve/figures.ts';
import type { ModelCatalog, ReloadMode, ServeModel } from '../../serve/models/serve-model.ts';
import { FolderCatalog } from '../../serve/repository/folder-catalog.ts';
import { Server } from '../../serve/server.ts';
import { HangUps } from '../hang-ups.ts';
import { endsWhenInterrupted } from '../interrupt.ts';
import {
  architectureOverrides,
  duration,
  integer,
  type ModelOptions,
  planOption,
  precisionOption,
  resolvePlan,
  withModel,
} from '../options.ts';
import { readServeSecurity, type SecurityOptions, withSecurity } from '../security-options.ts';
import { LOG_FORMS, type LogForm, serveLog } from '../serve-log.ts';

interface Options extends ModelOptions, SecurityOptions {
  readonly device: string;
  readonly threads?: number;
  readonly precision?: DensePrecision;
  readonly plan: string;
  readonly preset?: PresetName;
  readonly models?: string;
  readonly reload: ReloadMode;
  readonly rows?: number;
  readonly tables?: number;
  readonly rowFormat?: RowFormat;
  readonly port: number;
  readonly grpcPort?: number;
  readonly ioThreads?: number;
  readonly sla?: number;
  readonly busyPoll?: number;
  readonly maxBatch?: number;
  readonly queueSamples: number;
  readonly maxBody: number;
  readonly requestMemory?: number;
  readonly drain: number;
  readonly log: LogForm;
  readonly accessLog?: true;
  readonly metricsNames: MetricNames;
  readonly recordTraffic?: string;
  readonly recordEvery: number;
  readonly recordSize: number;
}

const MEBIBYTE = 1 << 20;
/** What batches are made for where no SLA is given. */
const USUAL_SLA_MS = 100;
/** A thread that receives requests does about 1 GB/s; the others are the engine's. */
const MOST_IO_THREADS = 8;
const CORES_PER_IO_THREAD = 3;
const USUAL_REQUEST_MIB = 512;
/** While a body grows it moves from slot to slot: three of the largest always hold one. */
const BODIES_OF_THREAD = 3;
/** Memory of a thread that receives requests is one view. */
const MOST_THREAD_BYTES = 2 ** 30;

export function serveCommand(): Command {
  const command = new Command('serve')
    .description(
      'answer inference requests over HTTP and gRPC (Open Inference Protocol), in batches made by deadline',
    )
    .argument('[models...]', 'checkpoints or descriptions; NAME=FILE names one, else its file does')
    .option('--models <folder>', 'serve the models of a repository: FOLDER/MODEL/VERSION/')
    .addOption(
      new Option(
        '--reload <how>',
        'where memory does not hold a model twice: refuse, or write it over the old one',
      )
        .choices(['beside', 'in-place'])
        .default('beside'),
    )
    .option('--device <device>', 'auto, cpu, cuda[:N], or cuda:all for a copy on each GPU', 'auto')
    .option('--threads <n>', "the CPU engine's threads (default: all cores)", integer(1))
    .addOption(
      new Option('--preset <preset>', "serve a preset's synthetic model").choices(Object.keys(PRESETS)),
    )
    .option('--tables <n>', 'number of tables of a preset', integer(1))
    .option('--rows <n>', 'rows of a table of a preset', integer(1))
    .addOption(new Option('--row-format <format>', "how a preset's rows are stored").choices(ROW_FORMATS))
    .option('--port <n>', 'the port to listen on; 0: any that is free', port, 8000)
    .option('--grpc-port <n>', 'speak gRPC on this port too; 0: any that is free (default: no gRPC)', port)
    .option('--io-threads <n>', 'threads that receive requests (default: by cores)', integer(1, 256))
    .option(
      '--sla <time>',
      'in which requests must be answered that do not say (default: no limit)',
      duration,
    )
    .option(
      '--busy-poll <time>',
      'for how long threads look for work before they sleep (default: 2ms beside a GPU, where cores are plenty; else 0)',
      (text: string) => (text === '0' ? 0 : duration(text)),
    )
    .option('--max-batch <samples>', 'samples of a batch (default: by device)', integer(1))
    .option('--queue-samples <n>', 'samples that may wait', integer(1), 262_144)
    .option('--max-body <MiB>', 'of a request', integer(1), DEFAULT_FRONT_LIMITS.bodyBytes / MEBIBYTE)
    .option(
      '--request-memory <MiB>',
      'for all requests that are not answered yet (default: 512, or three of the largest a thread)',
      integer(1),
    )
    .option('--drain <time>', 'how long requests under way are waited for at the end', duration, 30)
    .addOption(new Option('--log <form>', 'of events, on standard error').choices(LOG_FORMS).default('text'))
    .option('--access-log', 'each request as a line of JSON on standard output')
    .addOption(
      new Option('--metrics-names <names>', "of /metrics: Hotrow's own, or Triton's too")
        .choices(METRIC_NAMES)
        .default('hotrow'),
    )
    .option('--record-traffic <folder>', 'keep a sample of the requests, for `tune` and `bench`')
    .option('--record-every <n>', 'of so many batches, one is a candidate', integer(1), 100)
    .option('--record-size <MiB>', 'of what is recorded, at most', integer(1), 256)
    .addOption(precisionOption())
    .addOption(planOption());
  return withModel(withSecurity(command))
    .addHelpText(
      'after',
      `
Examples:
  hotrow serve dlrm.pt --sla 10ms
  hotrow serve ads=ads.pt feed=feed.safetensors --device cuda:all
  hotrow serve --preset quick --port 0 --grpc-port 0

SIGHUP: certificates, tokens and the folder of --models are read again.
SIGTERM or Ctrl-C: not ready any more, answers what has come, exits with 0.`,
    )
    .action(serve);
}

function port(text: string): number {
  const value = integer(0)(text);
  if (value > 65_535) throw new InvalidArgumentError('a port is at most 65535.');
  return value;
}

async function serve(files: string[], options: Options): Promise<void> {
  using hangUps = new HangUps();
  const { host, sla, busyPoll, maxBatch, queueSamples, maxBody, drain } = options;
  const onEvent = serveLog(options.log);
  const security = await readServeSecurity(options, onEvent);
  const models = await modelsOf(files, options);
  const slaMs = sla === undefined ? undefined : 1000 * sla;
  const ioThreads = options.ioThreads ?? usualIoThreads();
  const requestBytes = requestMemory(options, ioThreads);
  const signal = endsWhenInterrupted();
  const starting = Server.start({
    models,
    reload: options.reload,
    host,
    port: options.port,
    ...(options.grpcPort === undefined ? {} : { grpcPort: options.grpcPort }),
    ioThreads,
    ...(slaMs === undefined ? {} : { slaMs }),
    ...(busyPoll === undefined ? {} : { pollMs: 1000 * busyPoll }),
    batching: {
      slaMs: slaMs ?? USUAL_SLA_MS,
      queueSamples,
      ...(maxBatch === undefined ? {} : { mostSamples: maxBatch }),
    },
    security,
    limits: { ...DEFAULT_FRONT_LIMITS, bodyBytes: maxBody * MEBIBYTE },
    requestBytes,
    drainMs: 1000 * drain,
    onEvent,
    logsAccess: options.accessLog ?? false,
    metricNames: options.metricsNames,
    ...(options.recordTraffic === undefined
      ? {}
      : {
          recording: {
            folder: options.recordTraffic,
            every: options.recordEvery,
            diskBytes: options.recordSize * MEBIBYTE,
          },
        }),
    signal,
  });
  const server = await starting.catch((error) => {
    // Whoever ends it while it loads gets what a server that runs gives: no error.
    if (!signal.aborted) throw error;
  });
  if (server === undefined) return onEvent({ kind: 'closed' });
  const told = (error: Error) => onEvent({ kind: 'error', error });
  // Who may ask does not wait for models to load.
  hangUps.heed(
    () =>
      readServeSecurity(options, onEvent)
        .then((renewed) => server.renew(renewed))
        .catch(told),
    () => server.refresh().catch(told),
  );
  try {
    await Promise.race([once(signal), server.failed]);
  } finally {
    hangUps.ignore();
    await server.close();
  }
}

/** Bytes for requests. @throws UsageError USAGE. */
function requestMemory({ requestMemory, maxBody }: Options, ioThreads: number): number {
  const least = BODIES_OF_THREAD * maxBody * ioThreads;
  const bytes = (requestMemory ?? Math.max(USUAL_REQUEST_MIB, least)) * MEBIBYTE;
  const most = MOST_THREAD_BYTES / MEBIBYTE;
  if (BODIES_OF_THREAD * maxBody > most)
    throw new UsageError(
      'USAGE',
      `--max-body ${maxBody}: a body has ${Math.floor(most / BODIES_OF_THREAD)} MiB at most`,
    );
  if (bytes / ioThreads > MOST_THREAD_BYTES)
    throw new UsageError('USAGE', `--request-memory ${requestMemory}: a thread has ${most} MiB at most`, {
      hint: 'give more --io-threads',
    });
  if (bytes < least * MEBIBYTE)
    throw new UsageError('USAGE', `--request-memory ${requestMemory}: ${ioThreads} threads share it`, {
      hint: `${BODIES_OF_THREAD} bodies of --max-body ${maxBody} for each need ${least}; or take fewer --io-threads`,
    });
  return bytes;
}

function usualIoThreads(): number {
  return Math.max(1, Math.min(MOST_IO_THREADS, Math.floor(availableParallelism() / CORES_PER_IO_THREAD)));
}

async function modelsOf(files: readonly string[], options: Options): Promise<ServeModel[] | ModelCatalog> {
  const { preset, rows, tables, rowFormat } = options;
  const shape = {
    ...(rows === undefined ? {} : { rows }),
    ...(tables === undefined ? {} : { tables }),
    ...(rowFormat === undefined ? {} : { rowFormat }),
  };
  if (preset === undefined && Object.keys(shape).length > 0)
    throw new UsageError('USAGE', '--tables, --rows and --row-format are for --preset');
  if (options.models !== undefined) {
    if (files.length > 0 || preset !== undefined)
      throw new UsageError('USAGE', '--models serves what is in its folder, and nothing else');
    const { device, threads, precision, plan } = options;
    const own = await resolvePlan(plan);
    return FolderCatalog.open(options.models, {
      device,
      overrides: architectureOverrides(options),
      ...(threads === undefined ? {} : { threads }),
      ...(precision === undefined ? {} : { precision }),
      ...(own === undefined ? {} : { plan: own }),
    });
  }
  if (files.length === 0 && preset === undefined)
    throw new UsageError('USAGE', 'there is no model to serve', {
      hint: 'name a checkpoint, a folder of --models, or a --preset',
    });
  const placings = await placingsOf(options);
  const models: ServeModel[] = files.map((file) => {
    const [, name, path = file] = /^([^=/]+)=(.+)$/.exec(file) ?? [];
    const overrides = architectureOverrides(options);
    return { name: name ?? nameOf(path), version: '1', source: { kind: 'file', path, overrides }, placings };
  });
  if (preset !== undefined)
    models.push({ name: preset, version: '1', source: { kind: 'preset', preset, shape }, placings });
  for (const [i, { name }] of models.entries()) {
    if (models.findIndex((other) => other.name === name) < i)
      throw new UsageError('USAGE', `two models are named ${name}`, { hint: 'name them: NAME=FILE' });
  }
  return models;
}

/** A file's name without what says its form. */
function nameOf(path: string): string {
  return basename(path).replace(/\.(?:pt|pth|safetensors|bin|hotrow\.json|index\.json|json)$/, '');
}

async function placingsOf({ device, threads, precision, plan }: Options): Promise<Placing[]> {
  const own = await resolvePlan(plan);
  return devicesOf(device).map((one) => ({
    device: one,
    ...(threads === undefined ? {} : { threads }),
    ...(precision === undefined ? {} : { precision }),
    ...(own === undefined ? {} : { plan: own }),
  }));
}

function once(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
