/**
 * Linear layers against the processor's own ceiling, in one run: `npx tsx bench/dense.ts [--threads N] [--json FILE]`.
 * Share = multiply-adds per second of the layer over those of a loop that touches registers only; rounds of ceiling and
 * layers take turns.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { matrix } from '../src/backend/backend.ts';
import { openDevice } from '../src/backend/open-backend.ts';
import { timing } from '../src/bench/statistics.ts';
import { median } from '../src/tuner/quantile.ts';
import { createRandom } from '../src/workload/random.ts';

const INPUTS = 1024;
const OUTPUTS = 512;
const BATCHES = [2048, 256, 32, 1];
const ROUNDS = 21;

const { values } = parseArgs({ options: { threads: { type: 'string' }, json: { type: 'string' } } });
const { backend } = openDevice({
  device: 'cpu',
  ...(values.threads ? { threads: Number(values.threads) } : {}),
});
using _ = backend;

const random = createRandom(1);
const noise = (length: number) => Float32Array.from({ length }, () => 2 * random.float() - 1);
using layer = backend.placeLinear(noise(OUTPUTS * INPUTS), noise(OUTPUTS), OUTPUTS, INPUTS, 'float32');

const cases = BATCHES.map((batch) => {
  const input = matrix(backend.allocate(batch * INPUTS), batch, INPUTS);
  const output = matrix(backend.allocate(batch * OUTPUTS), batch, OUTPUTS);
  return { batch, source: noise(batch * INPUTS), input, output, samplesMs: [] as number[] };
});
for (const { source, input } of cases) await backend.run([{ op: 'upload', source, output: input }]);

const ceilings: number[] = [];
for (let round = -2; round < ROUNDS; round++) {
  const { multiplyAddsPerSecond } = await backend.measureCeilings();
  if (round >= 0) ceilings.push(multiplyAddsPerSecond);
  for (const { input, output, samplesMs } of cases) {
    const { seconds } = await backend.run([{ op: 'linear', layer, input, output, activation: 'relu' }]);
    if (round >= 0) samplesMs.push((seconds[0] as number) * 1e3);
  }
}

const ceiling = median(ceilings);
const rows = cases.map(({ batch, samplesMs }) => {
  const rate = (batch * INPUTS * OUTPUTS) / (median(samplesMs) / 1e3);
  return {
    operator: 'linear + bias + relu, float32',
    shape: `${batch} × ${INPUTS} × ${OUTPUTS}`,
    timing: timing(samplesMs),
    multiplyAddsPerSecond: rate,
    shareOfCeiling: rate / ceiling,
  };
});
for (const { shape, timing: t, multiplyAddsPerSecond, shareOfCeiling } of rows) {
  const figures = `${t.medianMs.toFixed(3)} ms  ${(multiplyAddsPerSecond / 1e9).toFixed(1)} G multiply-adds/s`;
  console.log(`${shape.padEnd(20)} ${figures}  ${(100 * shareOfCeiling).toFixed(1)} % of the ceiling`);
}
console.log(`ceiling              ${(ceiling / 1e9).toFixed(1)} G multiply-adds/s`);
if (values.json !== undefined) {
  const results = {
    createdAt: new Date().toISOString(),
    device: backend.device,
    ceilingMultiplyAddsPerSecond: ceiling,
    rows,
  };
  await writeFile(values.json, `${JSON.stringify(results, null, 2)}\n`);
}
