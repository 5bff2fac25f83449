/**
 * A preset's model with batches side by side: `node --import tsx bench/cuda-kernels/streams.ts OUT.json [FLAGS]`. For each number
 * of sets of streams, each priority and each switch the throughput of four placed batches in flight, every set-up once a round, in
 * turns.
 *
 *   --preset mlperf  --row-format float16  --rows N (at most so many a table)  --tables N
 *   --batches 2048,8192,32768,65536  --sets 1,2,3,4  --first dense,lookups,neither  --patterns med_hot,random
 *   --pooled-copies yes (whether lookups write 8 bits too for layers that read them)
 *   --copies-alone yes (whether layers write what is read in 8 bits alone in them alone)
 *   --weight-scales tensor (all outputs of a layer in 8 bits have one scale, and products can leave outputs in 8 bits; output: each its own)
 *   --precision float16 (float8_e4m3: scales from the first batch)  --rounds 2  --predictions 60
 */
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { openDevice } from '../../src/backend/open-backend.ts';
import type { WeightScales } from '../../src/backend/scaled-weight.ts';
import { eightBitModel, type MeasuredModel } from '../../src/bench/eight-bit-model.ts';
import { measureModel } from '../../src/bench/measure-model.ts';
import { PRESETS } from '../../src/bench/presets.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import type { DensePrecision } from '../../src/device.ts';
import type { RowFormat } from '../../src/embedding/bag.ts';
import { choosePlan } from '../../src/plan/saved-plans.ts';
import { quantile } from '../../src/tuner/quantile.ts';
import type { AccessPatternName } from '../../src/workload/access-patterns.ts';

const text = (value: string) => ({ type: 'string', default: value }) as const;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    preset: text('mlperf'),
    'row-format': text('float16'),
    rows: { type: 'string' },
    tables: { type: 'string' },
    batches: text('2048,8192,32768,65536'),
    sets: text('1,2,3,4'),
    first: text('dense,lookups,neither'),
    patterns: text('med_hot,random'),
    'pooled-copies': text('yes'),
    'copies-alone': text('yes'),
    'weight-scales': text('tensor'),
    precision: text('float16'),
    rounds: text('2'),
    predictions: text('60'),
    device: text('cuda'),
  },
});
const [out] = positionals;
if (out === undefined) throw new Error('name a file for the results');

const preset = PRESETS[values.preset as keyof typeof PRESETS];
const shape = {
  rowFormat: values['row-format'] as RowFormat,
  ...(values.rows === undefined ? {} : { rows: Number(values.rows) }),
  ...(values.tables === undefined ? {} : { tables: Number(values.tables) }),
};
const architecture = preset.architecture(shape);
const list = (words: string) => words.split(',');
const workloads = list(values.patterns).flatMap((pattern) =>
  list(values.batches).map((batch) => {
    const workload = patternWorkload(pattern as AccessPatternName, {
      architecture,
      batchSize: Number(batch),
      bagLengths: preset.bagLengths(shape),
      batches: preset.batches,
      seed: 1,
      indexType: 'int32',
    });
    return workload.model;
  }),
);

interface Setup {
  readonly sets: number;
  readonly first: 'dense' | 'lookups' | 'neither';
  readonly pooledCopies: boolean;
  readonly copiesAlone: boolean;
  readonly weightScales: WeightScales;
}

interface Sample {
  readonly setup: Setup;
  readonly pattern: string;
  readonly batch: number;
  readonly batchMs: number;
  readonly latencyMs: number;
}

/** Every set-up, by the values of its members. */
function setupsOf(members: { readonly [Member in keyof Setup]: readonly Setup[Member][] }): Setup[] {
  let setups: Partial<Setup>[] = [{}];
  for (const [member, choices] of Object.entries(members))
    setups = setups.flatMap((setup) => choices.map((choice) => ({ ...setup, [member]: choice })));
  return setups as Setup[];
}

const setups = setupsOf({
  sets: list(values.sets).map(Number),
  first: list(values.first) as Setup['first'][],
  pooledCopies: list(values['pooled-copies']).map((word) => word === 'yes'),
  copiesAlone: list(values['copies-alone']).map((word) => word === 'yes'),
  weightScales: list(values['weight-scales']) as WeightScales[],
});
const precision = values.precision as DensePrecision;
const measured = new Map<WeightScales, MeasuredModel>();
for (const weightScales of list(values['weight-scales']) as WeightScales[]) {
  const { backend } = openDevice({ device: values.device });
  using _ = backend;
  const model = await eightBitModel(architecture, workloads, { backend, precision, weightScales });
  measured.set(weightScales, model);
  if (model.scales !== undefined) console.log(`${precision}: ${model.scales}`);
}
const samples: Sample[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  for (const setup of setups) {
    const { sets, first, weightScales, ...switches } = setup;
    const streams = values.device === 'cpu' ? {} : { streams: { sets, first } };
    const { backend } = openDevice({ device: values.device, ...streams, switches });
    using _ = backend;
    const { plan } = await choosePlan(undefined, { device: backend.device, tables: architecture.tables });
    const rows = await measureModel({
      ...{
        backend,
        architecture: measured.get(weightScales)?.architecture ?? architecture,
        plan,
        workloads,
        precision,
        inputs: ['device'],
      },
      rounds: Number(values.predictions),
      ceilings: { readBytesPerSecond: 1, multiplyAddsPerSecond: 1 },
    });
    for (const { pattern, batchSize, batchMs, timing } of rows)
      samples.push({
        setup,
        pattern,
        batch: batchSize,
        batchMs: batchMs as number,
        latencyMs: timing.medianMs,
      });
  }
}

const results = workloads.flatMap(({ pattern, requests }) =>
  setups.map((setup) => {
    const batch = requests[0]?.batchSize as number;
    const own = samples.filter(
      (one) => one.setup === setup && one.pattern === pattern && one.batch === batch,
    );
    const median = (of: (sample: Sample) => number) =>
      quantile(
        own.map(of).sort((a, b) => a - b),
        0.5,
      );
    const batchMs = median((one) => one.batchMs);
    const pairsPerSecond = (batch / batchMs) * 1e3;
    return {
      pattern,
      batch,
      ...setup,
      batchMs,
      latencyMs: median((one) => one.latencyMs),
      pairsPerSecond,
    };
  }),
);
for (const { pattern, batch, sets, first, pooledCopies, copiesAlone, weightScales, ...row } of results)
  console.log(
    [
      `${pattern} ${batch}, ${sets} sets, ${first} first`,
      ...(pooledCopies ? [] : ['no pooled copies']),
      ...(copiesAlone ? [] : ['no copies alone']),
      ...(weightScales === 'tensor' ? [] : ['a scale an output']),
      `${row.batchMs.toFixed(3)} ms in flight, ${row.latencyMs.toFixed(3)} alone`,
      `${(row.pairsPerSecond / 1e6).toFixed(2)} M pairs/s`,
    ].join(', '),
  );
const command = [
  'node --import tsx bench/cuda-kernels/streams.ts',
  basename(out),
  ...process.argv.slice(3),
].join(' ');
writeFileSync(out, `${JSON.stringify({ command, results }, null, 2)}\n`);
