/** Runs a model and a reference on the same samples, and compares what they give. */
import { at } from '../at.ts';
import { UsageError } from '../errors.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import { type NamedOutput, namedOutputs, outputArrays, type Prediction } from '../model/prediction.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { createRandom } from '../workload/random.ts';
import { batchOf, type Samples, slice } from '../workload/traffic/samples.ts';
import { calibrationBins, errorFigures, logitOf, qualityFigures, sigmoid } from './agreement.ts';
import type { EvaluateResults } from './results.ts';

/** What of a model an evaluation needs. */
export interface EvaluatedModel {
  readonly architecture: ModelArchitecture;
  readonly head: Parameters<typeof namedOutputs>[0];
  predict(request: DlrmRequest): Promise<Prediction>;
}

export interface Evaluation {
  readonly model: EvaluatedModel;
  readonly reference: EvaluatedModel;
  readonly requests: readonly Samples[];
  /** 0 or 1, of all samples in their order; undefined: they are drawn. */
  readonly labels: Uint8Array | undefined;
  /** Of what is drawn. */
  readonly seed: number;
  /** Samples that run at once, at most. */
  readonly batchSize: number;
  readonly onProgress?: (samples: number) => void;
}

/** Values of an output, of all samples. */
class Collected {
  readonly model: Float32Array;
  readonly reference: Float32Array;
  #count = 0;

  constructor(values: number) {
    this.model = new Float32Array(values);
    this.reference = new Float32Array(values);
  }

