/** Requests that every transport must answer alike: what they say, as named tensors, and what the models themselves give. */
import assert from 'node:assert/strict';
import type { Bags } from '../../src/embedding/bag.ts';
import type { DlrmModel } from '../../src/model/dlrm.ts';
import { requestByFeature } from '../../src/model/request/request-by-feature.ts';
import type { SentTensors } from './infer-bodies.ts';
import { Random } from './random.ts';
import { lengthsOf, NAMES, type Said, startsOf, weightOf } from './request-forms.ts';
import { f32, i32, i64, type Tensors } from './request-tensors.ts';
import { SEED } from './seed.ts';
import { saidBy } from './served.ts';

/** What the model of rows gives. */
export async function scores(rows: DlrmModel, { dense, bags, weighted }: Said): Promise<number[]> {
  const own = bags.map((own): Bags => {
    const indices = Int32Array.from(own.flat());
    const weights = weighted ? { weights: Float32Array.from(indices, weightOf) } : {};
    return { indices, offsets: Int32Array.from(startsOf(own)), ...weights };
  });
  const request = {
    batchSize: dense.length,
    dense: Float32Array.from(dense.flat()),
    denseFeatures: 2,
    bags: own,
  };
  return [...(await rows.predict(request)).probabilities];
}

/** Dense features, values and lengths in one piece. */
export const inOnePiece = ({ dense, bags }: Said): Tensors => ({
  dense: f32([dense.length, 2], dense.flat()),
  values: i32([bags.flat(2).length], bags.flat(2)),
  lengths: i32([NAMES.length, dense.length], bags.flatMap(lengthsOf)),
});

/** Users and their candidates: the first features, and the first number, are the users'. */
export function usersAndCandidates() {
  const random = new Random(SEED + 1);
  const users = [2, 1, 3];
  const [samples, count] = [6, users.length];
  const of = users.flatMap((candidates, u) => new Array<number>(candidates).fill(u));
  const candidates = saidBy(random, samples);
  const shared = saidBy(random, count);
  const perUser = 2;
  const said: Said = {
    dense: candidates.dense.map(([, y], b) => [shared.dense[of[b] as number]?.[0] as number, y as number]),
    bags: candidates.bags.map((own, t) =>
      t < perUser ? of.map((u) => shared.bags[t]?.[u] as number[]) : own,
    ),
    weighted: false,
  };
  const userBags = shared.bags.slice(0, perUser);
  const ownBags = candidates.bags.slice(perUser);
  /** `counts`: of candidates by user, or where they begin. */
  const tensors = (counts: number[]): Tensors => ({
    'user.dense': f32(
      [count, 1],
      shared.dense.map(([x]) => x as number),
    ),
    dense: f32(
      [samples, 1],
      candidates.dense.map(([, y]) => y as number),
    ),
    users: i32([counts.length], counts),
    'user.values': i64([userBags.flat(2).length], userBags.flat(2)),
    'user.lengths': i32([perUser, count], userBags.flatMap(lengthsOf)),
    values: i32([ownBags.flat(2).length], ownBags.flat(2)),
    lengths: i32([NAMES.length - perUser, samples], ownBags.flatMap(lengthsOf)),
  });
  const order = { 'user.features': NAMES.slice(0, perUser), features: NAMES.slice(perUser) };
  return { said, tensors, counts: [users, [0, 2, 3, 6]], order, candidates, shared, perUser };
}

/** For the model of ids: rows, hashed ids and strings. */
export const ids = {
  big: [2n ** 60n + 1n, -5n, 3n, 4n],
  cities: ['Rom', '東京', 'Atlantis', 'Bonn'],
  lengths: [2, 0, 2],
  raw: [
    [3, 4.5, -1],
    [0, 7, 2],
  ],
} as const;

export const idsTensors: SentTensors = {
  'dense.x': f32([3], [...ids.raw[0]]),
  'dense.y': f32([3], [...ids.raw[1]]),
  'values.ads': i32([3, 1], [1, 5, 0]),
  'values.person': i64([4], [...ids.big]),
  'lengths.person': i32([3], [...ids.lengths]),
  'values.city': { shape: [4], strings: ids.cities },
  'lengths.city': i64([3], [...ids.lengths]),
};

/** What the model of ids gives for `idsTensors`. */
export async function idsOutputs(model: DlrmModel): Promise<{ probability: number[]; logit: number[] }> {
  const { inputs } = model.architecture;
  assert.ok(inputs !== undefined);
  const request = await requestByFeature(inputs, {
    dense: { x: Float32Array.from(ids.raw[0]), y: Float32Array.from(ids.raw[1]) },
    features: {
      ads: { values: [1, 5, 0] },
      person: { values: BigInt64Array.from(ids.big), lengths: ids.lengths },
      city: { values: ids.cities, lengths: ids.lengths },
    },
  });
  const { probabilities, logits } = await model.predict(request);
  return { probability: [...probabilities], logit: [...(logits as Float32Array)] };
}

/** Tensors that are wrong for the model of rows, three samples, and the code of what is wrong. */
export function wrongTensors(good: Tensors): [string, SentTensors, string][] {
  const change = (changed: object) => ({ ...good, ...changed });
  const zeros = (count: number) => new Array<number>(count).fill(0);
  return [
    [
      'an index out of range',
      change({ values: i32([3], [0, 6, 0]), lengths: i32([5, 3], [1, 1, 1, ...zeros(12)]) }),
      'INDEX_OUT_OF_RANGE',
    ],
    [
      'a negative index',
      change({ values: i32([1], [-1]), lengths: i32([5, 3], [1, ...zeros(14)]) }),
      'INDEX_OUT_OF_RANGE',
    ],
    [
      'lengths that do not add up',
      change({ lengths: i32([5, 3], new Array(15).fill(7)) }),
      'LENGTHS_INVALID',
    ],
    [
      'a negative length',
      change({ lengths: i32([5, 3], [-1, 1, ...zeros(13)]), values: i32([0]) }),
      'LENGTHS_INVALID',
    ],
    ['a dtype', change({ values: f32([2], [1, 2]) }), 'TENSOR_DTYPE'],
    ['a shape', change({ dense: f32([2, 3]) }), 'TENSOR_SHAPE'],
    ['another number of samples', change({ dense: f32([2, 2]) }), 'TENSOR_SHAPE'],
    ['an unknown tensor', change({ other: f32([1], [1]) }), 'TENSOR_UNEXPECTED'],
    ['a missing tensor', { dense: good.dense as never }, 'TABLE_MISSING'],
    [
      'samples that are only claimed',
      { dense: f32([2 ** 30, 0]), values: i32([0]), lengths: i32([0]) },
      'TENSOR_SHAPE',
    ],
  ];
}
