/** What choices of matrix products depend on, where a test has only one device. */
import type { ChoicesIdentity } from '../../src/backend/cuda/dense/kept-choices.ts';

export const SOME_CHOICES: ChoicesIdentity = {
  device: 'a GPU',
  architecture: 'sm_90',
  multiprocessors: 1,
  precision: 'bfloat16',
  cublasLt: '1.0.0',
  hotrow: '1.0.0',
};
