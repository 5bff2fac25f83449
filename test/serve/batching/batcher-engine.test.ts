/** What the policy knows of the engine: predictions, what is under way, preparation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LatencyModel } from '../../../src/serve/batching/latency-model.ts';
import { accept, batcher, latencyModel, NEVER, names, request } from './named-requests.ts';

test('the cap follows what batches take', () => {
  const one = batcher();
  assert.equal(one.capSamples, 400);
  for (let i = 0; i < 64; i++) {
    accept(one, [request('a', NEVER)]);
    one.take(0);
    one.ran(100, 4, 4);
  }
  assert.ok(one.capSamples < 200, `${one.capSamples}`);
});

test('where predictions are far off, a request is let through now and then, and they come right', () => {
  const latency = latencyModel();
  const one = batcher({ latency });
  for (let i = 0; i < 300; i++) latency.observe(100, 200);
  let [nowMs, ran] = [0, 0];
  const lone = () => request('a', nowMs + 10);
  assert.equal(one.offer(lone(), nowMs)?.code, 'DEADLINE_UNMEETABLE');
  assert.equal(one.offer(lone(), 19.9)?.code, 'DEADLINE_UNMEETABLE');
  for (; nowMs < 5000 && latency.predictMs(100) > 3; nowMs += 1) {
    if (one.offer(lone(), nowMs) !== undefined) continue;
    ran++;
    assert.equal(one.offer(lone(), nowMs)?.code, 'DEADLINE_UNMEETABLE', 'one at a time');
    assert.deepEqual(names(one.take(nowMs)), { batch: 'a', late: '' });
    one.ran(100, 2, nowMs + 2);
  }
  assert.ok(latency.predictMs(100) <= 3, `${latency.predictMs(100)}`);
  assert.ok(ran <= 64, `${ran}`);
  assert.ok(nowMs < 20 + 3 * ran, 'probes that are in time follow each other');
  for (let i = 0; i < 10; i++) {
    accept(one, [lone()], nowMs);
    one.take(nowMs);
    one.ran(100, 2, nowMs);
  }
  nowMs += 1000;
  assert.equal(
    one.offer(request('x', nowMs + 1), nowMs)?.code,
    'DEADLINE_UNMEETABLE',
    'the wait begins anew',
  );
  nowMs += 1000;
  assert.equal(one.offer(request('x', nowMs - 1), nowMs)?.code, 'DEADLINE_UNMEETABLE', 'it is past');
});

test('probes that are late stay far apart', () => {
  const latency = latencyModel();
  const one = batcher({ latency });
  for (let i = 0; i < 300; i++) latency.observe(100, 200);
  let ran = 0;
  for (let nowMs = 0; nowMs < 4000; nowMs += 1) {
    if (one.offer(request('a', nowMs + 10), nowMs) !== undefined) continue;
    ran++;
    one.take(nowMs);
    one.ran(100, 200, nowMs + 200);
    nowMs += 200;
  }
  assert.ok(ran >= 17 && ran <= 19, `${ran}`);
});

test('with two batches under way, the next goes so that it is prepared when the device frees', () => {
  const one = batcher({ depth: 2, prepareMs: (samples) => 0.005 * samples });
  // prepared in 0.5, done at 2.5.
  accept(one, [request('a', 20)]);
  assert.deepEqual(names(one.take(0)), { batch: 'a', late: '' });
  accept(one, [request('b', 20)], 1);
  assert.equal(one.takeFromMs(1), 2);
  assert.equal(one.take(1.9), undefined);
  accept(one, [request('c', 20)], 1);
  assert.equal(one.takeFromMs(1), 1.5);
  assert.deepEqual(names(one.take(1.5)), { batch: 'bc', late: '' });
  accept(one, [request('d', 20)], 1.5);
  assert.equal(one.takeFromMs(2), NEVER, 'two are under way');
  assert.equal(one.take(2.4), undefined);
  // b and c run from 2.5 to 5.5, d until 7.5.
  assert.equal(one.offer(request('x', 8.4), 2)?.code, 'DEADLINE_UNMEETABLE');
  one.ran(100, 2, 3);
  // Half a millisecond later than predicted.
  assert.equal(one.takeFromMs(3), 5.5);
  assert.equal(one.offer(request('x', 8.9), 3)?.code, 'DEADLINE_UNMEETABLE');
  accept(one, [request('e', 9)], 3);
  assert.equal(one.predictedWaitMs(3), 3);
  one.ran(200, 3, 5);
  assert.equal(one.takeFromMs(5), 5, 'the device is idle');
});

test('with a lead, the next batch goes so much earlier', () => {
  const one = batcher({
    depth: 2,
    prepareMs: (samples) => 0.005 * samples,
    leadMs: (samples) => 0.01 * samples,
  });
  accept(one, [request('a', 20)]);
  one.take(0);
  accept(one, [request('b', 20)], 0.1);
  // a is done at 2.5, b prepared in half a millisecond, and 1 ms ahead of that.
  assert.equal(one.takeFromMs(0.1), 1);
  assert.equal(one.take(0.9), undefined);
  assert.deepEqual(names(one.take(1)), { batch: 'b', late: '' });
});

test('where batches go ahead of time, three of them fit into the SLA', () => {
  for (const [leadMs, most] of [
    [0, 400],
    [1, 350],
    [100, 233],
  ] as const)
    assert.equal(batcher({ depth: 2, leadMs: () => leadMs }).capSamples, most);
});

test('a batch begins when it is prepared, though the device frees before', () => {
  const one = batcher({ depth: 2, prepareMs: (samples) => 0.005 * samples });
  accept(one, [request('a', 20)]);
  one.take(0);
  accept(one, [request('b', 20), request('c', 20)], 1.5);
  one.take(1.5);
  one.ran(100, 2, 1.6);
  // Prepared at 2.5, done at 5.5; d takes 0.5 to prepare.
  accept(one, [request('d', 20)], 2);
  assert.equal(one.takeFromMs(2), 5);
});

test('the time to prepare counts against deadlines and the cap', () => {
  const prepareMs = (samples: number) => 0.01 * samples;
  // Twice 1 + 0.02 n is 10 at 200; where the host prepares beside the device, 2 + 0.03 n is at 266.
  assert.equal(batcher({ prepareMs }).capSamples, 200);
  assert.equal(batcher({ prepareMs, depth: 2 }).capSamples, 266);
  const one = batcher({ prepareMs });
  assert.equal(one.offer(request('x', 2.99), 0)?.code, 'DEADLINE_UNMEETABLE');
  accept(one, [request('a', 3)]);
  assert.deepEqual(names(one.take(0)), { batch: 'a', late: '' });
});

test('a batch that failed frees the engine and says nothing of time', () => {
  const latency = latencyModel();
  const one = batcher({ latency });
  accept(one, [request('a', 10)]);
  one.take(0);
  accept(one, [request('b', 12)]);
  one.failed(9);
  assert.equal(latency.fits().length, 0);
  assert.deepEqual(names(one.take(9)), { batch: 'b', late: '' });
});

test('a wait is predicted from what is under way and what waits', () => {
  const one = batcher();
  assert.equal(one.predictedWaitMs(3), 0);
  accept(one, [request('a', NEVER, 400)]);
  one.take(0);
  assert.equal(one.predictedWaitMs(1), 4);
  accept(one, [request('b', NEVER, 400), request('c', NEVER, 399)], 1);
  assert.equal(one.predictedWaitMs(1), 9);
  assert.equal(one.predictedWaitMs(7), 5, 'what is overdue may end at once');
});

test('before anything is known everything is accepted, and runs', () => {
  const latency = new LatencyModel({ capacityOf: (samples) => samples });
  const one = batcher({ latency, mostSamples: 1000 });
  accept(one, [request('a', 0.1), request('b', 0.2, 900), request('c', 0.3)]);
  assert.deepEqual(names(one.take(0)), { batch: 'ab', late: '' });
});
