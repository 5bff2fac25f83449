/** Features on one table: entries with the same `weight`, identically that object, whose rows lie in memory once. */
import { at } from '../at.ts';
import { RequestError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import type { EmbeddingTable } from './bag.ts';

/** One without a weight, a described shape, has a table of its own. */
interface Feature {
  readonly weight?: Tensor;
}

/** For each feature, the number of its table; tables are numbered as features first name them. */
export function tableNumbers(features: readonly Feature[]): number[] {
  const numbers = new Map<Tensor, number>();
  let next = 0;
  return features.map(({ weight }) => {
    const known = weight && numbers.get(weight);
    if (known !== undefined) return known;
    if (weight !== undefined) numbers.set(weight, next);
    return next++;
  });
}

/** The tables that features read, each by the first feature on it: what memory there is. */
export function distinctTables<F extends Feature>(features: readonly F[]): F[] {
  const numbers = tableNumbers(features);
  return features.filter((_, i) => numbers.indexOf(at(numbers, i)) === i);
}

/** Whether features share tables. */
export function sharesTables(features: readonly Feature[]): boolean {
  return distinctTables(features).length < features.length;
}

/**
 * Checks that features on one table read it alike.
 * @throws RequestError TENSOR_SHAPE when rows, dim or row format differ.
 */
export function checkSharing(features: readonly EmbeddingTable[]): void {
  const tables = distinctTables(features);
  const numbers = tableNumbers(features);
  features.forEach((feature, i) => {
    const first = at(tables, at(numbers, i));
    if (describe(feature) === describe(first)) return;
    throw new RequestError(
      'TENSOR_SHAPE',
      `table ${feature.name}: its weight is that of ${first.name}, which reads it as ${describe(first)}, not ${describe(feature)}`,
      {
        tensor: feature.name,
        hint: 'features on one table have the same rows, dim and row format; others need a weight of their own',
      },
    );
  });
}

function describe({ rows, dim, rowFormat }: EmbeddingTable): string {
  return `[${rows}, ${dim}] ${rowFormat}`;
}