  add(model: Float32Array, reference: Float32Array): void {
    this.model.set(model, this.#count);
    this.reference.set(reference, this.#count);
    this.#count += model.length;
  }

  /** Values that are equal bit for bit. */
  equalBits(): number {
    const [own, other] = [this.model, this.reference].map((values) => new Uint32Array(values.buffer));
    return (own as Uint32Array).reduce((sum, bits, i) => sum + Number(bits === other?.[i]), 0);
  }
}

/**
 * Compares the models on all samples.
 * @throws UsageError USAGE where they give different outputs; what predictions throw.
 */
export async function evaluate({
  model,
  reference,
  requests,
  labels,
  seed,
  batchSize,
  onProgress = () => {},
}: Evaluation): Promise<Pick<EvaluateResults, 'outputs' | 'quality' | 'notes'>> {
  const own = outputsOf(model);
  const others = outputsOf(reference);
  requireSame(own, others);
  // A model that says its logit beside its probability is compared by the latter where the other says none.
  const named = own.filter(({ name }) => others.some((output) => output.name === name));
  const samples = requests.reduce((sum, { count }) => sum + count, 0);
  const collected = named.map(({ width }) => new Collected(width * samples));
  let done = 0;
  for (const batch of batches(requests, batchSize)) {
    const [scores, otherScores] = await Promise.all([model.predict(batch), reference.predict(batch)]);
    const [values, references] = [byName(scores, own), byName(otherScores, others)];
    for (const [o, { name }] of named.entries())
      at(collected, o).add(values.get(name) as Float32Array, references.get(name) as Float32Array);
    done += batch.batchSize;
    onProgress(done);
  }
  const notes: string[] = [];
  const outputs = named.map(({ name }, o): OutputResults => {
    const all = at(collected, o);
    const { model: values, reference: references } = numbersOf(name, all, notes);
    const value = errorFigures(Float64Array.from(values), Float64Array.from(references));
    return { name, value, bits: all.equalBits(), values: all.model.length };
  });
  const [first] = collected;
  if (model.head.answer !== 'probabilities' || first === undefined) return { outputs, notes };
  const { kept, ...scores } = numbersOf('probability', first, []);
  const said = collected[named.findIndex(({ name }) => name === 'logit')];
  const [logits, otherLogits] = said === undefined ? logitsOf(scores, notes) : saidLogits(said, kept);
  const keptLabels = labels && kept.map((sample) => at(labels, sample));
  return {
    outputs: outputs.map((output, o) =>
      o === 0 ? { ...output, logit: errorFigures(logits, otherLogits) } : output,
    ),
    quality: qualityOf(logits, otherLogits, keptLabels && Uint8Array.from(keptLabels), seed),
    notes,
  };
}

type OutputResults = EvaluateResults['outputs'][number];

/** Values that both models give as numbers, and their places. @throws UsageError USAGE where there are none. */
function numbersOf(
  name: string,
  { model, reference }: Pick<Collected, 'model' | 'reference'>,
  notes: string[],
): { readonly model: Float32Array; readonly reference: Float32Array; readonly kept: Uint32Array } {
  const all = Uint32Array.from(model, (_, i) => i);
  const kept = all.filter((i) => Number.isFinite(model[i]) && Number.isFinite(reference[i]));
  if (kept.length === 0)
    throw new UsageError('USAGE', `${name}: no sample has a finite value of both models`, {
      hint: 'NaN in dense features passes through a model; look at the requests with `hotrow predict`',
    });
  const left = all.length - kept.length;
  if (left > 0)
    notes.push(`${name}: ${left} of ${all.length} values are left out, NaN or infinite in one of the models`);
  const pick = (values: Float32Array) => Float32Array.from(kept, (i) => at(values, i));
  return left === 0 ? { model, reference, kept } : { model: pick(model), reference: pick(reference), kept };
}

function byName(prediction: Prediction, named: readonly NamedOutput[]): ReadonlyMap<string, Float32Array> {
  const arrays = outputArrays(prediction, named);
  return new Map(named.map(({ name }, o) => [name, at(arrays, o)]));
}

function saidLogits(
  { model, reference }: Pick<Collected, 'model' | 'reference'>,
  kept: Uint32Array,
): readonly [Float64Array, Float64Array] {
  const pick = (values: Float32Array) => Float64Array.from(kept, (i) => at(values, i));
  return [pick(model), pick(reference)];
}

function outputsOf({ head, architecture }: EvaluatedModel): readonly NamedOutput[] {
  return namedOutputs(head, architecture.output);
}

function requireSame(model: readonly NamedOutput[], reference: readonly NamedOutput[]): void {
  const said = (outputs: readonly NamedOutput[]) =>
    outputs.map(({ name, width }) => `${name} [B, ${width}]`).join(', ');
  const [own] = model;
  const same = (a: NamedOutput, b: NamedOutput | undefined) => a.name === b?.name && a.width === b.width;
  const sameAll =
    own?.name === 'probability'
      ? reference[0]?.name === 'probability'
      : model.length === reference.length &&
        model.every((output) =>
          same(
            output,
            reference.find(({ name }) => name === output.name),
          ),
        );
  if (sameAll) return;
  throw new UsageError('USAGE', `the model gives ${said(model)}, the reference ${said(reference)}`, {
    hint: 'only models with the same outputs can be compared',
  });
}

function* batches(requests: readonly Samples[], batchSize: number): Generator<DlrmRequest> {
  for (const samples of requests)
    for (let from = 0; from < samples.count; from += batchSize)
      yield batchOf(slice(samples, from, Math.min(samples.count, from + batchSize)));
}

/** Logits of probabilities. Infinite ones become the largest that float32 tells. */
function logitsOf(
  { model, reference }: { readonly model: Float32Array; readonly reference: Float32Array },
  notes: string[],
): readonly [Float64Array, Float64Array] {
  const most = -logitOf(2 ** -24);
  let clamped = 0;
  const derived = (values: Float32Array) =>
    Float64Array.from(values, (probability) => {
      const logit = logitOf(probability);
      if (Math.abs(logit) > most) clamped++;
      return Math.max(-most, Math.min(most, logit));
    });
  const both = [derived(model), derived(reference)] as const;
  notes.push('logits are those of the probabilities, which are float32');
  if (clamped > 0)
    notes.push(
      `${clamped} probabilities lie closer to 0 or 1 than float32 tells near 1; their logits are taken as ±${most.toFixed(2)}`,
    );
  return both;
}

function qualityOf(
  model: Float64Array,
  reference: Float64Array,
  given: Uint8Array | undefined,
  seed: number,
): NonNullable<EvaluateResults['quality']> {
  const labels = given ?? drawn(reference, seed);
  return {
    labels: given === undefined ? 'drawn' : 'given',
    ...(given === undefined ? { seed } : {}),
    ones: labels.reduce((sum, label) => sum + label, 0),
    model: qualityFigures(model, labels),
    reference: qualityFigures(reference, labels),
    bins: calibrationBins(model, reference, labels),
  };
}

/** Labels as the reference's probabilities have them. */
function drawn(logits: Float64Array, seed: number): Uint8Array {
  const random = createRandom(seed);
  return Uint8Array.from(logits, (logit) => Number(random.float() < sigmoid(logit)));
}
