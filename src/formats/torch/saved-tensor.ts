/** The tensors of a pickle: what stands for one until it is asked for, so that one that cannot be had stops no other. */
import { at } from '../../at.ts';
import { FormatError } from '../../errors.ts';
import { elementCount, type StoredTensor } from '../../tensor.ts';
import { isMap, type PickledValue, shown } from './pickled-value.ts';
import { stridedRead } from './strided-read.ts';
import type { ElementType } from './torch-dtypes.ts';

/** PyTorch's own bound on axes. */
const MAX_RANK = 64;

/** Why a tensor cannot be had. */
export interface Problem {
  readonly code: 'TORCH_FORMAT_UNSUPPORTED' | 'TORCH_FILE_INVALID';
  /** What is said of the tensor. */
  readonly message: string;
  readonly hint?: string;
}

/** A tensor that is as it should be, and not read. */
export const unsupported = (message: string, hint: string): Problem => ({
  code: 'TORCH_FORMAT_UNSUPPORTED',
  message,
  hint,
});

/** A tensor that is not as torch.save writes it. */
export const damaged = (message: string): Problem => ({ code: 'TORCH_FILE_INVALID', message });

/** Bytes of the file that tensors view. */
export interface Storage {
  /** Undefined for plain bytes. */
  readonly element: ElementType | undefined;
  /** How many; of plain bytes, the bytes. */
  readonly elements: number;
  /** Byte of the file where the storage begins, which may be known only after the pickle is read; or why it has none. */
  readonly locate: () => number | Problem;
}

const isStorage = (value: PickledValue | undefined): value is Storage =>
  typeof value === 'object' && value !== null && 'locate' in value;

/** A tensor, or what PyTorch put in the place of one. */
export abstract class SavedTensor {
  constructor(readonly file: string) {}

  /**
   * Where the tensor lies; it is not read. `name` names it in errors.
   * @throws FormatError TORCH_FORMAT_UNSUPPORTED for a kind of tensor that is not read, with what to save instead;
   * TORCH_FILE_INVALID for one that does not lie in the file.
   */
  abstract stored(name?: string): StoredTensor;

  protected refused({ code, message, hint }: Problem, name?: string): FormatError {
    const { file } = this;
    const subject = name === undefined ? 'a tensor' : `tensor ${shown(name)}`;
    return new FormatError(code, `${file}: ${subject} ${message}`, {
      file,
      ...(name === undefined ? {} : { tensor: name }),
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** True for a tensor of a value that `readTorchFile` gave. */
export const isSavedTensor = (value: unknown): value is SavedTensor => value instanceof SavedTensor;

/** A tensor that is not read, whatever it holds. */
export class UnreadableTensor extends SavedTensor {
  constructor(
    file: string,
    readonly problem: Problem,
  ) {
    super(file);
  }

  stored(name?: string): StoredTensor {
    throw this.refused(this.problem, name);
  }
}

/** What the pickle says of a tensor; anything may stand where it belongs. */
export interface StridedDescription {
  readonly storage: PickledValue | undefined;
  /** In elements, as the strides. */
  readonly offset: PickledValue | undefined;
  readonly shape: PickledValue | undefined;
  readonly stride: PickledValue | undefined;
  /** For storages of plain bytes. */
  readonly element?: ElementType | undefined;
  /** Flags such as `neg` and `conj`. */
  readonly metadata?: PickledValue | undefined;
}

/** A tensor whose elements lie in a storage, at an offset and with strides. */
export class StridedTensor extends SavedTensor {
  constructor(
    file: string,
    readonly described: StridedDescription,
  ) {
    super(file);
  }

  stored(name?: string): StoredTensor {
    const { storage, offset, shape, stride, metadata } = this.described;
    if (!isStorage(storage) || !isCount(offset) || !isCounts(shape) || !isCounts(stride))
      throw this.refused(damaged('is described by no storage, offset, shape and stride'), name);
    if (shape.length !== stride.length)
      throw this.refused(damaged(`has ${shape.length} extents and ${stride.length} strides`), name);
    const element = this.described.element ?? storage.element;
    if (element?.dtype === undefined) throw this.refused(unknownElements(element), name);
    if (isMap(metadata) && metadata.get('neg') === true)
      throw this.refused(
        unsupported('is a view with the signs turned', 'save it with tensor.resolve_neg()'),
        name,
      );

    const { dtype, bytes } = element;
    const byteLength = elementCount(shape) * bytes;
    if (!Number.isSafeInteger(byteLength))
      throw this.refused(damaged(`of shape [${shape}] is too large`), name);
    const available = Math.floor((storage.elements * (storage.element?.bytes ?? 1)) / bytes);
    const end = shape.reduce((last, extent, axis) => last + (extent - 1) * at(stride, axis), offset + 1);
    if (byteLength > 0 && !(end <= available)) {
      const what = `of shape [${shape}] and strides [${stride}] at element ${offset}`;
      throw this.refused(damaged(`${what} reaches past its storage of ${available}`), name);
    }
    const place = storage.locate();
    if (typeof place !== 'number') throw this.refused(place, name);
    const byteOffset = byteLength > 0 ? place + offset * bytes : place;
    const { file } = this;
    if (isContiguous(shape, stride)) return { dtype, shape, file, byteOffset, byteLength };
    const read = stridedRead({ file, byteOffset, elementBytes: bytes, shape, stride });
    return { dtype, shape, files: [file], byteLength, read };
  }
}

function unknownElements(element: ElementType | undefined): Problem {
  return unsupported(
    `is ${element?.name ?? 'of plain bytes'}, which is not read`,
    element?.name.startsWith('complex')
      ? 'save its real and imaginary parts: torch.view_as_real(tensor)'
      : 'convert it before saving, e.g. with tensor.float()',
  );
}

const isCount = (value: PickledValue | undefined): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;

/** True for extents or strides of a tensor. */
export const isCounts = (value: PickledValue | undefined): value is number[] =>
  Array.isArray(value) && value.length <= MAX_RANK && value.every(isCount);

/** Row-major without holes; an extent of 1 may have any stride, and so may a tensor without elements. */
function isContiguous(shape: readonly number[], stride: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = at(shape, axis);
    if (extent !== 1 && stride[axis] !== expected) return false;
    expected *= extent;
  }
  return true;
}
