/** Where matrices lie in their buffers, and whether they meet. */
import { type Extent, elementBytes, type Matrix } from './backend.ts';

/** Whether two matrices share an element; of matrices of unequal strides or elements, whether their extents do. */
export function overlap(a: Matrix, b: Matrix): boolean {
  if (a.buffer !== b.buffer || a.rows * a.cols === 0 || b.rows * b.cols === 0) return false;
  const [size, otherSize] = [elementBytes(a), elementBytes(b)];
  if (size !== otherSize)
    return a.offset * size < endOf(b) * otherSize && b.offset * otherSize < endOf(a) * size;
  const apart = endOf(a) <= b.offset || endOf(b) <= a.offset;
  if (apart || a.stride !== b.stride) return !apart;
  // Side by side in rows of the same length: the distance between starts, within a row, decides.
  const distance = (((b.offset - a.offset) % a.stride) + a.stride) % a.stride;
  return distance < a.cols || distance + b.cols > a.stride;
}

/** The element behind a matrix's last one. */
export function endOf({ offset, rows, stride, cols }: Extent): number {
  return offset + (rows - 1) * stride + cols;
}
