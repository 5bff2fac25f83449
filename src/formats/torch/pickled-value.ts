/** What a pickle holds: data, and placeholders for all that only Python could make. */
import { at } from '../../at.ts';
import { printable } from '../../text.ts';

/** A value of a pickle: tuples and lists are arrays, dicts are Maps, sets are Sets. */
export type PickledValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickledValue[]
  | Map<PickledValue, PickledValue>
  | Set<PickledValue>
  | object;

/**
 * What stands for a call of Python. Undefined: it does not know these arguments, and the call leaves a placeholder. It must
 * take the same short time and little memory for any arguments: a pickle may call it millions of times.
 */
export type Call = (args: readonly PickledValue[]) => PickledValue | undefined;

/** A class or a function that a pickle names. Nothing is imported. */
export class PickledGlobal {
  /** `type` is "module.name"; without `call`, calls leave placeholders. */
  constructor(
    readonly type: string,
    readonly call?: Call,
  ) {}
}

/**
 * The placeholder of an object that only Python could make: what the pickle says of it, and no more. Nothing was called or
 * imported for it.
 */
export class InertObject {
  /** Given after it was made, as by __setstate__: mostly a dict of attributes. */
  state?: PickledValue;
  /** What a subclass of list or set holds. */
  items?: PickledValue[];
  /** What a subclass of dict holds. */
  entries?: Map<PickledValue, PickledValue>;

  /** `type` is "module.name" of its class, or of the function that makes it; `args` what that is called with. */
  constructor(
    readonly type: string,
    readonly args: readonly PickledValue[],
  ) {}

  setState(state: PickledValue): void {
    this.state = state;
  }
}

/** An object that takes a state after it was made. */
export interface Stateful {
  setState(state: PickledValue): void;
}

export const isStateful = (value: PickledValue): value is Stateful =>
  typeof value === 'object' && value !== null && 'setState' in value;

export const isMap = (value: unknown): value is Map<PickledValue, PickledValue> => value instanceof Map;

/** The entries of a dict, or of an object whose class derives from dict; undefined for anything else. */
export function dictOf(value: unknown): ReadonlyMap<PickledValue, PickledValue> | undefined {
  return isMap(value) ? value : value instanceof InertObject ? value.entries : undefined;
}

/** The attribute `name` of a placeholder, as its state holds it: a dict, or a pair of dicts where the class has slots. */
export function attribute(object: PickledValue | undefined, name: string): PickledValue | undefined {
  return object instanceof InertObject ? attributeOf(object.state, name) : undefined;
}

/** The attribute `name` in an object's state. */
export function attributeOf(state: PickledValue | undefined, name: string): PickledValue | undefined {
  const dicts = Array.isArray(state) && state.length === 2 ? state : [state];
  return dicts.find((dict) => isMap(dict) && dict.has(name))?.get(name);
}

/** A name of the file as it may stand in a message, however long and whatever its characters. */
export function shown(name: string): string {
  return printable(name, 120);
}

/** Sets key, value, key, value, … in `map` and returns it. @throws Error for a key without a value. */
export function setPairs(
  map: Map<PickledValue, PickledValue>,
  values: readonly PickledValue[],
): Map<PickledValue, PickledValue> {
  if (values.length % 2 !== 0) throw new Error('a key without a value');
  for (let i = 0; i < values.length; i += 2) map.set(at(values, i), at(values, i + 1));
  return map;
}
