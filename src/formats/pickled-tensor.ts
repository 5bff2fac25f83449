import { isStored, type StoredTensor, type Tensor } from '../tensor.ts';
import type { PickledValue } from './pickled-value.ts';

/** The tensor that a value of a pickle is; undefined for anything else. */
export function pickledTensor(value: PickledValue | undefined): StoredTensor | undefined {
  const isTensor =
    typeof value === 'object' && value !== null && 'dtype' in value && isStored(value as Tensor);
  return isTensor ? (value as StoredTensor) : undefined;
}
