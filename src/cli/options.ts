/** Options that several commands share, and how their values are read. */
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import type { OpenOptions } from '../backend/open-backend.ts';
import {
  DEFAULT_STREAM_SETS,
  MOST_STREAM_SETS,
  STREAMS_FIRST,
  type StreamOptions,
} from '../backend/stream-options.ts';
import { DENSE_PRECISIONS } from '../device.ts';
import { INDEX_CHECKING } from '../embedding/bag.ts';
import type { ArchitectureOverrides } from '../model/infer-architecture.ts';
import { type PlanChoice, readPlan } from '../plan/plan.ts';

/** An option value that is a whole number of at least `minimum`, and of at most `maximum`. */
export function integer(
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!Number.isSafeInteger(value) || value < minimum || value > maximum) {
      const range = maximum === Number.MAX_SAFE_INTEGER ? 'on' : `to ${maximum}`;
      throw new InvalidArgumentError(`a whole number from ${minimum} ${range} is needed.`);
    }
    return value;
  };
}

/** Refuses option values that are empty, and options that take one value and are given several times. */
export function withStrictOptions(command: Command): Command {
  for (const option of command.options) {
    if (!option.required && !option.optional) continue;
    let given = 0;
    command.on(`option:${option.name()}`, (value: string) => {
      given += 1;
      const twice = given > 1 && !option.variadic;
      if (value !== '' && !twice) return;
      const what = twice ? 'is given more than once' : 'has an empty value';
      command.error(`error: option '${option.flags}' ${what}`, {
        code: 'commander.invalidArgument',
        exitCode: 2,
      });
    });
  }
  return command;
}

/** An option value that is a percentage from 0 on: `2`, `0.5`, `2%`. As a share. */
export function percentage(text: string): number {
  const [, value] = /^(\d+(?:\.\d+)?)\s*%?$/.exec(text) ?? [];
  if (value === undefined || !Number.isFinite(Number(value)))
    throw new InvalidArgumentError('a percentage like 2 or 0.5 is needed.');
  return Number(value) / 100;
}

/** A timer has 31 bits of ms: it fires at once for more. */
const MOST_DAYS = 24;

/** An option value that is a time: `500ms`, `60s`, `2m`; seconds without a unit. In seconds. */
export function duration(text: string): number {
  const [, value, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text) ?? [];
  const seconds = Number(value) * { ms: 1e-3, s: 1, m: 60 }[(unit ?? 's') as 'ms' | 's' | 'm'];
  if (!(seconds > 0 && Number.isFinite(seconds)))
    throw new InvalidArgumentError('a time like 500ms, 60s or 2m is needed.');
  if (seconds > 86_400 * MOST_DAYS) throw new InvalidArgumentError(`a time is at most ${MOST_DAYS} days.`);
  return seconds;
}

export function formatOption(): Option {
  return new Option('--format <format>', 'what goes to stdout').choices(['table', 'json']).default('table');
}

/** `--device` and `--threads`. */
export function withDevice(command: Command): Command {
  return command
    .option('--device <device>', 'auto, cpu or cuda[:N]', 'auto')
    .option('--threads <n>', 'CPU threads (default: all cores)', integer(1));
}

/** How batches share a GPU, for measurements. */
export function withStreams(command: Command): Command {
  return command
    .option(
      '--streams <n>',
      `batches side by side on a GPU (default: ${DEFAULT_STREAM_SETS})`,
      integer(1, MOST_STREAM_SETS),
    )
    .addOption(
      new Option('--first <work>', 'what goes first on a GPU (default: dense)').choices(STREAMS_FIRST),
    );
}

/** What `withStreams` adds. */
export interface StreamFlags {
  readonly streams?: number;
  readonly first?: NonNullable<StreamOptions['first']>;
}

/** How a device is opened, by these options. */
export function streamsOf({ streams, first }: StreamFlags): Pick<OpenOptions, 'streams'> {
  if (streams === undefined && first === undefined) return {};
  return {
    streams: {
      ...(streams === undefined ? {} : { sets: streams }),
      ...(first === undefined ? {} : { first }),
    },
  };
}

export function precisionOption(): Option {
  return new Option(
    '--precision <precision>',
    'how dense layers multiply (default: tf32 on GPUs, float32 on CPUs)',
  ).choices(DENSE_PRECISIONS);
}

export function planOption(): Option {
  return new Option('--plan <plan>', 'how the embedding stage runs: auto, plain, or a plan file').default(
    'auto',
  );
}

export function indexCheckingOption(): Option {
  return new Option('--index-checking <mode>', 'what happens to bad indices and offsets')
    .choices(INDEX_CHECKING)
    .default('error');
}

/** The plan that `--plan` names; undefined: the heuristic one. */
export async function resolvePlan(text: string): Promise<PlanChoice | undefined> {
  if (text === 'auto') return undefined;
  return text === 'plain' ? text : readPlan(text);
}

/** The checkpoint of commands that need one. */
export function modelArgument(): Argument {
  return new Argument(
    '<model>',
    'a checkpoint (.pt, .safetensors, an index file, a folder) or a description (.hotrow.json)',
  );
}

export interface ModelOptions {
  readonly interaction?: NonNullable<ArchitectureOverrides['interaction']>;
}

/** Options of commands that load a model whose checkpoint leaves something open. */
export function withModel(command: Command): Command {
  return command.addOption(
    new Option('--interaction <kind>', 'feature interaction, where the checkpoint is ambiguous').choices([
      'dot',
      'dot-diagonal',
      'cat',
    ]),
  );
}

/** What the options of `withModel` say of the model. */
export function architectureOverrides({ interaction }: ModelOptions): ArchitectureOverrides {
  return interaction === undefined ? {} : { interaction };
}
