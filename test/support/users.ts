/** Batches of users with candidates, and the same lookups as batches without users. */
import type { BagBatch, Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { bagsOf, INTEGER_TYPES, type IntegerType, integers, type Problem, randomBags } from './cases.ts';
import type { Random } from './random.ts';

/** The same batch with every user's bags repeated for each of their candidates. Bags must be good. */
export function expandUsers({ batchSize, bags, users }: BagBatch): BagBatch {
  if (users === undefined) return { batchSize, bags };
  const userOf = Array.from(users.subarray(1)).flatMap((end, u) => {
    return Array.from({ length: end - (users[u] as number) }, () => u);
  });
  return { batchSize, bags: bags.map((own) => (own.perUser === true ? repeated(own, userOf) : own)) };
}

/** Bags of which bag i is bag `order[i]` of `bags`. */
function repeated({ indices, offsets, weights }: Bags, order: readonly number[]): Bags {
  const rangeOf = (bag: number): [number, number] => [
    Number(offsets[bag]),
    bag + 1 < offsets.length ? Number(offsets[bag + 1]) : indices.length,
  ];
  const lists = order.map((bag) => Array.from(indices.subarray(...rangeOf(bag)), Number));
  const type = (array: Bags['indices']): IntegerType => (array instanceof Int32Array ? 'int32' : 'int64');
  return bagsOf(lists, {
    index: type(indices),
    offset: type(offsets),
    ...(weights === undefined
      ? {}
      : { weights: Float32Array.from(order.flatMap((bag) => [...weights.subarray(...rangeOf(bag))])) }),
  });
}

export interface UsersSpec {
  /** [U + 1]. */
  readonly starts: readonly number[];
  /** Which tables have a bag per user. */
  readonly perUser: (table: number) => boolean;
  /** Lookups of a bag at most; default 9. */
  readonly longest?: number;
  /** Which tables have weights of lookups, where they can; default: none. */
  readonly weighted?: (table: number) => boolean;
}

/** Random bags for `tables`, of every type of indices and offsets. */
export function usersProblem(
  random: Random,
  tables: readonly EmbeddingTable[],
  { starts, perUser, longest = 9, weighted = () => false }: UsersSpec,
): Problem {
  const batchSize = starts.at(-1) as number;
  const bags = tables.map(({ rows, mode, rowWeights }, t): Bags => {
    const own = randomBags(random, {
      batch: perUser(t) ? starts.length - 1 : batchSize,
      rows,
      lengths: [0, longest],
      index: INTEGER_TYPES[t % 2] as IntegerType,
      offset: INTEGER_TYPES[(t >> 1) % 2] as IntegerType,
      endOffset: t % 3 === 0,
      weighted: mode === 'sum' && rowWeights === undefined && weighted(t),
    });
    return perUser(t) ? { ...own, perUser: true } : own;
  });
  return { tables, batch: { batchSize, bags, users: integers(starts, 'int32') as Int32Array } };
}
