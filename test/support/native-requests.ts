/** Requests that are places in a body, read element by element: what they say as arrays. */
import type { Bags } from '../../src/embedding/bag.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import type { NativeRequest } from '../../src/serve/protocol/native-request.ts';
import type { BoundsAt, IntegersAt } from '../../src/serve/records/record.ts';

/** `memory`: what the places are in. */
export function requestAt(native: NativeRequest, memory: Uint8Array, denseFeatures: number): DlrmRequest {
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  const integers = ({ at, int64 }: IntegersAt, count: number) =>
    Array.from({ length: count }, (_, i) =>
      int64 ? Number(view.getBigInt64(at + 8 * i, true)) : view.getInt32(at + 4 * i, true),
    );
  const floats = (at: number, count: number) =>
    Float32Array.from({ length: count }, (_, i) => view.getFloat32(at + 4 * i, true));
  const { samples, users, tables, pieces } = native;
  const userCount = users === undefined ? 0 : users.starts.length - 1;
  const bagsOf = (perUser: boolean) => (perUser ? userCount : samples);

  const offsetsOf = (bounds: BoundsAt, lookups: number, bags: number): number[] => {
    if (bounds.kind === 'even') return Array.from({ length: bags + 1 }, (_, b) => (b * lookups) / bags);
    if (bounds.kind === 'lengths') return sums(integers(bounds, bags));
    return integers(bounds, bounds.hasEnd ? bags + 1 : bags);
  };
  const made = (
    rows: number[],
    offsets: number[],
    weights: Float32Array | undefined,
    perUser: boolean,
  ): Bags => ({
    indices: BigInt64Array.from(rows, BigInt),
    offsets: BigInt64Array.from(offsets, BigInt),
    ...(weights === undefined ? {} : { weights }),
    ...(perUser ? { perUser } : {}),
  });
  const bags: Bags[] = tables.map((own) => {
    if (own === undefined) return made([], new Array(samples + 1).fill(0), undefined, false);
    const { indices, lookups, bounds, weightsAt, perUser = false } = own;
    const weights = weightsAt === undefined ? undefined : floats(weightsAt, lookups);
    return made(integers(indices, lookups), offsetsOf(bounds, lookups, bagsOf(perUser)), weights, perUser);
  });
  for (const { tables: order, values, lookups, lengths, weightsAt, perUser = false } of pieces) {
    const count = bagsOf(perUser);
    const all = integers(lengths, order.length * count);
    const rows = integers(values, lookups);
    let begin = 0;
    order.forEach((table, k) => {
      const offsets = sums(all.slice(k * count, (k + 1) * count));
      const end = begin + (offsets.at(-1) as number);
      const weights = weightsAt === undefined ? undefined : floats(weightsAt, lookups).slice(begin, end);
      bags[table] = made(rows.slice(begin, end), offsets, weights, perUser);
      begin = end;
    });
  }
  const dense = new Float32Array(samples * denseFeatures);
  const shared = users?.denseFeatures ?? 0;
  const own = floats(native.denseAt, samples * (denseFeatures - shared));
  for (let b = 0; b < samples; b++) {
    dense.set(
      own.subarray(b * (denseFeatures - shared), (b + 1) * (denseFeatures - shared)),
      b * denseFeatures + shared,
    );
    if (users === undefined) continue;
    const user = users.starts.findIndex((start, u) => start <= b && b < (users.starts[u + 1] ?? 0));
    dense.set(floats(users.denseAt + 4 * user * shared, shared), b * denseFeatures);
  }
  return {
    batchSize: samples,
    dense,
    denseFeatures,
    bags,
    ...(users === undefined ? {} : { users: users.starts }),
  };
}

function sums(lengths: readonly number[]): number[] {
  let end = 0;
  return [0, ...lengths.map((length) => (end += length))];
}
