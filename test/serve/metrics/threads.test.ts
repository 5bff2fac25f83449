/** Blocks that another thread writes while this one reads. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { MetricsBlock, seriesOf } from '../../../src/serve/metrics/metrics-block.ts';
import { MetricsRegistry } from '../../../src/serve/metrics/registry.ts';

const MODEL = { model: 'm' };
const COUNT = 300_000;

/** Numbers whose halves differ: a torn one would be neither. */
const WHOLE = [-1.234567890123e-300, 9.876543210987e300];

test('numbers that another thread writes are read whole, and all of them in the end', async () => {
  const numbers = new Float64Array(new SharedArrayBuffer(16));
  const block = MetricsBlock.of([seriesOf('samples', MODEL), seriesOf('batchSamples', MODEL)]);
  const registry = new MetricsRegistry();
  registry.add(block.shared);
  numbers[0] = WHOLE[0] as number;
  // As Counter and Histogram write: plain stores.
  const worker = new Worker(
    `const { workerData: { numbers, whole, buffer, count }, parentPort } = require('node:worker_threads');
    const values = new Float64Array(buffer);
    for (let i = 0; i < count; i++) {
      numbers[0] = whole[i % 2];
      values[0] += 1;
      values[1] += 1;
      values[values.length - 1] += 1;
    }
    numbers[1] = 1;
    parentPort.postMessage('done');`,
    { eval: true, workerData: { numbers, whole: WHOLE, buffer: block.shared.buffer, count: COUNT } },
  );
  const done = once(worker, 'message');
  let before = 0;
  let ended = false;
  void done.then(() => {
    ended = true;
  });
  while (!ended) {
    for (let i = 0; i < 1000; i++) assert.ok(WHOLE.includes(numbers[0] as number));
    const [samples, sizes] = registry.read();
    const count = samples?.values[0] as number;
    assert.ok(count >= before, 'counts grow');
    assert.ok(Number.isInteger(count) && Number.isInteger(sizes?.values[0]));
    before = count;
    await new Promise((resolve) => setImmediate(resolve));
  }
  const [samples, sizes] = registry.read();
  assert.equal(samples?.values[0], COUNT);
  assert.equal(sizes?.values[0], COUNT);
  assert.equal(sizes?.values.at(-1), COUNT);
  await worker.terminate();
});
