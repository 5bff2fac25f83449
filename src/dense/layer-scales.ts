/** Scales of layers whose weights are float8 e4m3: what checkpoints say of them, and their values. */
import { LEAST_SCALE, type ScaledWeight, unscaled } from '../backend/scaled-weight.ts';
import { type Check, membersOf, optional } from '../checks/value.ts';
import { ModelError } from '../errors.ts';
import { readTensor } from '../stored-tensor.ts';
import { elementCount, type HostTensor, isHost, isStored, type Tensor, toFloat32 } from '../tensor.ts';
import { inconsistent, parameter } from './weights.ts';

/** Scales of a weight W [outputs, inputs] whose elements are float8 e4m3. */
export interface LayerScales {
  /** [outputs]: W[n, k] = weight[n, k] · scale[n]. */
  readonly weight: Tensor;
  /** [1]: what inputs are divided by before they are rounded. Default: each row has its own, when it comes. */
  readonly input?: Tensor;
}

export const layerScales: Check<LayerScales> = membersOf<LayerScales>({
  weight: parameter,
  input: optional(parameter),
});

/** A weight of a layer, with what its products need. */
export interface WeightedLayer {
  /** The layer's name in the checkpoint. */
  readonly name: string;
  /** [outputs, inputs]. */
  readonly weight: Tensor;
  /** Of a float8_e4m3 weight. */
  readonly scales?: LayerScales;
  /** [outputs]. */
  readonly bias?: Tensor;
  readonly inputs: number;
  readonly outputs: number;
}

/**
 * Checks that a float8 weight has its scales, and no other has.
 * @throws ModelError CHECKPOINT_INCONSISTENT.
 */
export function checkScales(
  name: string,
  weight: Tensor,
  scales: LayerScales | undefined,
  outputs: number,
): void {
  if ((weight.dtype === 'float8_e4m3') !== (scales !== undefined))
    inconsistent(
      scales === undefined
        ? `${name} is float8_e4m3, and ${name}_scale is missing`
        : `${name} is ${weight.dtype}, and ${name}_scale is there, which float8_e4m3 weights have`,
      name,
    );
  if (scales === undefined) return;
  checkShape(`${name}_scale`, scales.weight, outputs);
  if (scales.input !== undefined) checkShape(`${name}_input_scale`, scales.input, 1);
}

function checkShape(name: string, { dtype, shape }: Tensor, count: number): void {
  if (dtype !== 'float32' || elementCount(shape) !== count)
    inconsistent(`${name} is ${dtype} [${shape}], expected float32 [${count}]`, name);
}

/** The scales of a checkpoint's parameter `key`. @throws ModelError CHECKPOINT_INCONSISTENT for an input's scale alone. */
export function storedScales(
  layer: Readonly<Record<string, { readonly name: string; readonly tensor: Tensor } | undefined>>,
  key: 'weight' | 'v' | 'w',
): LayerScales | undefined {
  const [weight, input] = [layer[`${key}_scale`], layer[`${key}_input_scale`]];
  if (weight === undefined)
    return input === undefined
      ? undefined
      : inconsistent(`${input.name} is there, and the scale of the weight is missing`, input.name);
  return { weight: weight.tensor, ...(input === undefined ? {} : { input: input.tensor }) };
}

/** The weight in 8 bits of a layer that has scales. @throws ModelError VALUE_NOT_FINITE, VALUE_OUT_OF_RANGE naming the layer. */
export async function readScaled(
  { name, weight }: Pick<WeightedLayer, 'name' | 'weight'>,
  scales: LayerScales,
): Promise<ScaledWeight> {
  const elements = (await valuesOf(weight)).data as Uint8Array;
  const nan = elements.findIndex((bits) => (bits & 0x7f) === 0x7f);
  if (nan >= 0)
    throw new ModelError('VALUE_NOT_FINITE', `layer ${name}: element ${nan} of its weight is NaN`, {
      tensor: name,
      position: nan,
    });
  const input = scales.input && (await readScales(name, 'the scale of its inputs', scales.input))[0];
  return {
    elements,
    scales: await readScales(name, 'a scale of its weight', scales.weight),
    ...(input === undefined ? {} : { inputScale: input }),
  };
}

async function readScales(name: string, what: string, tensor: Tensor): Promise<Float32Array> {
  const scales = toFloat32(await valuesOf(tensor));
  const odd = scales.findIndex((scale) => !(Number.isFinite(scale) && scale >= LEAST_SCALE));
  if (odd < 0) return scales;
  const value = scales[odd] as number;
  const code = Number.isFinite(value) ? 'VALUE_OUT_OF_RANGE' : 'VALUE_NOT_FINITE';
  throw new ModelError(
    code,
    `layer ${name}: ${what} is ${value}, expected a finite number from ${LEAST_SCALE} on`,
    {
      tensor: name,
      position: odd,
      value,
    },
  );
}

async function valuesOf(tensor: Tensor): Promise<HostTensor> {
  if (isStored(tensor)) return readTensor(tensor);
  if (isHost(tensor)) return tensor;
  throw new TypeError('dense weights cannot be synthetic');
}

/** A weight's values as float32, in whatever floating-point dtype it is stored. */
export async function readWeight(
  layer: Pick<WeightedLayer, 'name' | 'weight' | 'scales'>,
): Promise<Float32Array> {
  if (layer.scales !== undefined) return unscaled(await readScaled(layer, layer.scales));
  return toFloat32(await valuesOf(layer.weight));
}
