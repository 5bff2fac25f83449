import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { INDEX_TYPES } from '../../bench/workload.ts';
import { UsageError } from '../../errors.ts';
import type { IndexType } from '../../load/encode-request.ts';
import { isGeneratorLate } from '../../load/facts.ts';
import type { GeneratorFacts } from '../../load/generator.ts';
import { type LoadPlan, type LoadRuns, type Promised, runLoad } from '../../load/load.ts';
import { GeneratorProcesses, serveParent } from '../../load/processes.ts';
import { bagLengthsOf, type RequestSpec } from '../../load/request-pool.ts';
import { LOAD_VERSION, type LoadResults } from '../../load/results.ts';
import {
  describeServer,
  type ServerDescription,
  type ServerUrl,
  serverUrl,
} from '../../load/served-model.ts';
import { MLPERF } from '../../load/sizes.ts';
import { significant } from '../../numbers.ts';
import { firstToken } from '../../serve/security/tokens.ts';
import { version } from '../../version.ts';
import { ACCESS_PATTERNS, type AccessPatternName } from '../../workload/access-patterns.ts';
import { endsWithWhatItHas } from '../interrupt.ts';
import { loadText, runLine } from '../load-text.ts';
import { duration, formatOption, integer } from '../options.ts';
import { type Format, notice, printJson, printLine, progress } from '../print.ts';
import {
  checkResultFiles,
  commandLine,
  type ResultFiles,
  withResultFiles,
  writeResults,
} from '../result-files.ts';

interface Rates {
  readonly perSecond: readonly number[];
  /** Shares of what a search finds. */
  readonly ofFound: readonly number[];
}

interface Options extends ResultFiles {
  readonly model?: string;
  readonly tokenFile?: string;
  readonly rate?: Rates;
  readonly search?: Promised;
  readonly duration?: number;
  readonly count?: number;
  readonly warmup: number;
  readonly patience: number;
  readonly samples?: string;
  readonly mlperf?: boolean;
  readonly pattern: AccessPatternName;
  readonly bagLengths?: string;
  readonly indexType: IndexType;
  readonly userFeatures?: string;
  readonly userDense?: number;
  readonly trace?: readonly string[];
  readonly deadline?: number;
  readonly priority?: number;
  readonly bodies: number;
  readonly processes?: number;
  readonly connections: number;
  readonly sleep?: boolean;
  readonly seed: number;
  readonly format: Format;
  readonly worker?: boolean;
}

/** Of arrivals that count; seconds. */
const DEFAULT_DURATION = 10;
/** Memory of all requests that are prepared. */
const POOL_BYTES = 2 ** 29;
const MOST_PROCESSES = 8;

export function loadCommand(): Command {
  const command = new Command('load')
    .description('an open loop of requests to a server: its latency at a rate, or the rate at a latency')
    .argument('<url>', 'a server of the Open Inference Protocol: http://host:port')
    .option('--model <name>', 'the model (default: the one that the server has)')
    .option('--token-file <file>', 'a bearer token that the server knows: the first of the file')
    .option(
      '--rate <rates>',
      'requests/s: 500; 100,200,400; after a search also 130% of what it found',
      rates,
    )
    .option('--search <promise>', 'the highest rate that keeps p99=10ms, and 99 % in time', promise)
    .option('--duration <time>', 'of a run, after its warm-up (default: 10s)', duration)
    .option('--count <n>', 'arrivals of a run, in place of its duration', integer(1))
    .option('--warmup <time>', 'of a run: sent, and not counted', durationOrNone, 2)
    .option('--patience <time>', 'for how long answers are waited for at the end', duration, 10)
    .option('--samples <spec>', 'of a request: 100, uniform:1:300, poisson:20, … (default: 1)')
    .addOption(new Option('--mlperf', "MLPerf's sizes: 100 to 700 samples, mean 270").conflicts('samples'))
    .addOption(
      new Option('--pattern <name>', 'of ids that are drawn')
        .choices(Object.keys(ACCESS_PATTERNS))
        .default('random'),
    )
    .option(
      '--bag-lengths <spec>',
      'lookups of a bag: 150, uniform:1:300, …; 3/2/1: of each feature (default: 1)',
    )
    .addOption(new Option('--index-type <type>', 'of ids').choices([...INDEX_TYPES]).default('int64'))
    .option('--user-features <list>', "one user's, sent once: names, numbers, or auto: bags of 10 and more")
    .option('--user-dense <n>', "dense features that are the user's (default: all)", integer(0))
    .option('--trace <traffic...>', 'your own requests and traces, as bench takes them')
    .option('--deadline <time>', 'the server is told; what is later is not in time', duration)
    .option('--priority <n>', '1 is the highest', integer(0))
    .option('--bodies <n>', 'different requests, prepared beforehand', integer(1), 100)
    .option('--processes <n>', 'that send (default: by cores)', integer(1, 256))
    .option('--connections <n>', 'of a process, at most', integer(1), 256)
    .option('--sleep', 'between arrivals: up to 1 ms late, and not a core busy')
    .option('--seed <n>', 'of arrivals and requests', integer(0), 1);
  return withResultFiles(command)
    .addOption(formatOption())
    .addOption(new Option('--worker').hideHelp())
    .addHelpText(
      'after',
      `
Latency counts from when a request was due, whatever became of earlier ones: waiting in the client is waited, too.
Exit code 1: requests failed, other than by 503 and 504; runs of a search do not count.

Examples:
  hotrow load http://localhost:8000 --rate 1000 --deadline 10ms
  hotrow load http://gpu:8000 --mlperf --user-features auto --search p99=10ms --rate 1000,130% --report load.html
  hotrow load http://localhost:8000 --trace requests/ --rate 100,200,400 --json load.json`,
    )
    .action((url: string, options: Options) => {
      if (options.worker !== true) return run(url, options);
      // Whoever ends all processes at once means the first one, which stops and ends the others.
      endsWithWhatItHas();
      return serveParent();
    });
}

