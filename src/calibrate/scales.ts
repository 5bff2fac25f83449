/** Scales of a model's dense layers: of their weights, and of what goes into them when requests run. */
import { at } from '../at.ts';
import type { Backend, PlacedTables } from '../backend/backend.ts';
import { type ScaledWeight, scaledWeight, scaleFor, type WeightScales } from '../backend/scaled-weight.ts';
import { throwIfAborted } from '../checks/abort.ts';
import { readWeight, type WeightedLayer } from '../dense/layer-scales.ts';
import { fitsEightBits, inLayer } from '../dense/place-layer.ts';
import { precisionOn } from '../device.ts';
import { ModelError, UsageError } from '../errors.ts';
import type { ModelArchitecture } from '../model/architecture.ts';
import { placeCollection } from '../model/collection.ts';
import { type Head, headOf } from '../model/head.ts';
import { layersOf } from '../model/placed-head.ts';
import type { OnProgress } from '../progress.ts';
import type { Tensor } from '../tensor.ts';
import { batchOf, type Samples, slice } from '../workload/traffic/samples.ts';
import { type RunTarget, runHead } from './head-runs.ts';

/** How inputs of 8-bit layers get their scales: one for all, from the requests, or one for each row, when it comes. */
export type InputScales = 'tensor' | 'row';
export const INPUT_SCALES: readonly InputScales[] = Object.freeze(['tensor', 'row'] as const);

export interface ScaleOptions {
  readonly backend: Backend;
  readonly architecture: ModelArchitecture;
  readonly requests: readonly Samples[];
  readonly inputScales: InputScales;
  /** Default: tensor. */
  readonly weightScales?: WeightScales;
  /** Samples at once. */
  readonly batchSize: number;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

/** What the requests tell of a model's layers, which are in the order in which they multiply. */
export interface FoundScales {
  /** The largest size of an input, by layer. */
  readonly reach: Float64Array;
  /** The logits of the requests in float32. */
  readonly reference: Float64Array;
  /** Of the inputs, by layer; undefined: each row has its own. */
  readonly scales: readonly (number | undefined)[];
  /** The layers that gain by 8 bits, by their places. */
  readonly candidates: readonly number[];
  /** Their weights in 8 bits, by those that they are made of. */
  readonly scaled: ReadonlyMap<Tensor, ScaledWeight>;
}

/** Inputs reach so much further than in the requests before they saturate: it costs a float nothing but its smallest numbers. */
const HEADROOM = 2;

/** Beyond, devices that keep what lies between layers in float16 have infinities. */
const MOST_INPUT = 65504;
const MOST_SUM = 2 ** 127;

/** A model's tables on a device, and requests that its head is to be run on. */
export class ScaleRun implements Disposable {
  readonly target: RunTarget;
  /** In the order in which they multiply. */
  readonly layers: readonly WeightedLayer[];
  readonly samples: number;
  readonly #options: ScaleOptions;
  readonly #tables: PlacedTables;

  private constructor(
    options: ScaleOptions,
    tables: PlacedTables,
    head: Head,
    layers: readonly WeightedLayer[],
    samples: number,
  ) {
    const { backend, requests, batchSize, signal } = options;
    this.#options = options;
    this.#tables = tables;
    this.layers = layers;
    this.samples = samples;
    this.target = {
      backend,
      tables,
      head,
      capacity: backend.capacityFor(Math.min(batchSize, Math.max(...requests.map(({ count }) => count)))),
      requests: [...batches(requests, batchSize)],
      onBatch: () => throwIfAborted(signal, 'calibrate'),
    };
  }

  /** @throws as `calibrate` does before any run. */
  static async open(options: ScaleOptions): Promise<ScaleRun> {
    const { backend, architecture, requests, onProgress, signal } = options;
    precisionOn(backend.device, 'float8_e4m3');
    const head = logitHead(architecture);
    const layers = layersOf(head);
    refuseScaled(layers);
    const samples = requests.reduce((sum, { count }) => sum + count, 0);
    if (samples === 0) throw new UsageError('USAGE', 'the calibration requests hold no samples');
    const tables = await placeCollection(backend, architecture.tables, undefined, {
      ...(onProgress && { onProgress }),
      ...(signal && { signal }),
    });
    return new ScaleRun(options, tables, head, layers, samples);
  }

