/** What predictions are: outputs of a head as callers read them, and where the time went. */
import { at } from '../at.ts';
import type { RunReport } from '../backend/backend.ts';
import type { BagFindings } from '../embedding/bag.ts';
import { UsageError } from '../errors.ts';
import type { ModelOutput } from './architecture.ts';
import type { Head } from './head.ts';

/** Where the time of a batch went, in ms of device time; `host` is the rest of the call. On GPUs stages overlap. */
export interface StageTimes {
  readonly copyMs: number;
  readonly embeddingMs: number;
  readonly bottomMs: number;
  readonly interactionMs: number;
  readonly topMs: number;
  readonly hostMs: number;
}

export interface PredictOptions {
  /** Also report where the time went, which costs GPUs some tens of microseconds. Default: false. */
  readonly stages?: boolean;
  /** Gives the call up: at once while it waits for the device, after its run once it runs. */
  readonly signal?: AbortSignal;
}

export interface Prediction {
  /**
   * [batchSize], in (0, 1), of a model with one output of one column, as DLRMs are. Models that answer `outputs` or `pooled`
   * have none: reading them throws UsageError USAGE.
   */
  readonly probabilities: Float32Array;
  /** [batchSize], where the model's description says that its output is the logit. */
  readonly logits?: Float32Array;
  /** Of a model with several outputs, or a wider one: each by its name, [batchSize, columns], row-major. */
  readonly outputs?: Readonly<Record<string, Float32Array>>;
  /** Of tables alone: [batchSize, Σ dim], row-major, the tables' pooled rows side by side in their order. */
  readonly pooled?: Float32Array;
  /** From the call to the result. */
  readonly latencyMs: number;
  /** What index checking found, in `warn` mode. */
  readonly findings: BagFindings;
}

export interface StagedPrediction extends Prediction {
  readonly stages: StageTimes;
}

/** The stages that a device times, each summed over its operations. */
const STAGES = [
  'copyMs',
  'embeddingMs',
  'bottomMs',
  'interactionMs',
  'topMs',
] as const satisfies readonly Exclude<keyof StageTimes, 'hostMs'>[];
export type Stage = (typeof STAGES)[number];

/** A prediction of `outputs`, the head's in their order. Probabilities that a model does not give cannot be read. */
export function predictionOf(
  head: Pick<Head, 'answer' | 'outputs'>,
  outputs: readonly Float32Array[],
  {
    output,
    ...rest
  }: { readonly output: ModelOutput | undefined } & Pick<Prediction, 'latencyMs' | 'findings'>,
): Prediction {
  const first = at(outputs, 0);
  const { answer } = head;
  switch (answer) {
    case 'probabilities':
      return output === 'logit'
        ? { probabilities: first.map((x) => 1 / (1 + Math.exp(-x))), logits: first, ...rest }
        : { probabilities: first, ...rest };
    case 'pooled':
      return withoutProbabilities({ pooled: first, ...rest }, answer);
    case 'outputs': {
      const named = Object.fromEntries(head.outputs.map(({ name }, i) => [name, at(outputs, i)]));
      return withoutProbabilities({ outputs: named, ...rest }, answer);
    }
    default:
      return answer satisfies never;
  }
}

function withoutProbabilities(given: Omit<Prediction, 'probabilities'>, instead: string): Prediction {
  return Object.defineProperty(given, 'probabilities', {
    get() {
      throw new UsageError('USAGE', `the model does not give probabilities: its predictions have ${instead}`);
    },
  }) as Prediction;
}

/** Times of stages from their seconds, and what of `latencyMs` is none of theirs. */
export function stageTimes(seconds: RunReport['stages'], latencyMs: number): StageTimes {
  const times = { copyMs: 0, embeddingMs: 0, bottomMs: 0, interactionMs: 0, topMs: 0 };
  for (const stage of STAGES) times[stage] = (seconds[stage] ?? 0) * 1e3;
  const deviceMs = Object.values(times).reduce((sum, ms) => sum + ms, 0);
  return { ...times, hostMs: Math.max(0, latencyMs - deviceMs) };
}

/** An output of a model as files and servers name it: float32 [batchSize, width]. */
export interface NamedOutput {
  readonly name: string;
  readonly width: number;
}

/** What predictions of a model give, by name: `probability` and, of a model that gives it, `logit`; `pooled`; or its outputs. */
export function namedOutputs(
  { answer, outputs }: Pick<Head, 'answer' | 'outputs'>,
  output: ModelOutput | undefined,
): readonly NamedOutput[] {
  const named = outputs.map(({ name, width }) => ({ name, width }));
  if (answer === 'outputs') return named;
  if (answer === 'pooled') return [{ name: 'pooled', width: at(named, 0).width }];
  const probability = { name: 'probability', width: 1 };
  return output === 'logit' ? [probability, { name: 'logit', width: 1 }] : [probability];
}

/** The arrays of a prediction, in the order of `named`, which `namedOutputs` gave. */
export function outputArrays(prediction: Prediction, named: readonly NamedOutput[]): readonly Float32Array[] {
  const { pooled, outputs, logits } = prediction;
  if (pooled !== undefined) return [pooled];
  // By name: an object gives names that are numbers in an order of its own.
  if (outputs !== undefined) return named.map(({ name }) => outputOf(outputs, name));
  return logits === undefined ? [prediction.probabilities] : [prediction.probabilities, logits];
}

function outputOf(outputs: Readonly<Record<string, Float32Array>>, name: string): Float32Array {
  const output = outputs[name];
  if (output === undefined) throw new RangeError(`the prediction has no output ${name}`);
  return output;
}
