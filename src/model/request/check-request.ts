/** Requests of callers, whatever model they are for. */
import { plainArray } from '../../checks/array.ts';
import { type Check, isList, listOf, membersOf, optional, refuseOption, whole } from '../../checks/value.ts';
import type { BagBatch, EmbeddingTable } from '../../embedding/bag.ts';
import { checkBagShapes } from '../../embedding/check-bags.ts';
import { checkDense } from './check-dense.ts';
import type { DlrmRequest } from './request.ts';

/** What a request says of a table: nothing but that there is one. */
const ANY_TABLE: Omit<EmbeddingTable, 'name'> = {
  weight: { dtype: 'float32', shape: [1, 1], seed: 0 },
  rows: 1,
  dim: 1,
  rowFormat: 'float32',
  mode: 'sum',
};

const MOST_TABLES = 2 ** 20;

/**
 * The request that a value is, read once; index values are not looked at.
 * @throws RequestError TENSOR_*, USERS_INVALID; UsageError OPTION_INVALID.
 */
export function checkRequest(value: unknown): DlrmRequest {
  const { bags, batchSize, users, dense, denseFeatures } = MEMBERS(value, 'request');
  const tables = bags.map((_, t) => ({ ...ANY_TABLE, name: `${t}` }));
  const batch = { batchSize, bags, ...(users === undefined ? {} : { users }) } as BagBatch;
  const checked = checkBagShapes(tables, batch);
  const request = { dense, denseFeatures } as Pick<DlrmRequest, 'dense' | 'denseFeatures'>;
  return {
    ...checked,
    bags: checked.bags.map(({ indices, offsets, weights, perUser }) => ({
      indices: plainArray(indices),
      offsets: plainArray(offsets),
      ...(weights === undefined ? {} : { weights: plainArray(weights) }),
      ...(perUser === undefined ? {} : { perUser }),
    })),
    dense: checkDense(request, checked.batchSize, denseFeatures),
    denseFeatures,
  };
}

const any: Check<unknown> = (value) => value;

/** All but `denseFeatures` is checked by what it is handed to. */
const MEMBERS = membersOf<{
  batchSize: unknown;
  bags: readonly unknown[];
  users?: unknown;
  dense: unknown;
  denseFeatures: number;
}>({
  batchSize: any,
  bags: (value, at) => {
    if (isList(value) && value.length > MOST_TABLES)
      return refuseOption(at, value, `bags of at most ${MOST_TABLES} tables`);
    return listOf(any)(value, at);
  },
  users: optional(any),
  dense: any,
  denseFeatures: whole(),
});
