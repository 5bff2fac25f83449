/** Weights of dense layers onto a device, each in the precision that is its own. */
import type { PlacedLinear } from '../backend/backend.ts';
import { scaledWeight } from '../backend/scaled-weight.ts';
import { type DensePrecision, widePrecision } from '../device.ts';
import { ModelError, type ModelErrorCode } from '../errors.ts';
import type { PlacementTarget } from './block.ts';
import { readScaled, readWeight, type WeightedLayer } from './layer-scales.ts';
import { readFloat32 } from './weights.ts';

/** Tensor cores multiply 8-bit factors in tiles of so many. */
const TILE = 16;

/** Whether a layer gains by 8 bits: others are narrower than a tile, or do not end with one. */
export function fitsEightBits({ inputs, outputs }: Pick<WeightedLayer, 'inputs' | 'outputs'>): boolean {
  return inputs >= TILE && outputs >= TILE && outputs % TILE === 0;
}

/**
 * How a layer multiplies where float8_e4m3 was asked for: in it, if the checkpoint says so by its scales, or, where it has none at all, if
 * the layer is wide enough; else in the device's wide precision.
 */
export function layerPrecision(
  { backend, precision, isCalibrated, scaled }: PlacementTarget,
  layer: WeightedLayer,
): DensePrecision {
  if (precision !== 'float8_e4m3') return precision;
  const isScaled = layer.scales !== undefined || scaled?.has(layer.weight) === true;
  const inEightBits = isCalibrated ? isScaled : fitsEightBits(layer);
  return inEightBits ? precision : widePrecision(backend.device, precision);
}

/**
 * Reads a layer's weight and bias, and places them.
 * @throws DeviceError OUT_OF_MEMORY; PlanError PLAN_ILLEGAL; ModelError VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE naming the layer;
 *   UsageError, FormatError for files.
 */
export async function placeLayer(on: PlacementTarget, layer: WeightedLayer): Promise<PlacedLinear> {
  const { name, scales, inputs, outputs } = layer;
  const precision = layerPrecision(on, layer);
  const bias = layer.bias === undefined ? undefined : await readFloat32(layer.bias);
  if (precision !== 'float8_e4m3')
    return on.backend.placeLinear(await readWeight(layer), bias, outputs, inputs, precision);
  const own = on.scaled?.get(layer.weight);
  if (own !== undefined) return on.backend.placeLinear(own, bias, outputs, inputs, precision);
  if (scales !== undefined)
    return on.backend.placeLinear(await readScaled(layer, scales), bias, outputs, inputs, precision);
  const values = await readWeight(layer);
  const weight = inLayer(name, () => scaledWeight(values, outputs));
  return on.backend.placeLinear(weight, bias, outputs, inputs, precision);
}

/** Runs `work` on a layer's weight; its errors name the layer. */
export function inLayer<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    const { code, message, details } = error;
    throw new ModelError(code as ModelErrorCode, `layer ${name}: ${message}`, { ...details, tensor: name });
  }
}
