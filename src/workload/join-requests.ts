/** Requests of one form, one behind the other. */
import { at } from '../at.ts';
import type { Bags, IndexArray } from '../embedding/bag.ts';
import type { DlrmRequest } from '../model/request/request.ts';

/** One request of all their samples. There is one at least, and none has users. */
export function joinRequests(requests: readonly DlrmRequest[]): DlrmRequest {
  const [first] = requests as [DlrmRequest];
  if (requests.length === 1) return first;
  const dense = new Float32Array(requests.reduce((sum, request) => sum + request.dense.length, 0));
  let end = 0;
  for (const request of requests) {
    dense.set(request.dense, end);
    end += request.dense.length;
  }
  return {
    batchSize: requests.reduce((sum, { batchSize }) => sum + batchSize, 0),
    denseFeatures: first.denseFeatures,
    dense,
    bags: first.bags.map((_, t) =>
      joinBags(requests.map(({ bags, batchSize }) => parts(at(bags, t), batchSize))),
    ),
  };
}

/** What `count` bags look up, and where each begins. */
interface Part {
  readonly indices: IndexArray;
  /** [count]. */
  readonly offsets: IndexArray;
  readonly weights: Float32Array | undefined;
}

function parts({ indices, offsets, weights }: Bags, count: number): Part {
  // What follows the last bag is of none.
  const lookups = offsets.length > count ? Number(offsets[count]) : indices.length;
  return {
    indices: indices.subarray(0, lookups),
    offsets: offsets.subarray(0, count),
    weights: weights?.subarray(0, lookups),
  };
}

function joinBags(all: readonly Part[]): Bags {
  const lookups = all.reduce((sum, { indices }) => sum + indices.length, 0);
  const wide = all.some(({ indices }) => indices instanceof BigInt64Array);
  const indices = wide ? new BigInt64Array(lookups) : new Int32Array(lookups);
  const offsets = new Int32Array(all.reduce((sum, part) => sum + part.offsets.length, 0));
  const weights = all.some((part) => part.weights !== undefined)
    ? new Float32Array(lookups).fill(1)
    : undefined;
  let [begin, bag] = [0, 0];
  for (const part of all) {
    if (indices instanceof BigInt64Array)
      indices.set(
        part.indices instanceof BigInt64Array ? part.indices : Array.from(part.indices, BigInt),
        begin,
      );
    else indices.set(part.indices as Int32Array, begin);
    for (const offset of part.offsets) offsets[bag++] = begin + Number(offset);
    if (part.weights !== undefined) weights?.set(part.weights, begin);
    begin += part.indices.length;
  }
  return { indices, offsets, ...(weights === undefined ? {} : { weights }) };
}
