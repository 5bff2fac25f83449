import { DeviceError } from '../errors.ts';
import { readTensor } from '../stored-tensor.ts';
import { isHost, isStored, type Tensor, toFloat32 } from '../tensor.ts';

/** A weight's values as float32, whatever floating-point dtype it is stored in. */
export async function readFloat32(tensor: Tensor): Promise<Float32Array> {
  if (isStored(tensor)) return toFloat32(await readTensor(tensor));
  if (isHost(tensor)) return toFloat32(tensor);
  throw new DeviceError('KERNEL_FAILED', 'dense weights cannot be synthetic; give them values');
}