async function run(url: string, options: Options): Promise<void> {
  const token = options.tokenFile === undefined ? undefined : await firstToken(options.tokenFile);
  const server = serverUrl(url, token);
  const plan = planOf(options);
  await checkResultFiles(options, { files: [...(options.trace ?? [])] });
  const signal = endsWithWhatItHas();
  progress('asking the server');
  const described = await describeServer(server, options.model, signal);
  const processes = options.processes ?? usualProcesses(server);
  const requests = specOf(options, processes);
  progress('preparing requests');
  using generators = await GeneratorProcesses.start(
    // This command again, whose options the processes are told otherwise.
    [process.argv[1] as string, 'load', server.url, '--worker'],
    processes,
    {
      url,
      ...(token === undefined ? {} : { token }),
      model: described.model,
      requests,
      seed: options.seed,
      connections: options.connections,
      sleeps: options.sleep === true,
    },
    signal,
  );
  const done = await runLoad({
    runner: generators,
    plan,
    onProgress: progress,
    onRun: (row) => notice(runLine(row)),
    signal,
  });
  progress('');
  const results = resultsOf(
    { url, server, described, options, processes, requests, facts: generators.facts },
    done,
  );
  await writeResults(results, options);
  if (options.format === 'json') printJson(results);
  else printLine(loadText(results));
  const broken = done.runs.filter(
    ({ step, failed, unanswered }) => step === 'rate' && failed + unanswered > 0,
  );
  if (broken.length > 0) {
    notice(`requests failed at ${broken.map(({ rate }) => `${significant(rate)}/s`).join(', ')}`);
    process.exitCode = 1;
  }
}

/** @throws UsageError USAGE for options that do not go together. */
function planOf({ rate, search, count, deadline, ...options }: Options): LoadPlan {
  if (rate === undefined && search === undefined)
    throw new UsageError('USAGE', 'neither --rate nor --search says how many requests are sent');
  if (rate !== undefined && rate.ofFound.length > 0 && search === undefined)
    throw new UsageError('USAGE', '--rate in % is of what --search finds, and there is none');
  if (search !== undefined && rate !== undefined && rate.perSecond.length > 1)
    throw new UsageError('USAGE', '--search begins at one rate', {
      hint: 'pass --rate 500, or --rate 500,130%',
    });
  if (count !== undefined && options.duration !== undefined)
    throw new UsageError('USAGE', '--count and --duration both say when a run ends');
  const usual = count === undefined ? DEFAULT_DURATION : Number.POSITIVE_INFINITY;
  return {
    rates: rate?.perSecond ?? [],
    ofFound: rate?.ofFound ?? [],
    ...(search === undefined ? {} : { search }),
    warmupMs: 1000 * options.warmup,
    durationMs: 1000 * (options.duration ?? usual),
    ...(count === undefined ? {} : { count }),
    ...(deadline === undefined ? {} : { deadlineMs: 1000 * deadline }),
    patienceMs: 1000 * options.patience,
    seed: options.seed,
  };
}

