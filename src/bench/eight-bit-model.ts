/** Synthetic models in 8 bits: layers with scales, as calibrated checkpoints have them. */
import type { ScaledWeight, WeightScales } from '../backend/scaled-weight.ts';
import { ScaleRun } from '../calibrate/scales.ts';
import type { LayerScales } from '../dense/layer-scales.ts';
import type { LinearLayer } from '../dense/linear.ts';
import { ModelError } from '../errors.ts';
import type { CrossLayer, DlrmArchitecture, ModelArchitecture } from '../model/architecture.ts';
import type { HostTensor, Tensor } from '../tensor.ts';
import { samplesOf } from '../workload/traffic/samples.ts';
import type { MeasureModelOptions } from './measure-model.ts';
import type { ModelWorkload } from './workload.ts';

interface EightBitOptions extends Pick<MeasureModelOptions, 'backend' | 'precision' | 'progress' | 'signal'> {
  /** Default: tensor. */
  readonly weightScales?: WeightScales;
}

/** Samples that run at once. */
const AT_ONCE = 2048;

/** A model as it is measured. */
export interface MeasuredModel {
  readonly architecture: ModelArchitecture;
  /** Where scales of inputs come from, for people, where that was decided here. */
  readonly scales?: string;
}

/**
 * One that exists to be timed gets, in float8_e4m3, weights in 8 bits for the layers that gain by them, and one scale for the inputs of each,
 * from the first batch. Where those reach beyond float16, as sums of one row over and over do, each row keeps its own scale. Any other
 * model is as it was given: a checkpoint says itself what is in 8 bits.
 * @throws as `calibrate` does, but for that.
 */
export async function eightBitModel(
  architecture: ModelArchitecture,
  workloads: readonly Pick<ModelWorkload, 'requests'>[],
  { backend, precision, weightScales = 'tensor', progress, signal }: EightBitOptions,
): Promise<MeasuredModel> {
  const request = workloads[0]?.requests[0];
  const isScaledHere = architecture.naming === 'synthetic' && precision === 'float8_e4m3';
  if (!isScaledHere || !('bottom' in architecture) || request === undefined) return { architecture };
  using run = await ScaleRun.open({
    ...{ backend, architecture, requests: [samplesOf(request, architecture)] },
    ...{ inputScales: 'tensor', weightScales, batchSize: AT_ONCE },
    ...(progress && { onProgress: progress }),
    ...(signal && { signal }),
  });
  try {
    const { scaled } = await run.findScales();
    return {
      architecture: withScales(architecture, scaled),
      scales: 'one scale for the inputs of each layer that gains by 8 bits, scales from the first batch',
    };
  } catch (error) {
    if (!(error instanceof ModelError && error.code === 'VALUE_OUT_OF_RANGE')) throw error;
    return {
      architecture,
      scales: `a scale for each row of inputs, since in the first batch, ${error.message}`,
    };
  }
}

function withScales(
  architecture: DlrmArchitecture,
  scaled: ReadonlyMap<Tensor, ScaledWeight>,
): DlrmArchitecture {
  const linear = (layer: LinearLayer): LinearLayer => {
    const own = inEightBits(layer.weight, scaled);
    return own === undefined ? layer : { ...layer, weight: own.weight, scales: own.scales };
  };
  const cross = (layer: CrossLayer): CrossLayer => {
    const [v, w] = [layer.v && inEightBits(layer.v, scaled), inEightBits(layer.w, scaled)];
    return {
      ...layer,
      ...(v === undefined ? {} : { v: v.weight, vScales: v.scales }),
      ...(w === undefined ? {} : { w: w.weight, wScales: w.scales }),
    };
  };
  const { bottom, interaction, top } = architecture;
  return {
    ...architecture,
    bottom: bottom.map(linear),
    interaction:
      interaction.kind === 'cross' ? { ...interaction, layers: interaction.layers.map(cross) } : interaction,
    top: top.map(linear),
  };
}

function inEightBits(
  weight: Tensor,
  scaled: ReadonlyMap<Tensor, ScaledWeight>,
): { readonly weight: HostTensor; readonly scales: LayerScales } | undefined {
  const own = scaled.get(weight);
  if (own === undefined) return undefined;
  const { elements, scales, inputScale } = own;
  const float32 = (data: Float32Array): HostTensor => ({ dtype: 'float32', shape: [data.length], data });
  return {
    weight: { dtype: 'float8_e4m3', shape: weight.shape, data: elements },
    scales: {
      weight: float32(scales),
      ...(inputScale === undefined ? {} : { input: float32(Float32Array.of(inputScale)) }),
    },
  };
}
