/** What raw dense numbers become before the bottom MLP. */
import type { Preprocessing } from '../inputs.ts';

/** `values` under `rule`, computed in float64, rounded to float32 once. NaN passes. */
export function preprocess(values: ArrayLike<number>, rule: Preprocessing): Float32Array {
  switch (rule) {
    case 'none':
      return Float32Array.from(values);
    case 'log(1 + max(x, 0))':
      return Float32Array.from(values, (x) => Math.log(1 + Math.max(x, 0)));
    case 'log(x + 3)':
      return Float32Array.from(values, (x) => Math.log(x + 3));
    default:
      return rule satisfies never;
  }
}

/** Whether `rule` has no value for `x`: a logarithm of 0 or of less. */
export function outsideDomain(x: number, rule: Preprocessing): boolean {
  return rule === 'log(x + 3)' && x <= -3;
}
