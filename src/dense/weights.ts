/** Weights of dense layers: what callers may give, and their values. */
import { checkTensor } from '../checks/tensor.ts';
import { type Check, whole } from '../checks/value.ts';
import { DeviceError, ModelError } from '../errors.ts';
import { readTensor } from '../stored-tensor.ts';
import { isHost, isStored, type Tensor, toFloat32 } from '../tensor.ts';

/** The widest layer, and the most dense features. */
export const MOST_WIDTH = 2 ** 26;

/** The width of a layer. */
export const layerWidth = whole(1, MOST_WIDTH);

const FLOATS: readonly string[] = ['float32', 'float16', 'bfloat16', 'float64', 'float8_e4m3'];

/** Refuses layers that do not fit each other; `tensor` is the parameter that says so. */
export function inconsistent(message: string, tensor?: string): never {
  throw new ModelError('CHECKPOINT_INCONSISTENT', message, tensor === undefined ? {} : { tensor });
}

/** A parameter of a dense layer: floating point, with values. @throws RequestError TENSOR_*; ModelError. */
export const parameter: Check<Tensor> = (value, at) => {
  const tensor = checkTensor(value, at);
  if (!FLOATS.includes(tensor.dtype))
    inconsistent(`${at} is ${tensor.dtype}, must be one of ${FLOATS.join(', ')}`);
  if (!isStored(tensor) && !isHost(tensor))
    inconsistent(`${at} has no values: dense weights cannot be synthetic`);
  return tensor;
};

/** A bias's values as float32, whatever floating-point dtype it is stored in. */
export async function readFloat32(tensor: Tensor): Promise<Float32Array> {
  if (isStored(tensor)) return toFloat32(await readTensor(tensor));
  if (isHost(tensor)) return toFloat32(tensor);
  throw new DeviceError('KERNEL_FAILED', 'dense weights cannot be synthetic; give them values');
}
