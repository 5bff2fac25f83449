/** What a server counted of its models, as Triton's statistics extension writes it. */

/** How often something happened, and how long it took in all, ns. */
export interface Duration {
  readonly count: bigint;
  readonly ns: bigint;
}

/** What requests went through. */
export interface RequestDurations {
  /** From arrival to answer, of requests that were answered with outputs. */
  readonly success: Duration;
  /** The same of those that were not. */
  readonly fail: Duration;
  /** Waiting for the engine. */
  readonly queue: Duration;
  /** Parsing, binding, merging. */
  readonly computeInput: Duration;
  /** The model. */
  readonly computeInfer: Duration;
  /** Outputs to answers. */
  readonly computeOutput: Duration;
}

/** Batches of one size. */
export interface BatchDurations {
  /** Samples. */
  readonly batchSize: number;
  readonly computeInput: Duration;
  readonly computeInfer: Duration;
  readonly computeOutput: Duration;
}

/** Of one version of a model, since the server started. */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** ms since 1970; 0: none yet. */
  readonly lastInference: number;
  /** Samples that were scored. */
  readonly inferenceCount: bigint;
  /** Batches that ran. */
  readonly executionCount: bigint;
  readonly requests: RequestDurations;
  readonly batches: readonly BatchDurations[];
}

const NEVER: Duration = { count: 0n, ns: 0n };

/** GET /v2/models/stats and its like, as text: counts are uint64, which JSON.stringify does not write. */
export function statisticsJson(models: readonly ModelStatistics[]): string {
  return `{"model_stats":[${models.map(modelJson).join(',')}]}`;
}

function modelJson(model: ModelStatistics): string {
  const { name, version, lastInference, inferenceCount, executionCount, requests, batches } = model;
  const { success, fail, queue, ...compute } = requests;
  const stats = members([
    ['success', durationJson(success)],
    ['fail', durationJson(fail)],
    ['queue', durationJson(queue)],
    ...computeMembers(compute),
    // There is no cache of answers.
    ['cache_hit', durationJson(NEVER)],
    ['cache_miss', durationJson(NEVER)],
  ]);
  return members([
    ['name', JSON.stringify(name)],
    ['version', JSON.stringify(version)],
    ['last_inference', String(lastInference)],
    ['inference_count', String(inferenceCount)],
    ['execution_count', String(executionCount)],
    ['inference_stats', stats],
    ['batch_stats', `[${batches.map(batchJson).join(',')}]`],
  ]);
}

function batchJson({ batchSize, ...compute }: BatchDurations): string {
  return members([['batch_size', String(batchSize)], ...computeMembers(compute)]);
}

function computeMembers({
  computeInput,
  computeInfer,
  computeOutput,
}: Omit<BatchDurations, 'batchSize'>): [string, string][] {
  return [
    ['compute_input', durationJson(computeInput)],
    ['compute_infer', durationJson(computeInfer)],
    ['compute_output', durationJson(computeOutput)],
  ];
}

function durationJson({ count, ns }: Duration): string {
  return `{"count":${count},"ns":${ns}}`;
}

/** An object of values that are JSON already. */
function members(entries: readonly (readonly [string, string])[]): string {
  return `{${entries.map(([key, json]) => `"${key}":${json}`).join(',')}}`;
}
