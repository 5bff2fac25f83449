/** The kernels of a plan for bags, worked out once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BagKindsCache } from '../../../../src/backend/cuda/embedding/bag-kinds.ts';
import { tableVariant } from '../../../../src/backend/cuda/embedding/plan-kernels.ts';
import { standardBagSource } from '../../../../src/backend/cuda/embedding/standard-source.ts';
import { TableKernels } from '../../../../src/backend/cuda/embedding/table-kernels.ts';
import type { CudaKernel } from '../../../../src/cuda/module.ts';
import { plainPlan, withKernel, withTechniques } from '../../../../src/plan/plan.ts';
import { bagsOf, mixedProblem } from '../../../support/cases.ts';
import { Random } from '../../../support/random.ts';
import { SEED } from '../../../support/seed.ts';

test('kernels for bags are named once for a plan, types of bags and a call, and are those of the plan', async () => {
  const asked: string[] = [];
  const kernels = new TableKernels({
    get({ id }) {
      asked.push(id);
      return Promise.reject<CudaKernel>(new Error('the compiler is busy'));
    },
  });
  const { tables, batch } = mixedProblem(new Random(SEED), 3);
  const cache = new BagKindsCache(tables);
  const kinds = cache.of(batch.bags);
  const others = cache.of(batch.bags.map(() => bagsOf([[0], [], [0]], { offset: 'int32', index: 'int32' })));
  assert.notEqual(kinds, others);
  const plain = withKernel(plainPlan('cuda'), 'standard');
  const plans = [plain, withTechniques(plain, { prefetch: { into: 'l1', distance: 4 } })];
  const calls = [
    { checking: 'none' },
    { checking: 'warn' },
    { checking: 'none', output: 'float16' },
  ] as const;
  const all = plans.flatMap((plan) =>
    [kinds, others].flatMap((own) =>
      calls.map((call) => {
        const found = kernels.get(plan, own, call);
        assert.deepEqual(
          found.map(({ variant }) => variant),
          own.distinct.map((kind) => tableVariant(plan, kind, call)),
        );
        assert.equal(kernels.get(plan, own, { ...call }), found);
        return found;
      }),
    ),
  );
  assert.equal(new Set(all).size, all.length);
  const [first] = kernels.get(plain, kinds, calls[0]);
  assert.ok(first !== undefined);
  // What failed may be tried again.
  for (let i = 0; i < 2; i++) await assert.rejects(first.load(), /busy/);
  assert.deepEqual(asked, Array(2).fill(standardBagSource(first.variant).id));
});
