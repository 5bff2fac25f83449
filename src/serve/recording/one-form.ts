/** Requests whose bags are per user for the same tables, so that they can stand in one workload. */
import { at } from '../../at.ts';
import { type Bags, userCount } from '../../embedding/bag.ts';
import type { DlrmRequest } from '../../model/request/request.ts';

/** By table: whether its bags are per user. */
export type BagForm = readonly boolean[];

export function formOf({ bags }: Pick<DlrmRequest, 'bags'>): BagForm {
  return bags.map(({ perUser }) => perUser === true);
}

/** A copy of a request that shares no memory with it; indices that no bag has are left out. */
export function copyOf(request: DlrmRequest): DlrmRequest {
  const { batchSize, dense, denseFeatures, bags, users } = request;
  return {
    batchSize,
    dense: dense.slice(),
    denseFeatures,
    bags: bags.map((own) => {
      const count = own.perUser === true ? userCount(request) : batchSize;
      const lookups = endOf(own, count);
      return {
        indices: own.indices.slice(0, lookups),
        offsets: own.offsets.slice(0, count + 1),
        ...(own.weights === undefined ? {} : { weights: own.weights.slice(0, lookups) }),
        ...(own.perUser === true ? { perUser: true } : {}),
      };
    }),
    ...(users === undefined ? {} : { users: users.slice() }),
  };
}

/**
 * The same samples with bags per user for the tables of `form`, and no others. Where the request has them otherwise, each of its samples
 * becomes a user of one candidate, with bags of its own: results are the same.
 */
export function inForm(request: DlrmRequest, form: BagForm): DlrmRequest {
  const own = formOf(request);
  const { batchSize, dense, denseFeatures, bags, users = Int32Array.of(0, batchSize) } = request;
  if (form.every((perUser, t) => perUser === at(own, t)))
    // Without bags per user, whose samples they are makes no difference.
    return form.includes(true) || request.users === undefined
      ? request
      : { batchSize, dense, denseFeatures, bags };
  return {
    batchSize,
    dense,
    denseFeatures,
    bags: bags.map(({ perUser, ...rest }, t) => ({
      ...(perUser === true ? repeated(rest, users) : rest),
      ...(at(form, t) ? { perUser: true } : {}),
    })),
    ...(form.includes(true) ? { users: Int32Array.from({ length: batchSize + 1 }, (_, b) => b) } : {}),
  };
}

/** Bags of users [U], once for each candidate. */
function repeated(bags: Bags, users: Int32Array): Bags {
  const { indices, weights } = bags;
  const count = users.length - 1;
  const boundsOf = (u: number) => {
    const begin = Number(at(bags.offsets, u));
    return { begin, end: u + 1 < bags.offsets.length ? Number(at(bags.offsets, u + 1)) : indices.length };
  };
  const candidatesOf = (u: number) => at(users, u + 1) - at(users, u);
  let lookups = 0;
  for (let u = 0; u < count; u++) {
    const { begin, end } = boundsOf(u);
    lookups += (end - begin) * candidatesOf(u);
  }
  const offsets = new Int32Array(at(users, count) + 1);
  const ownWeights = weights === undefined ? undefined : new Float32Array(lookups);
  const wide = indices instanceof BigInt64Array ? new BigInt64Array(lookups) : undefined;
  const narrow = new Int32Array(wide === undefined ? lookups : 0);
  let [to, bag] = [0, 0];
  for (let u = 0; u < count; u++) {
    const { begin, end } = boundsOf(u);
    for (let candidate = 0; candidate < candidatesOf(u); candidate++) {
      if (indices instanceof BigInt64Array) wide?.set(indices.subarray(begin, end), to);
      else narrow.set(indices.subarray(begin, end), to);
      if (weights !== undefined) ownWeights?.set(weights.subarray(begin, end), to);
      to += end - begin;
      offsets[++bag] = to;
    }
  }
  return {
    indices: wide ?? narrow,
    offsets,
    ...(ownWeights === undefined ? {} : { weights: ownWeights }),
  };
}

function endOf({ indices, offsets }: Bags, count: number): number {
  return offsets.length > count ? Number(at(offsets, count)) : indices.length;
}
