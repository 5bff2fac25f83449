/**
 * Batching policies compared on simulated engines: `npx tsx bench/batching-policies.ts [--arrivals 20000] [--seed 1] [--json FILE]`.
 * For each: the highest rate at which 99 % of the requests are in time, and the share in time at 130 % load. Nothing is measured: the
 * same seed gives the same numbers everywhere. docs/batching.md shows them.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { createRandom } from '../src/workload/random.ts';
import { type NamedPolicy, POLICIES, product } from './batching/policies.ts';
import {
  batchTimes,
  type Engine,
  inTime,
  type Noise,
  poissonArrivals,
  SAMPLES,
  simulate,
} from './batching/simulate.ts';

const { values: options } = parseArgs({
  options: {
    arrivals: { type: 'string', default: '20000' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const [arrivals, seed] = [Number(options.arrivals), Number(options.seed)];
const IN_TIME = 0.99;
const OVERLOAD = 1.3;

const ENGINES: readonly Engine[] = [
  { name: 'GPU, SLA 2 ms', a: 0.12, b: 0.00014, slaMs: 2, shrinks: false },
  { name: 'GPU, SLA 10 ms', a: 0.12, b: 0.00014, slaMs: 10, shrinks: false },
  { name: 'CPU, SLA 20 ms', a: 0.3, b: 0.008, slaMs: 20, shrinks: true },
];
const NOISE: Noise = { spread: 0.1, slowShare: 0.002, slowBy: 3 };

interface Run extends NamedPolicy {
  readonly noise?: Noise;
}
const PRODUCT: NamedPolicy = { name: '**the Batcher of Hotrow**', make: product };
const RUNS: readonly Run[] = [
  ...POLICIES,
  {
    name: 'the Batcher, shrinking on GPUs and not on CPUs',
    make: (engine) => product({ ...engine, shrinks: !engine.shrinks }),
  },
  PRODUCT,
  ...[...POLICIES, PRODUCT].map((policy) => ({ ...policy, noise: NOISE })),
];

/** The share of requests in time, at a rate in shares of 1 / (270 b). */
function shareInTime(engine: Engine, { make, noise }: Run, rate: number): number {
  const requests = poissonArrivals(engine, rate, arrivals, createRandom(seed));
  return inTime(requests, simulate(requests, make(engine), batchTimes(engine, noise, seed + 1)));
}

/** The highest whole percentage at which a policy keeps its requests in time, searched for by halving: more load is never easier. */
function highestRate(engine: Engine, run: Run): number {
  let [kept, lost] = [0, 101];
  while (lost - kept > 1) {
    const percent = Math.floor((kept + lost) / 2);
    if (shareInTime(engine, run, percent / 100) >= IN_TIME) kept = percent;
    else lost = percent;
  }
  return kept;
}

const rows = RUNS.map((run) => {
  const engines = ENGINES.map((engine) => ({
    engine: engine.name,
    ratePercent: highestRate(engine, run),
    inTimePercentAtOverload: Number((100 * shareInTime(engine, run, OVERLOAD)).toFixed(1)),
  }));
  const cells = engines.map((cell) => `${cell.ratePercent} %, ${cell.inTimePercentAtOverload.toFixed(0)} %`);
  console.log(`| ${run.name}${run.noise === undefined ? '' : ', with noise'} | ${cells.join(' | ')} |`);
  return { policy: run.name, hasNoise: run.noise !== undefined, engines };
});
const result = {
  protocol: `${arrivals} Poisson arrivals of ${SAMPLES} samples, seed ${seed}; rates in % of 1 / (${SAMPLES} b); ratePercent: the highest at which ${100 * IN_TIME} % are in time; overload: ${100 * OVERLOAD} %`,
  engines: ENGINES,
  noise: NOISE,
  rows,
};
if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(result, null, 2)}\n`);
