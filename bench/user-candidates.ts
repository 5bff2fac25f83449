/**
 * One user with many candidates, whose bags are pooled once, against the request that repeats them for each candidate:
 * `npx tsx bench/user-candidates.ts [--device cpu] [--threads 2] [--pattern random] [--rows 200000] [--dim 64] [--candidates 500] [--user-tables 13]
 * [--user-bag 50] [--candidate-bag 50] [--json FILE]`. Both requests must give the same probabilities, bit for bit; then they are
 * timed in turns: pooled once, repeated, and repeated with the time that it takes to repeat the user's bags.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { timing } from '../src/bench/statistics.ts';
import { syntheticTables } from '../src/bench/synthetic-model.ts';
import {
  type Bags,
  type CandidatePart,
  DlrmModel,
  type DlrmRequest,
  type LinearLayer,
  openBackend,
  type UserPart,
} from '../src/index.ts';
import { accessPattern } from '../src/workload/access-patterns.ts';
import { createRandom } from '../src/workload/random.ts';
import { syntheticBags } from '../src/workload/synthetic.ts';

const TABLES = 26;

const DENSE = { user: 7, candidate: 6 } as const;
const WARM_ROUNDS = 5;
const ROUNDS = 41;
/** Requests in rotation, so that one does not find the rows of its last round in cache. */
const REQUESTS = 4;

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    threads: { type: 'string', default: '2' },
    pattern: { type: 'string', default: 'random' },
    candidates: { type: 'string', default: '500' },
    rows: { type: 'string', default: '200000' },
    dim: { type: 'string', default: '64' },
    'user-tables': { type: 'string', default: String(TABLES / 2) },
    'user-bag': { type: 'string', default: '50' },
    'candidate-bag': { type: 'string', default: '50' },
    json: { type: 'string' },
  },
});
const candidates = Number(values.candidates);
const userTables = Number(values['user-tables']);
const random = createRandom(1);
const noise = (length: number, scale = 1) =>
  Float32Array.from({ length }, () => (2 * random.float() - 1) * scale);

function layers(name: string, widths: readonly number[], last: LinearLayer['activation']): LinearLayer[] {
  return widths.slice(1).map((outputs, i): LinearLayer => {
    const inputs = widths[i] as number;
    const weight = noise(outputs * inputs, Math.sqrt(6 / inputs));
    return {
      name: `${name}.${i}`,
      weight: { dtype: 'float32', shape: [outputs, inputs], data: weight },
      bias: { dtype: 'float32', shape: [outputs], data: new Float32Array(outputs) },
      inputs,
      outputs,
      activation: i === widths.length - 2 ? last : 'relu',
    };
  });
}

const denseFeatures = DENSE.user + DENSE.candidate;
const pairs = (TABLES * (TABLES + 1)) / 2;
const shape = {
  tables: TABLES,
  rows: Number(values.rows),
  dim: Number(values.dim),
  rowFormat: 'float32',
} as const;
const tables = syntheticTables(shape);
const { backend } = openBackend({ device: values.device, threads: Number(values.threads) });
await using model = await DlrmModel.create(
  backend,
  {
    naming: 'synthetic',
    denseFeatures,
    tables,
    bottom: layers('bottom', [denseFeatures, 64, shape.dim], 'relu'),
    interaction: { kind: 'dot', diagonal: false, order: 'lower' },
    top: layers('top', [shape.dim + pairs, 64, 1], 'sigmoid'),
  },
  { closesBackend: true },
);

interface Pair {
  readonly user: UserPart;
  readonly candidates: CandidatePart;
  readonly repeated: DlrmRequest;
  /** The user's bags, once for each candidate, made anew. */
  repeat(): readonly Bags[];
}

function bagsFor(
  chosen: typeof tables,
  batchSize: number,
  bagLengths: string,
  seed: number,
): readonly Bags[] {
  const options = { pattern: accessPattern(values.pattern), bagLengths, batches: 1 };
  const [batch] = syntheticBags({ ...options, tables: chosen, batchSize, seed });
  return batch?.bags ?? [];
}

/** A bag, once for each candidate. */
function repeat({ indices }: Bags): Bags {
  const all = new BigInt64Array(candidates * indices.length);
  const offsets = new BigInt64Array(candidates);
  for (let b = 0; b < candidates; b++) {
    all.set(indices as BigInt64Array, b * indices.length);
    offsets[b] = BigInt(b * indices.length);
  }
  return { indices: all, offsets };
}

function makePair(seed: number): Pair {
  const ofUser = bagsFor(tables.slice(0, userTables), 1, values['user-bag'], seed);
  const own = bagsFor(tables.slice(userTables), candidates, values['candidate-bag'], seed + 1);
  const repeatUser = () => ofUser.map(repeat);
  const [userDense, ownDense] = [noise(DENSE.user), noise(candidates * DENSE.candidate)];
  const dense = new Float32Array(candidates * denseFeatures);
  for (let b = 0; b < candidates; b++) {
    dense.set(userDense, b * denseFeatures);
    const of = ownDense.subarray(b * DENSE.candidate, (b + 1) * DENSE.candidate);
    dense.set(of, b * denseFeatures + DENSE.user);
  }
  return {
    user: { dense: userDense, bags: ofUser },
    candidates: {
      batchSize: candidates,
      dense: ownDense,
      denseFeatures: DENSE.candidate,
      bags: [...ofUser.map(() => undefined), ...own],
    },
    repeated: { batchSize: candidates, dense, denseFeatures, bags: [...repeatUser(), ...own] },
    repeat: repeatUser,
  };
}

const all = Array.from({ length: REQUESTS }, (_, i) => makePair(100 + 2 * i));
for (const { user, candidates: own, repeated } of all) {
  const [once, often] = [await model.score(user, own), await model.predict(repeated)];
  assert.deepEqual(once.probabilities, often.probabilities, 'the probabilities differ');
}

const samples = { once: [] as number[], often: [] as number[], made: [] as number[] };
for (let round = -WARM_ROUNDS; round < ROUNDS; round++) {
  // Not the request that was just scored: its candidates' rows would be in cache for the second of the two only.
  const at = round + WARM_ROUNDS;
  const { user, candidates: own } = all[at % REQUESTS] as Pair;
  const { repeated, repeat: make } = all[(at + REQUESTS / 2) % REQUESTS] as Pair;
  const began = performance.now();
  await model.score(user, own);
  const between = performance.now();
  await model.predict(repeated);
  const ended = performance.now();
  make();
  const made = performance.now() - ended;
  if (round < 0) continue;
  samples.once.push(between - began);
  samples.often.push(ended - between);
  samples.made.push(ended - between + made);
}

const [once, often, made] = [timing(samples.once), timing(samples.often), timing(samples.made)];
const result = {
  createdAt: new Date().toISOString(),
  device: model.device,
  plan: model.plan,
  shape: {
    ...shape,
    userTables,
    userBag: values['user-bag'],
    candidateBag: values['candidate-bag'],
    candidates,
    pattern: values.pattern,
  },
  once,
  repeated: often,
  madeAndRepeated: made,
  speedup: often.medianMs / once.medianMs,
};
for (const [name, { medianMs, p10Ms, p90Ms }] of [
  ['pooled once', once],
  ['repeated', often],
  ['made, repeated', made],
] as const) {
  console.log(`${name.padEnd(15)} ${medianMs.toFixed(2)} ms (${p10Ms.toFixed(2)} to ${p90Ms.toFixed(2)})`);
}
console.log(
  `${result.speedup.toFixed(2)} times as fast as repeated, ${(made.medianMs / once.medianMs).toFixed(2)} with its making`,
);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`);
