/** How many samples and users a request has. */
import { at } from '../../at.ts';
import type { IndexArray } from '../../embedding/bag.ts';
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import { bagCount, boundCount } from './bag-bounds.ts';
import { keyCount } from './feature-names.ts';
import type { RequestPart, RequestParts } from './request-parts.ts';

/** Most samples of a request with users: their starts are int32. */
const MAX_SAMPLES = 2 ** 31 - 1;

const UNKNOWN_SIZE =
  'nothing says how many samples there are, since offsets have one entry for each, or one more: give lengths, or dense [B, 0]';

export interface RequestSizes {
  readonly batchSize: number;
  /** [U + 1]: where the candidates of each user begin; undefined: nothing says that samples share a user. */
  readonly users: Int32Array | undefined;
}

/**
 * `takesDense`: whether the model has dense features; default: it may. The sizes that dense features, lengths, bags of one length and `users` say, in this order; offsets alone do not say
 * theirs.
 * @throws RequestError TENSOR_MISSING, TENSOR_SHAPE, USERS_INVALID.
 */
export function sizesOf(
  { samples, user, users }: RequestParts,
  features: number,
  takesDense = true,
): RequestSizes {
  const own = sizeOf(samples, features);
  if (user === undefined && users === undefined) {
    if (own === undefined)
      fail('TENSOR_MISSING', 'dense', takesDense ? 'tensor dense is missing' : UNKNOWN_SIZE);
    return { batchSize: backed(own, samples), users: undefined };
  }
  const userCount = user === undefined ? undefined : sizeOf(user, features);
  const starts = userStarts(users ?? soleUser(userCount, own), userCount);
  const batchSize = at(starts, starts.length - 1);
  if (own !== undefined && own !== batchSize)
    fail('USERS_INVALID', 'users', `users have ${batchSize} candidates, the request has ${own}`);
  return { batchSize: backed(batchSize, samples), users: starts };
}

/** [U]: all samples are candidates of one user. */
function soleUser(users: number | undefined, samples: number | undefined): Int32Array {
  if (users !== undefined && users !== 1)
    fail(
      'TENSOR_MISSING',
      'users',
      `there are ${users} users, and nothing says how many candidates each has`,
    );
  if (samples === undefined) fail('TENSOR_MISSING', 'users', 'nothing says how many candidates there are');
  return Int32Array.of(samples);
}

function sizeOf(
  { dense, denseByName, lookups, keyed, prefix }: RequestPart,
  features: number,
): number | undefined {
  const [first] = denseByName;
  const size = dense?.rows ?? first?.[1].length;
  for (const [name, { length }] of denseByName) {
    if (length === size) continue;
    const tensor = `${prefix}dense.${name}`;
    fail('TENSOR_SHAPE', tensor, `${tensor} has ${length} values, ${prefix}dense.${first?.[0]} has ${size}`);
  }
  if (size !== undefined) return size;
  if (keyed !== undefined) {
    const keys = keyCount(keyed, features);
    return keys === 0 ? undefined : keyed.lengths.length / keys;
  }
  return lookups.map(({ bounds }) => bagCount(bounds)).find((bags) => bags !== undefined);
}

/**
 * [U + 1] of counts [U] or starts [U + 1]; where U is not known otherwise, they are counts.
 * @throws RequestError USERS_INVALID.
 */
export function userStarts(users: IndexArray, userCount = users.length): Int32Array {
  const counts = users.length === userCount;
  if (!counts && users.length !== userCount + 1) {
    const message = `users has ${users.length} entries for ${userCount} users; expected ${userCount} or ${userCount + 1}`;
    fail('USERS_INVALID', 'users', message);
  }
  const starts = new Int32Array(userCount + 1);
  let end = 0;
  users.forEach((entry: number | bigint, u: number) => {
    const given = Number(entry);
    const next = counts ? end + given : given;
    if (!counts && u === 0 && given !== 0) fail('USERS_INVALID', 'users', `users[0] = ${entry}, must be 0`);
    if (next < end)
      fail(
        'USERS_INVALID',
        'users',
        `users[${u}] = ${entry} is ${counts ? 'negative' : 'less than the start before'}`,
      );
    if (next > MAX_SAMPLES)
      fail('USERS_INVALID', 'users', `users[${u}] = ${entry} is past ${MAX_SAMPLES} samples`);
    starts[counts ? u + 1 : u] = next;
    end = next;
  });
  return starts;
}

/** [batchSize]: the user of each sample. */
export function usersOfSamples(users: Int32Array): Int32Array {
  const userOf = new Int32Array(users.at(-1) ?? 0);
  for (let u = 0; u + 1 < users.length; u++) userOf.fill(u, users[u], users[u + 1]);
  return userOf;
}

/** A size that the samples have data for: nothing is made for samples that a small file only claims. */
function backed(size: number, { dense, denseByName, lookups, keyed }: RequestPart): number {
  const lengths = [
    dense?.data.length ?? 0,
    keyed?.lengths.length ?? 0,
    ...[...denseByName.values()].map(({ length }) => length),
    ...lookups.map(({ values, bounds }) => Math.max(values.length, boundCount(bounds))),
  ];
  if (lengths.some((length) => length >= size)) return size;
  return fail('TENSOR_SHAPE', 'dense', `there are ${size} samples, and no tensor has that many elements`);
}

function fail(code: RequestErrorCode, tensor: string, message: string): never {
  throw new RequestError(code, message, { tensor });
}
