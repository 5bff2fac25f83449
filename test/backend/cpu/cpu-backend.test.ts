/** What the CPU backend tells and takes, beside the contract's conformance. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix } from '../../../src/backend/backend.ts';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import type { EmbeddingTable } from '../../../src/embedding/bag.ts';
import { plainPlan } from '../../../src/plan/plan.ts';
import { bagsOf } from '../../support/cases.ts';
import { poolOn } from '../../support/run-operators.ts';

const table = (more: Partial<EmbeddingTable> = {}): EmbeddingTable => ({
  ...{ name: 't', rows: 3, dim: 1, rowFormat: 'float32', mode: 'sum' },
  weight: { dtype: 'float32', shape: [3, 1], data: Float32Array.of(1, 10, 100) },
  ...more,
});

test('any row may be padding, the first one too', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const batch = { batchSize: 1, bags: [bagsOf([[0, 1, 2]])] };
  for (const [paddingIdx, expected] of [
    [undefined, 111],
    [0, 110],
    [1, 101],
    [2, 11],
  ] as const) {
    const own = table(paddingIdx === undefined ? {} : { paddingIdx });
    assert.equal((await poolOn(backend, [own], batch)).pooled[0], expected, `${paddingIdx}`);
  }
});

test('findings of all operations of a program are added up', async () => {
  using backend = new CpuBackend({ threads: 1 });
  using tables = await backend.placeTables([table()], plainPlan('cpu'));
  using output = backend.allocate(2);
  const batches = [bagsOf([[0, 3, 7]]), bagsOf([[9, 1]]), bagsOf([[-1, -1, -1]])].map((own) =>
    backend.placeBags(tables, { batchSize: 1, bags: [own] }),
  );
  const { findings } = await backend.run(
    batches.map((bags) => ({
      op: 'embeddingBags' as const,
      ...{ tables, bags, output: matrix(output, 1, 1), checking: 'warn' as const },
    })),
  );
  assert.equal(findings.badIndices, 6);
  assert.equal(findings.first?.details.position, 1);
});

test('a layer keeps the weight and the bias that it was given', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const [weight, bias] = [Float32Array.of(2), Float32Array.of(5)];
  using layer = backend.placeLinear(weight, bias, 1, 1, 'float32');
  for (const array of [weight, bias]) array.fill(1000);
  using buffer = backend.allocate(2);
  const [input, output] = [matrix(buffer, 1, 1), matrix(buffer, 1, 1, 1)];
  const target = new Float32Array(1);
  await backend.run([
    { op: 'upload', source: Float32Array.of(3), output: input },
    { op: 'linear', layer, input, output, activation: 'none' },
    { op: 'download', input: output, target },
  ]);
  assert.equal(target[0], 11);
});

test('a thread that does nothing else runs what takes a moment itself', async () => {
  using backend = new CpuBackend({ threads: 1, ownsThread: true });
  const source = new Float32Array(1 << 18).fill(3);
  using buffer = backend.allocate(source.length);
  const output = matrix(buffer, 1, source.length);
  const target = new Float32Array(source.length);
  const running = backend.run([
    { op: 'upload', source, output },
    { op: 'download', input: output, target },
  ]);
  assert.equal(target.at(-1), 3, 'it is done when the call returns');
  await running;
});
