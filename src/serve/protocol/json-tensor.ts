/** Tensors whose elements stand in JSON: a flat list, or lists in lists as the shape says. */
import { shown } from '../../checks/value.ts';
import { RequestError } from '../../errors.ts';
import type { StringTensor } from '../../model/request/request-tensors.ts';
import {
  type DType,
  elementBytes,
  type HostTensor,
  numberToBfloat16,
  numberToFloat16,
  viewElements,
} from '../../tensor.ts';
import { listOf } from './refuse.ts';

/** The tensor of `count` elements of JSON. @throws RequestError REQUEST_INVALID, TENSOR_SHAPE naming the tensor. */
export function jsonTensor(
  data: unknown,
  dtype: DType | 'string',
  shape: readonly number[],
  count: number,
  tensor: string,
): HostTensor | StringTensor {
  const list = listOf(data, `the data of ${tensor}`);
  // Nothing is made for elements that a small body only claims.
  const elements = flat(list, shape, count, tensor);
  if (dtype === 'string')
    return { dtype, shape, strings: elements.map((value, i) => textOf(value, i, tensor)) };
  const array = viewElements(dtype, new Uint8Array(count * elementBytes(dtype)));
  const read = converter(dtype);
  for (let i = 0; i < count; i++) {
    const value = read(elements[i]);
    if (value === undefined) refuse(tensor, i, elements[i], dtype);
    array[i] = value as never;
  }
  return { dtype, shape, data: array };
}

/** The elements in row-major order, exactly `count` of them. */
function flat(
  list: readonly unknown[],
  shape: readonly number[],
  count: number,
  tensor: string,
): readonly unknown[] {
  if (!Array.isArray(list[0])) {
    if (list.length === count) return list;
    throw shapeError(tensor, `${list.length} elements of data, shape [${shape}] has ${count}`);
  }
  const elements: unknown[] = [];
  const walk = (part: unknown, axis: number): void => {
    if (axis === shape.length) {
      elements.push(part);
      return;
    }
    if (!Array.isArray(part) || part.length !== shape[axis])
      throw shapeError(tensor, `its data are not lists in lists as shape [${shape}] says`);
    for (const inner of part) walk(inner, axis + 1);
  };
  walk(list, 0);
  return elements;
}

/** The value of an element as its array takes it; undefined: it is not of the type. */
function converter(dtype: DType): (value: unknown) => number | bigint | undefined {
  switch (dtype) {
    case 'int32':
      return (value) => (typeof value === 'number' && value === (value | 0) ? value : undefined);
    case 'int64':
      return int64;
    case 'float16':
      return (value) => (Number.isFinite(value) ? numberToFloat16(value as number) : undefined);
    case 'bfloat16':
      return (value) => (Number.isFinite(value) ? numberToBfloat16(value as number) : undefined);
    default:
      return (value) => (Number.isFinite(value) ? (value as number) : undefined);
  }
}

/** JSON's numbers are exact below 2^53; larger integers are strings of digits. */
function int64(value: unknown): bigint | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  if (typeof value !== 'string' || !/^-?\d{1,19}$/.test(value)) return undefined;
  const integer = BigInt(value);
  return BigInt.asIntN(64, integer) === integer ? integer : undefined;
}

function textOf(value: unknown, i: number, tensor: string): string {
  return typeof value === 'string' ? value : refuse(tensor, i, value, 'BYTES');
}

function refuse(tensor: string, position: number, value: unknown, type: string): never {
  throw new RequestError(
    'REQUEST_INVALID',
    `${tensor}: element ${position}, ${shown(value)}, is no ${type}`,
    {
      tensor,
      position,
      hint: 'numbers are finite; integers beyond 2^53 are strings of digits, BYTES strings; for NaN send tensors as bytes',
    },
  );
}

function shapeError(tensor: string, message: string): RequestError {
  return new RequestError('TENSOR_SHAPE', `${tensor}: ${message}`, { tensor });
}
