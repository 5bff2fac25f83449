/** The CPU backend, with every instruction set that this processor has and several thread counts. */
import { describe, test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { bestIsa, ISA, type Isa } from '../../src/ffi/thread-pool.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { plainPlan, planLabel, withTechniques } from '../../src/plan/plan.ts';
import { mixedProblem } from '../support/cases.ts';
import { assertSameBits } from '../support/compare.ts';
import { INTERACTIONS, smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { dotInteractionOn, linearOn, poolOn } from '../support/run-operators.ts';
import { CASE_GROUPS, type CaseGroup } from './subject.ts';
import { conformance, conformanceSkipped } from './suite.ts';

/** Of a library that was built by another compiler, what the compilers may differ in does not depend on threads. */
const THREADS = process.env.HOTROW_CPU_LIBRARY === undefined ? [1, 2, 5] : [2];
/** A share of the random problems for each, which compute alike; cpu.test.ts has as many for one. */
const SHARE = { propertyRuns: 50, faultPlaces: 6, rowUpdateCalls: 100 };
const ALL_ISAS = Object.keys(ISA) as Isa[];
const isas = ALL_ISAS.filter((isa) => ISA[isa] <= ISA[bestIsa()]);

/**
 * Whether an instruction set and a thread count meet in a group of cases: every two of the three meet somewhere, so that each group
 * runs with each instruction set and with each thread count. That no instruction set's results depend on the count is tested below.
 */
function meet(isa: Isa, threads: number, group: CaseGroup): boolean {
  const rounds = Math.max(isas.length, THREADS.length);
  return Array.from({ length: rounds }, (_, round) => round).some((round) => {
    const place = round + CASE_GROUPS.indexOf(group);
    return isas[round % isas.length] === isa && THREADS[place % THREADS.length] === threads;
  });
}

for (const isa of ALL_ISAS) {
  for (const threads of THREADS) {
    const name = `cpu, ${isa}, threads ${threads}`;
    const groups = CASE_GROUPS.filter((group) => meet(isa, threads, group));
    if (isas.includes(isa)) conformance(name, () => new CpuBackend({ isa, threads }), { ...SHARE, groups });
    else conformanceSkipped(name, `this processor lacks ${isa}`);
  }
}

describe('cpu: the same bits', () => {
  /** `work` on every thread count and each of `group`: the bits of the first. */
  async function assertSame(
    group: readonly Isa[],
    what: string,
    work: (backend: CpuBackend) => Promise<Float32Array>,
  ): Promise<void> {
    let first: Float32Array | undefined;
    for (const isa of group) {
      for (const threads of THREADS) {
        using backend = new CpuBackend({ isa, threads });
        const result = await work(backend);
        first ??= result;
        assertSameBits(result, first, `${what}: ${isa}, threads ${threads}`);
      }
    }
  }

  const threaded = (backend: CpuBackend) =>
    withTechniques(plainPlan('cpu'), { threads: { count: backend.device.threads } });

  test('unweighted embedding bags, whatever the instruction set and thread count', async () => {
    const { tables, batch } = mixedProblem(new Random(91), 300, 20, false);
    await assertSame(isas, 'unweighted', async (backend) => {
      return (await poolOn(backend, tables, batch, { plan: threaded(backend) })).pooled;
    });
  });

  for (const isa of isas) {
    test(`weighted bags, dense operators and models on ${isa}, whatever the thread count`, async () => {
      const { tables, batch } = mixedProblem(new Random(92), 300, 20);
      await assertSame([isa], 'weighted bags', async (backend) => {
        return (await poolOn(backend, tables, batch, { plan: threaded(backend) })).pooled;
      });
      const random = new Random(93);
      for (const [samples, inputs, outputs] of [
        [257, 300, 130],
        [1, 3000, 600],
        [600, 700, 1],
      ] as const) {
        const linear = {
          batch: samples,
          inputs,
          outputs,
          input: random.reals(samples * inputs),
          weight: random.reals(outputs * inputs),
          bias: random.reals(outputs),
          activation: 'sigmoid' as const,
        };
        await assertSame([isa], `linear ${inputs} → ${outputs}`, (backend) => linearOn(backend, linear));
      }
      const dot = { batch: 70, features: 27, dim: 64, input: random.reals(70 * 27 * 64) };
      await assertSame([isa], 'dot interaction', (backend) =>
        dotInteractionOn(backend, { ...dot, diagonal: false, order: 'lower' }),
      );
      for (const kind of INTERACTIONS) {
        const architecture = smallModel(new Random(94), kind);
        const request = smallRequest(new Random(95), architecture, 700);
        await assertSame([isa], `model with ${kind}`, async (backend) => {
          await using model = await DlrmModel.create(backend, architecture);
          return (await model.predict(request)).probabilities;
        });
      }
    });

    test(`every prefetch distance and level on ${isa}`, async () => {
      const { tables, batch } = mixedProblem(new Random(96), 40, 12);
      using backend = new CpuBackend({ isa, threads: 2 });
      const plain = await poolOn(backend, tables, batch);
      // Each level and each distance on one thread and on two.
      for (const [l, level] of (['L1', 'L2', 'L3', 'NTA'] as const).entries()) {
        for (const [d, distance] of [1, 2, 3, 7, 8, 31, 64].entries()) {
          const plan = withTechniques(plainPlan('cpu'), {
            prefetch: { distance, level },
            threads: { count: 1 + ((l + d) % 2) },
          });
          const { pooled } = await poolOn(backend, tables, batch, { plan });
          assertSameBits(pooled, plain.pooled, planLabel(plan));
        }
      }
    });
  }
});
