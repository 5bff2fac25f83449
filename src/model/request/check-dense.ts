/** Dense features of requests, as the model takes them. */
import { isArrayOf, unreadable } from '../../checks/array.ts';
import { shown } from '../../checks/value.ts';
import { RequestError } from '../../errors.ts';
import type { DlrmRequest } from './request.ts';

/**
 * The dense features of a request for `batchSize` samples, [batchSize, expected], read once.
 * @throws RequestError TENSOR_DTYPE, TENSOR_SHAPE.
 */
export function checkDense(
  { dense, denseFeatures }: Pick<DlrmRequest, 'dense' | 'denseFeatures'>,
  batchSize: number,
  expected: number,
): Float32Array {
  if (!isArrayOf(dense, 'Float32Array'))
    throw new RequestError('TENSOR_DTYPE', 'dense must be float32', { tensor: 'dense' });
  if (denseFeatures !== expected || dense.length !== batchSize * expected) {
    const shape =
      typeof denseFeatures === 'number' && denseFeatures * batchSize === dense.length
        ? `[${batchSize}, ${denseFeatures}]`
        : `${dense.length} elements, and denseFeatures is ${shown(denseFeatures)}`;
    const message = `dense has ${shape}, the model takes [${batchSize}, ${expected}]`;
    throw new RequestError('TENSOR_SHAPE', message, { tensor: 'dense' });
  }
  const reason = unreadable(dense);
  if (reason !== undefined)
    throw new RequestError('TENSOR_DTYPE', `the array of dense ${reason}`, { tensor: 'dense' });
  return dense;
}