function specOf(options: Options, processes: number): RequestSpec {
  const { trace, pattern, bagLengths, mlperf, userFeatures, userDense, deadline, priority } = options;
  const samples = mlperf === true ? MLPERF : options.samples;
  if (samples === MLPERF && mlperf !== true) throw new UsageError('USAGE', '--samples mlperf: pass --mlperf');
  return {
    pattern,
    indexType: options.indexType,
    bodies: options.bodies,
    poolBytes: Math.floor(POOL_BYTES / processes),
    ...(trace === undefined ? {} : { trace }),
    ...(bagLengths === undefined ? {} : { bagLengths }),
    ...(samples === undefined ? {} : { samples }),
    ...(userFeatures === undefined ? {} : { userFeatures }),
    ...(userDense === undefined ? {} : { userDense }),
    ...(deadline === undefined ? {} : { timeoutUs: Math.round(1e6 * deadline) }),
    ...(priority === undefined ? {} : { priority }),
  };
}

/** A server on this machine needs cores, too. */
function usualProcesses({ target }: ServerUrl): number {
  const cores = availableParallelism();
  const isHere = /^(localhost|127\.|::1$)/.test(target.host);
  return Math.max(1, Math.min(MOST_PROCESSES, isHere ? Math.floor(cores / 4) : cores - 1));
}

interface Done {
  readonly url: string;
  readonly server: ServerUrl;
  readonly described: ServerDescription;
  readonly options: Options;
  readonly processes: number;
  readonly requests: RequestSpec;
  readonly facts: GeneratorFacts;
}

function resultsOf(
  { url, server, described, options, processes, requests, facts }: Done,
  { runs, search, opened, partial }: LoadRuns,
): LoadResults {
  const { model, server: software } = described;
  const { trace, userFeatures, deadline, priority, indexType, seed } = options;
  return {
    version: LOAD_VERSION,
    kind: 'load',
    createdAt: new Date().toISOString(),
    command: commandLine().replaceAll(url, server.url),
    hotrow: version,
    server: {
      url: server.url,
      ...(software === undefined ? {} : { software }),
      model: model.name,
      features: model.features.length,
      denseFeatures: model.denseFeatures,
    },
    requests: {
      source: trace === undefined ? requests.pattern : trace.join(' '),
      bagLengths: trace === undefined ? bagLengthsOf(requests, model.features.length) : 'recorded lengths',
      samples: facts.samples,
      bytes: facts.bytes,
      indexType,
      ...(userFeatures === undefined ? {} : { userFeatures }),
      bodies: facts.bodies,
      ...(deadline === undefined ? {} : { deadlineMs: 1000 * deadline }),
      ...(priority === undefined ? {} : { priority }),
      seed,
    },
    generator: {
      processes,
      cores: availableParallelism(),
      connections: options.connections,
      opened,
      pacing: options.sleep === true ? 'sleep' : 'spin',
    },
    ...(search === undefined ? {} : { search }),
    runs: [...runs],
    ...(partial ? { partial } : {}),
    notes: [
      ...facts.notes,
      ...(partial ? ['interrupted: the last run was cut short'] : []),
      ...lateNotes(runs),
    ],
  };
}

/** A search looks for rates that are too high, for the generator too. */
function lateNotes(runs: LoadRuns['runs']): string[] {
  const late = runs.filter((run) => run.step === 'rate' && isGeneratorLate(run));
  const rates = [...new Set(late.map(({ rate }) => `${significant(rate)}/s`))];
  const ofSearch = runs.filter((run) => run.step !== 'rate' && isGeneratorLate(run)).length;
  if (ofSearch > 0) rates.push(`${ofSearch} runs of the search`);
  if (rates.length === 0) return [];
  return [
    `at ${rates.join(', ')} the generator itself was late, and latencies are as much its own as the server's: give it more --processes, or a machine of its own`,
  ];
}

const RATE = /^(\d+(?:\.\d+)?)(%?)$/;

function rates(text: string): Rates {
  const perSecond: number[] = [];
  const ofFound: number[] = [];
  for (const part of text.split(',')) {
    const [, digits, unit] = RATE.exec(part) ?? [];
    const value = Number(digits);
    if (!(value > 0 && value < 1e9))
      throw new InvalidArgumentError('rates like 500, 100,200,400 or 130% are needed.');
    if (unit === '%') ofFound.push(value / 100);
    else perSecond.push(value);
  }
  return { perSecond, ofFound };
}

function promise(text: string): Promised {
  const [, percents, time = ''] = /^p(\d{1,2}(?:\.\d{1,3})?)=(.*)$/.exec(text) ?? [];
  if (percents === undefined || Number(percents) === 0)
    throw new InvalidArgumentError('a quantile and a time like p99=10ms are needed.');
  return { quantile: Number(percents) / 100, boundMs: 1000 * duration(time) };
}

function durationOrNone(text: string): number {
  return text === '0' ? 0 : duration(text);
}