  /** Runs the requests in float32. @throws as `calibrate` does. */
  async findScales(): Promise<FoundScales> {
    const { layers, target } = this;
    const { inputScales, weightScales = 'tensor', onProgress } = this.#options;
    const reach = new Float64Array(layers.length);
    onProgress?.('running the requests in float32');
    const reference = await runHead(target, 'float32', (layer, values, width, first) => {
      reach[layer] = Math.max(at(reach, layer), largestOf(at(layers, layer).name, values, width, first));
    });
    checkLogits(reference);
    const candidates: number[] = [];
    const scaled = new Map<Tensor, ScaledWeight>();
    const scales = layers.map((_, i) =>
      inputScales === 'row' ? undefined : scaleFor(HEADROOM * at(reach, i)),
    );
    for (const [i, layer] of layers.entries()) {
      if (!fitsEightBits(layer)) continue;
      const values = await readWeight(layer);
      const weight = inLayer(layer.name, () => scaledWeight(values, layer.outputs, weightScales));
      checkReach(layer, weight, at(reach, i));
      const inputScale = scales[i];
      scaled.set(layer.weight, { ...weight, ...(inputScale === undefined ? {} : { inputScale }) });
      candidates.push(i);
    }
    return { reach, reference, scales, candidates, scaled };
  }

  [Symbol.dispose](): void {
    this.#tables[Symbol.dispose]();
  }
}

/** The head with the logit of its probability as output. @throws UsageError USAGE for a model that gives no probability. */
function logitHead(architecture: ModelArchitecture): Head {
  const head = headOf(architecture);
  const output = head.outputs[0];
  if (head.answer !== 'probabilities' || output === undefined)
    throw new UsageError('USAGE', 'the model gives no probability, whose loss could be told', {
      hint: '8-bit layers are chosen by the log loss of one probability',
    });
  const blocks = head.blocks.map((wired) => {
    const { block } = wired;
    if (block.name !== output.name || block.kind !== 'mlp') return wired;
    const last = block.layers.length - 1;
    const layers = block.layers.map((layer, i) =>
      i === last && layer.activation === 'sigmoid' ? { ...layer, activation: 'none' as const } : layer,
    );
    return { ...wired, block: { ...block, layers } };
  });
  return { ...head, blocks };
}

function refuseScaled(layers: readonly WeightedLayer[]): void {
  const scaled = layers.find(({ scales }) => scales !== undefined);
  if (scaled === undefined) return;
  throw new ModelError('CHECKPOINT_UNSUPPORTED', `layer ${scaled.name} is float8_e4m3 already`, {
    tensor: scaled.name,
    hint: 'calibrate the original checkpoint',
  });
}

/** The largest size among a layer's inputs. @throws ModelError VALUE_NOT_FINITE naming layer and sample. */
function largestOf(name: string, values: Float32Array, width: number, first: number): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i] as number);
    if (!Number.isFinite(size)) {
      const sample = first + Math.floor(i / width);
      throw new ModelError(
        'VALUE_NOT_FINITE',
        `layer ${name}: input ${i % width} of sample ${sample} of the calibration requests is ${values[i]}`,
        { tensor: name, sample, hint: 'calibrate with requests whose dense features are numbers' },
      );
    }
    if (size > largest) largest = size;
  }
  return largest;
}

function checkLogits(logits: Float64Array): void {
  const sample = logits.findIndex((logit) => !Number.isFinite(logit));
  if (sample < 0) return;
  throw new ModelError(
    'VALUE_NOT_FINITE',
    `sample ${sample} of the calibration requests has the logit ${logits[sample]}`,
    {
      sample,
    },
  );
}

/** @throws ModelError VALUE_OUT_OF_RANGE for inputs, or sums of their products with the weights, that no format between layers holds. */
function checkReach({ name, inputs }: WeightedLayer, { scales }: ScaledWeight, reach: number): void {
  const largest = scales.reduce((most, scale) => Math.max(most, scale), 0);
  const sum = HEADROOM * reach * 448 * largest * inputs;
  if (reach <= MOST_INPUT && sum < MOST_SUM) return;
  const what =
    reach > MOST_INPUT
      ? `its inputs reach ${reach}, beyond float16, which ends at ${MOST_INPUT}`
      : `sums of its products reach ${sum}, beyond float32`;
  throw new ModelError('VALUE_OUT_OF_RANGE', `layer ${name}: ${what}`, {
    tensor: name,
    value: reach,
    hint: 'such a layer has no scale: preprocess the dense features, or train with smaller weights',
  });
}

function* batches(requests: readonly Samples[], batchSize: number) {
  for (const samples of requests)
    for (let from = 0; from < samples.count; from += batchSize)
      yield batchOf(slice(samples, from, Math.min(samples.count, from + batchSize)));
}
