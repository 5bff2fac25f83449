/** Dense features of requests, as the model takes them. */
import { isArrayOf, lengthOf, plainArray, unreadable } from '../../checks/array.ts';
import { reading, shown } from '../../checks/value.ts';
import { RequestError } from '../../errors.ts';
import type { DlrmRequest } from './request.ts';

/**
 * The dense features of a request for `batchSize` samples, [batchSize, expected], read once.
 * @throws RequestError TENSOR_DTYPE, TENSOR_SHAPE.
 */
export function checkDense(
  request: Pick<DlrmRequest, 'dense' | 'denseFeatures'>,
  batchSize: number,
  expected: number,
): Float32Array {
  const { dense, denseFeatures } = reading('dense', () => {
    const { dense: own, denseFeatures: width } = request;
    if (!isArrayOf(own, 'Float32Array'))
      throw new RequestError('TENSOR_DTYPE', 'dense must be float32', { tensor: 'dense' });
    return { dense: plainArray(own), denseFeatures: width };
  });
  const reason = unreadable(dense);
  if (reason !== undefined)
    throw new RequestError('TENSOR_DTYPE', `the array of dense ${reason}`, { tensor: 'dense' });
  const length = lengthOf(dense);
  if (denseFeatures !== expected || length !== batchSize * expected) {
    const shape =
      typeof denseFeatures === 'number' && denseFeatures * batchSize === length
        ? `[${batchSize}, ${denseFeatures}]`
        : `${length} elements, and denseFeatures is ${shown(denseFeatures)}`;
    const message = `dense has ${shape}, the model takes [${batchSize}, ${expected}]`;
    throw new RequestError('TENSOR_SHAPE', message, { tensor: 'dense' });
  }
  return dense;
}
