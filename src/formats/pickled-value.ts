/** What a pickle holds, and what its globals and objects may do. */

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

/** An allowed global: called with the arguments that the pickle gives it. */
export type Global = (...args: PickledValue[]) => PickledValue;

/** An object that takes a state after it was made. */
export interface Stateful {
  setState(state: PickledValue): void;
}

export const isStateful = (value: PickledValue): value is Stateful =>
  typeof value === 'object' && value !== null && 'setState' in value;

export const isMap = (value: unknown): value is Map<PickledValue, PickledValue> => value instanceof Map;

export const isSet = (value: unknown): value is Set<PickledValue> => value instanceof Set;

/** Sets key, value, key, value, … in `map` and returns it. @throws Error for a key without a value. */
export function setPairs(
  map: Map<PickledValue, PickledValue>,
  values: readonly PickledValue[],
): Map<PickledValue, PickledValue> {
  if (values.length % 2 !== 0) throw new Error('a key without a value');
  for (let i = 0; i < values.length; i += 2)
    map.set(values[i] as PickledValue, values[i + 1] as PickledValue);
  return map;
}
