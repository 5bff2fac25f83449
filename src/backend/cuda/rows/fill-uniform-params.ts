/** What the host tells fill_uniform.cuh. */
import { struct } from '../kernels/struct.ts';

export const FillUniformParams = struct('FillUniformParams', 'fill_uniform.cuh', {
  target: 'address',
  /** The format's number. */
  rowFormat: 'integer',
  /** Elements. */
  count: 'integer',
  seed: 'integer',
});

export const FillQuantizedParams = struct('FillQuantizedParams', 'fill_uniform.cuh', {
  target: 'address',
  /** The format's number. */
  rowFormat: 'integer',
  rows: 'integer',
  dim: 'integer',
  rowStrideBytes: 'integer',
  fileStrideBytes: 'integer',
  seed: 'integer',
});
