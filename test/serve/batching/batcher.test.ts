/** The rules of the policy, one by one, on a clock of the test's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accept, batcher, latencyModel, type Named, NEVER, names, request } from './named-requests.ts';

test('it adds no delay: a lone request goes at once, what waits goes when the engine frees', () => {
  const one = batcher();
  assert.equal(one.take(0), undefined);
  assert.equal(one.takeFromMs(0), NEVER);
  accept(one, [request('a', 10)]);
  assert.equal(one.takeFromMs(0), 0);
  assert.deepEqual(names(one.take(0)), { batch: 'a', late: '' });
  accept(one, [request('b', 11), request('c', 12)], 1);
  assert.equal(one.takeFromMs(1), NEVER);
  assert.equal(one.take(1.5), undefined, 'the engine is busy');
  one.ran(100, 2, 2);
  assert.equal(one.takeFromMs(2), 2);
  assert.deepEqual(names(one.take(2)), { batch: 'bc', late: '' });
});

test('earliest deadline first within a priority, lower priorities after it', () => {
  const one = batcher();
  accept(one, [request('d', 50, 100, 2), request('c', 90, 100, 1), request('b', 60, 100, 1)]);
  accept(one, [request('a', 99, 100, 0), request('e', 51, 100, 2)]);
  assert.deepEqual(names(one.take(0)), { batch: 'abcd', late: '' });
  one.ran(400, 5, 5);
  assert.deepEqual(names(one.take(5)), { batch: 'e', late: '' });
});

test('a batch takes half of the SLA at most, and never more than `mostSamples`', () => {
  const all = 'abcdefgh'.split('').map((name, i) => request(name, 100 + i));
  for (const [options, batch] of [
    [{}, 'abcd'],
    [{ slaMs: 14 }, 'abcdef'],
    [{ mostSamples: 299 }, 'ab'],
    [{ latency: latencyModel(2, 0.02) }, 'a'],
    [{ shrinks: true }, 'abcd'],
    [{ shrinks: true, mostSamples: 300 }, 'abc'],
  ] as const) {
    const one = batcher(options);
    accept(one, all);
    assert.deepEqual(names(one.take(0)), { batch, late: '' });
  }
});

test('what cannot make it is refused on arrival: the batch under way, those before it, its own', () => {
  const one = batcher();
  const unmeetable = (given: Named, nowMs: number) => one.offer(given, nowMs)?.code === 'DEADLINE_UNMEETABLE';
  // Alone it takes 2 ms.
  assert.ok(unmeetable(request('x', 1.99), 0));
  accept(one, [request('a', 2)]);
  one.take(0);
  // The batch under way ends at 2.
  assert.ok(unmeetable(request('x', 3.99), 1));
  accept(one, [request('b', 100)], 1);
  // With b, which rides along, it is done at 2 + 3.
  assert.ok(unmeetable(request('x', 4.99), 1));
  accept(one, [request('c', 100), request('d', 100), request('e', 100)], 1);
  // A batch is full: what is due later than the others is in the next one, at 2 + 5 + 2.
  assert.ok(unmeetable(request('x', 100, 300), 94.9));
  accept(one, [request('y', 100.5, 300)], 1);
  // What is due earlier goes before them, in the first: 2 + 5.
  assert.ok(unmeetable(request('x', 6.99), 1));
  accept(one, [request('f', 7)], 1);
  assert.equal(one.queuedSamples, 800);
});

test('a refusal says when to try again, and why', () => {
  const one = batcher();
  accept(one, [request('a', 10, 400)]);
  one.take(0);
  const refusal = one.offer(request('x', 4), 1);
  assert.equal(refusal?.code, 'DEADLINE_UNMEETABLE');
  // Under way until 5, then 2 ms: it needs 3 ms more than it has.
  assert.ok(Math.abs((refusal?.retryAfterMs ?? 0) - 3) < 1e-9);
  assert.equal(refusal?.message, 'it would be done in 6.00 ms, its deadline is in 3.00 ms');
});

test('what is queued at lower priorities does not stand before a request, what is queued above does', () => {
  const one = batcher();
  accept(one, [request('a', NEVER, 400, 5), request('b', NEVER, 400, 5), request('c', NEVER, 200, 1)]);
  // c is due later, and rides along: 4 ms. Those of priority 5 do not where that makes it late.
  assert.equal(one.offer(request('x', 3.9, 100, 1), 0)?.code, 'DEADLINE_UNMEETABLE');
  accept(one, [request('d', 4, 100, 1)]);
  assert.deepEqual(names(one.take(0)), { batch: 'dc', late: '' });
  const behind = batcher();
  accept(behind, [request('a', NEVER, 400, 1)]);
  assert.equal(behind.offer(request('x', 6.9, 100, 5), 0)?.code, 'DEADLINE_UNMEETABLE');
  accept(behind, [request('e', 7, 100, 5)]);
});

test('requests of a lower priority fill a batch only as far as those above stay in time', () => {
  for (const [deadlineMs, batch] of [
    [2.9, 'x'],
    [3, 'xa'],
    [4.5, 'xab'],
    [50, 'xabc'],
  ] as const) {
    const one = batcher();
    accept(
      one,
      [...'abcd'].map((name) => request(name, NEVER, 100, 1)),
    );
    accept(one, [request('x', deadlineMs)]);
    assert.deepEqual(names(one.take(0)), { batch, late: '' });
  }
});

test('when a batch goes, what the whole of it would finish late is dropped, and others take its place', () => {
  const one = batcher();
  accept(one, [request('z', NEVER, 400)]);
  one.take(0);
  accept(
    one,
    [...'abcdef'].map((name, i) => request(name, (i < 4 ? 11 : 13) + i / 10)),
  );
  // The engine was slower than it should have been: until 6.25 instead of 5. Four take 5 ms.
  one.failed(6.25);
  assert.deepEqual(names(one.take(6.25)), { batch: 'def', late: 'cba' });
  assert.equal(one.queuedRequests, 0);
  assert.equal(one.queuedSamples, 0);
});

test('what was dropped for a larger batch than came about is taken back, as far as all is in time', () => {
  const one = batcher();
  accept(one, [request('z', NEVER, 400)]);
  one.take(0);
  accept(one, [request('a', 9), request('b', 9.5), request('c', 20)]);
  one.failed(6.25);
  // All three would take until 10.25; c with b takes until 9.25.
  assert.deepEqual(names(one.take(6.25)), { batch: 'cb', late: 'a' });
  const alone = batcher();
  accept(alone, [request('z', NEVER, 400)]);
  alone.take(0);
  accept(alone, [request('a', 9), request('b', 9)]);
  alone.failed(6.5);
  assert.deepEqual(names(alone.take(6.5)), { batch: 'b', late: 'a' });
});

test('a batch may be empty: all were late', () => {
  for (const shrinks of [false, true]) {
    const one = batcher({ shrinks });
    accept(one, [request('z', NEVER, 400)]);
    one.take(0);
    accept(one, [request('a', 9), request('b', 9.5)]);
    one.failed(8);
    const taken = one.take(8);
    assert.equal(taken?.batch.length, 0);
    assert.equal(taken?.late.length, 2);
    assert.equal(one.take(8), undefined, 'nothing is under way, nothing waits');
    accept(one, [request('c', 11)], 8);
    assert.deepEqual(names(one.take(8)), { batch: 'c', late: '' });
  }
});

test('on CPUs a batch ends where its earliest would become late', () => {
  for (const [deadlineMs, batch] of [
    [2, 'a'],
    [2.99, 'a'],
    [3, 'ab'],
    [4, 'abc'],
    [5, 'abcd'],
    [50, 'abcd'],
  ] as const) {
    const one = batcher({ shrinks: true });
    accept(one, [request('a', deadlineMs), ...[...'bcdef'].map((name) => request(name, 50))]);
    assert.deepEqual(names(one.take(0)), { batch, late: '' });
  }
});

test('on CPUs what is late even alone is dropped, and what is behind it goes', () => {
  const one = batcher({ shrinks: true });
  accept(one, [request('z', NEVER, 400)]);
  one.take(0);
  accept(one, [request('a', 8), request('b', 9), request('c', 10), request('d', 30, 100, 1)]);
  one.failed(6.5);
  assert.deepEqual(names(one.take(6.5)), { batch: 'b', late: 'a' });
  // A lower priority does not make those above late either.
  one.failed(8);
  assert.deepEqual(names(one.take(8)), { batch: 'c', late: '' });
});

test('a request larger than the cap runs alone, one that can never make it is refused', () => {
  for (const shrinks of [false, true]) {
    const one = batcher({ shrinks, mostSamples: 300 });
    accept(one, [request('a', 40, 600), request('b', 50), request('c', 60)]);
    assert.deepEqual(names(one.take(0)), { batch: 'a', late: '' });
    one.ran(600, 7, 7);
    assert.deepEqual(names(one.take(7)), { batch: 'bc', late: '' });
    one.ran(200, 3, 10);
    assert.equal(one.offer(request('x', 110, 100_000), 10)?.code, 'DEADLINE_UNMEETABLE');
    accept(one, [request('d', 19.5), request('e', NEVER, 600)], 10);
    assert.deepEqual(names(one.take(10)), { batch: 'd', late: '' });
  }
});

test('the queue has a limit of samples, and takes at least one request', () => {
  const one = batcher({ queueSamples: 250 });
  accept(one, [request('a', NEVER), request('b', NEVER, 150)]);
  const refusal = one.offer(request('x', NEVER, 1), 0);
  assert.equal(refusal?.code, 'OVERLOADED');
  assert.equal(refusal?.message, 'the queue is full: 250 samples wait, of at most 250');
  assert.equal(one.cancel(request('a', NEVER)), false);
  one.take(0);
  accept(one, [request('c', NEVER, 251)]);
  assert.equal(one.offer(request('x', NEVER, 1), 1)?.code, 'OVERLOADED');
  // The batch under way ends at 3.5.
  assert.ok(Math.abs((one.offer(request('x', NEVER, 1), 1)?.retryAfterMs ?? 0) - 2.5) < 1e-9);
});

test('a queue full of a lower priority is open to a higher one', () => {
  const one = batcher({ queueSamples: 200 });
  accept(one, [request('a', NEVER, 200, 2), request('b', NEVER, 150, 1)]);
  assert.equal(one.offer(request('x', NEVER, 51, 1), 0)?.code, 'OVERLOADED');
  assert.equal(one.offer(request('x', NEVER, 1, 3), 0)?.code, 'OVERLOADED');
  accept(one, [request('c', NEVER, 50, 1)]);
});

test('a request that is cancelled is gone, whatever waits beside it', () => {
  const one = batcher();
  const [a, b, c] = [request('a', 30), request('b', 40), request('c', 50, 100, 1)];
  accept(one, [a, b, c]);
  assert.ok(one.cancel(a));
  assert.equal(one.cancel(a), false);
  assert.equal(one.queuedRequests, 2);
  assert.equal(one.queuedSamples, 200);
  accept(one, [a]);
  assert.ok(one.cancel(c));
  assert.deepEqual(names(one.take(0)), { batch: 'ab', late: '' });
  assert.equal(one.cancel(b), false, 'it is under way');
  assert.equal(one.takeFromMs(1), NEVER);
});

test('what waits at a lower priority is given up when it is late, though the batch is full without it', () => {
  const one = batcher();
  accept(one, [request('a', 6, 100, 1), request('b', 60, 100, 1)]);
  accept(one, [request('c', NEVER, 400)]);
  assert.deepEqual(names(one.take(4.5)), { batch: 'c', late: 'a' });
  assert.equal(one.queuedRequests, 1);
});

test('nothing overtakes a request that has to wait for the next batch', () => {
  const one = batcher();
  accept(one, [request('a', 20), request('b', 30, 400), request('c', 40), request('d', 20, 100, 1)]);
  assert.deepEqual(names(one.take(0)), { batch: 'a', late: '' });
});

test('what was dropped is taken back up to the cap, where a large request behind it does not fit', () => {
  const one = batcher();
  accept(one, [request('z', NEVER, 400)]);
  one.take(0);
  accept(one, [
    request('a', 10.5),
    request('b', 30),
    request('c', 30),
    request('d', 30),
    request('e', 90, 400),
  ]);
  one.failed(6);
  // With a it would be done at 11; without it at 10, and e does not fit.
  assert.deepEqual(names(one.take(6)), { batch: 'bcd', late: 'a' });
  const other = batcher();
  accept(other, [request('z', NEVER, 400)]);
  other.take(0);
  accept(other, [
    request('a', 9.5),
    request('b', 10.2),
    request('c', 30),
    request('d', 30),
    request('e', 90, 400),
  ]);
  other.failed(6);
  // All four are done at 11: a and b are dropped, and b is in time in a batch of three.
  assert.deepEqual(names(other.take(6)), { batch: 'cdb', late: 'a' });
});

test('a request of no samples, and one without a deadline, are requests', () => {
  const one = batcher();
  accept(one, [request('a', NEVER, 0), request('b', 10, 0)]);
  assert.deepEqual(names(one.take(0)), { batch: 'ba', late: '' });
});

test('what makes no sense is refused', () => {
  const one = batcher();
  for (const bad of [
    request('x', Number.NaN),
    request('x', 10, Number.NaN),
    request('x', 10, -1),
    request('x', 10, 1, Number.NaN),
    request('x', 10, 1, Number.POSITIVE_INFINITY),
  ])
    assert.throws(() => one.offer(bad, 0), RangeError);
  const twice = request('a', 20);
  accept(one, [twice]);
  assert.throws(() => one.offer(twice, 0), /queued already/);
  for (const options of [{ slaMs: 0 }, { mostSamples: 0 }, { queueSamples: 0 }, { depth: 0 }, { depth: 1.5 }])
    assert.throws(() => batcher(options), RangeError);
});
