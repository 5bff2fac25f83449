/** The lookups of a batch as other libraries take them. */
import type { BagBatch, Bags } from '../embedding/bag.ts';

/**
 * A bag for each sample: bags of users are repeated for their samples, as a library without users must pool them.
 * @throws Error for weighted lookups, which peers are not measured with.
 */
export function peerBags({ bags, users }: BagBatch): readonly Bags[] {
  if (bags.some(({ weights }) => weights !== undefined))
    throw new Error('lookups have weights, which it is not measured with');
  return bags.map((own) =>
    own.perUser === true && users !== undefined ? repeatedForSamples(own, users) : own,
  );
}

function repeatedForSamples({ indices, offsets }: Bags, users: Int32Array): Bags {
  const starts = Array.from(offsets as ArrayLike<number | bigint>, Number);
  const boundsOf = (u: number) => [starts[u] as number, starts[u + 1] ?? indices.length] as const;
  const samples = users.at(-1) ?? 0;
  const firsts = new Int32Array(samples);
  let lookups = 0;
  for (let u = 0; u + 1 < users.length; u++) {
    const [begin, end] = boundsOf(u);
    for (let b = users[u] as number; b < (users[u + 1] as number); b++) {
      firsts[b] = lookups;
      lookups += end - begin;
    }
  }
  const repeated = indices instanceof BigInt64Array ? new BigInt64Array(lookups) : new Int32Array(lookups);
  for (let u = 0; u + 1 < users.length; u++) {
    const own = indices.subarray(...boundsOf(u));
    for (let b = users[u] as number; b < (users[u + 1] as number); b++) repeated.set(own as never, firsts[b]);
  }
  return { indices: repeated, offsets: firsts };
}
