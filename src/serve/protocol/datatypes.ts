/** Datatypes of the Open Inference Protocol that requests may hold; BYTES are strings. */
import { shown } from '../../checks/value.ts';
import { RequestError } from '../../errors.ts';
import type { DType } from '../../tensor.ts';

const DATATYPES = new Map<unknown, DType | 'string'>([
  ['FP32', 'float32'],
  ['FP16', 'float16'],
  ['BF16', 'bfloat16'],
  ['FP64', 'float64'],
  ['INT32', 'int32'],
  ['INT64', 'int64'],
  ['BYTES', 'string'],
]);

/** @throws RequestError TENSOR_DTYPE. */
export function datatypeOf(name: unknown, tensor: string): DType | 'string' {
  const found = DATATYPES.get(name);
  if (found !== undefined) return found;
  throw new RequestError('TENSOR_DTYPE', `${tensor}: datatype ${shown(name)} has no place in a request`, {
    tensor,
    hint: `datatypes are ${[...DATATYPES.keys()].join(', ')}`,
  });
}
