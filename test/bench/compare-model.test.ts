/** What the whole model's benchmark makes of times: on a GPU that is the reference, with a clock of its own. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { BoundOperation, RunReport } from '../../src/backend/backend.ts';
import { compareModel } from '../../src/bench/compare-model.ts';
import { measureModel } from '../../src/bench/measure-model.ts';
import type { ModelRow } from '../../src/bench/results.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { type Plan, plainPlan, planLabel, withTechniques } from '../../src/plan/plan.ts';
import { countParts } from '../support/counted-parts.ts';
import { smallModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

const architecture = smallModel(new Random(1), 'dot-lower');
const shape = { architecture, batchSize: 4, bagLengths: '2', batches: 2, seed: 1 };
const PLAIN = plainPlan('cuda');
const PREFETCHED = withTechniques(PLAIN, { prefetch: { into: 'registers', distance: 6 } });
const ceilings = { readBytesPerSecond: 1e9, multiplyAddsPerSecond: 1e9, hostCopyBytesPerSecond: 2e9 };

/** Ms of a batch under the plain plan, and under the others; of inputs from the host, more. */
const PLAIN_MS = 8;
const OTHER_MS = 2;
const UPLOAD_MS = 24;
/** By stage, whatever the run. */
const STAGES = { embeddingMs: 5, bottomMs: 2, interactionMs: 3, topMs: 4, copyMs: 1 } as const;

/** Its runs advance the clock, and nothing else does. */
class ClockedGpu extends ReferenceGpu {
  clockMs = 0;
  /** Runs that came first take so many times longer. */
  slowRuns = 0;

  constructor(t: TestContext) {
    super();
    t.mock.method(performance, 'now', () => this.clockMs);
  }

  protected override async runBound(operations: readonly BoundOperation[]): Promise<RunReport> {
    const report = await super.runBound(operations);
    const lookups = operations.find((operation) => operation.op === 'embeddingBags');
    if (lookups === undefined) return report;
    const fromHost = operations.some(({ op }) => op === 'upload');
    const ms =
      (planLabel(lookups.tables.plan) === planLabel(PLAIN) ? PLAIN_MS : OTHER_MS) +
      (fromHost ? UPLOAD_MS : 0);
    this.clockMs += this.slowRuns-- > 0 ? 1000 * ms : ms;
    const stages = Object.entries(STAGES).map(([stage, own]) => [stage, own / 1e3]);
    return { ...report, stages: Object.fromEntries(stages) };
  }
}

const keyOf = ({ pattern, inputs }: Pick<ModelRow, 'pattern' | 'inputs'>) => `${pattern}, ${inputs}`;

test('speedups are over the plain kernel on the same pattern, with inputs in the same place', async (t) => {
  using gpu = new ClockedGpu(t);
  const { rows } = await compareModel({
    backend: gpu,
    architecture,
    workloads: (['one_item', 'random'] as const).map((name) => patternWorkload(name, shape)),
    precision: 'float32',
    rounds: 3,
    ceilings,
    given: PREFETCHED,
    best: new Map<string, Plan>(),
    peers: false,
    notes: [],
    progress: () => {},
    stop: () => false,
  });
  assert.deepEqual(
    rows.map((row) => `${row.role}: ${keyOf(row)}`),
    ['plain', 'given'].flatMap((role) =>
      ['one_item', 'random'].flatMap((pattern) =>
        ['device', 'pinned', 'host'].map((inputs) => `${role}: ${pattern}, ${inputs}`),
      ),
    ),
  );
  for (const { role, inputs, speedup } of rows) {
    const other = inputs === 'device' ? PLAIN_MS / OTHER_MS : (PLAIN_MS + UPLOAD_MS) / (OTHER_MS + UPLOAD_MS);
    assert.equal(speedup, role === 'plain' ? 1 : other, `${role}, ${inputs}`);
  }
});

test('rows say what the clock and the stages said, warm-up left out, and all is given back', async (t) => {
  using gpu = new ClockedGpu(t);
  // The first row's runs to warm up, and what places its requests.
  gpu.slowRuns = 12;
  const live = countParts(gpu);
  const workload = patternWorkload('random', shape).model;
  const rounds = 2;
  const options = { backend: gpu, architecture, plan: PLAIN, rounds, ceilings };
  const rows = await measureModel({ ...options, workloads: [workload] });
  assert.deepEqual(
    rows.map(({ inputs, inFlight }) => [inputs, inFlight]),
    [
      ['device', 2],
      ['pinned', 3],
      ['host', 3],
    ],
  );
  const [first] = workload.requests;
  assert.ok(first !== undefined);
  const bytes = first.bags.reduce(
    (sum, { indices, offsets }) => sum + indices.byteLength + offsets.byteLength,
    first.dense.byteLength,
  );
  for (const row of rows) {
    const ms = row.inputs === 'device' ? PLAIN_MS : PLAIN_MS + UPLOAD_MS;
    assert.deepEqual([row.timing.rounds, row.timing.minMs, row.timing.maxMs], [rounds, ms, ms]);
    // Here those that are under way when the clock starts are done already.
    const batchMs = (rounds * ms) / (rounds + (row.inFlight as number) - 1);
    assert.equal(row.batchMs, batchMs);
    assert.equal(row.samplesPerSecond, (4 / batchMs) * 1e3);
    const { embeddingMs, bottomMs, interactionMs, topMs, copyMs, hostMs } = row;
    assert.deepEqual({ embeddingMs, bottomMs, interactionMs, topMs, copyMs }, STAGES);
    const all = [embeddingMs, bottomMs, interactionMs, topMs, copyMs, hostMs].map((stage) => stage ?? 0);
    assert.equal(row.embeddingShare, STAGES.embeddingMs / all.reduce((sum, stage) => sum + stage, 0));
    if (row.inputs === 'device') assert.equal(row.inputGigabytesPerSecond, undefined);
    else {
      const rate = bytes / (batchMs / 1e3);
      assert.equal(row.inputGigabytesPerSecond, rate / 1e9);
      assert.equal(row.inputLimitShare, rate / ceilings.hostCopyBytesPerSecond);
    }
  }
  assert.deepEqual(live(), {}, 'what is left');
});
