/** Placed requests: their memory stays as long as a run needs it, and goes once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PlacedBags, RunReport } from '../../src/backend/backend.ts';
import { type PlacedParts, PlacedRequest, partsOf, placedRequest } from '../../src/model/placed-request.ts';

function open() {
  const freed: string[] = [];
  const part = (name: string): Disposable => ({ [Symbol.dispose]: () => void freed.push(name) });
  const ends: ((report: RunReport) => void)[] = [];
  const request = placedRequest({
    owner: {},
    bags: { batchSize: 3, ...part('bags') } as unknown as PlacedBags,
    owned: [part('program'), part('matrices')],
    run: () => new Promise((resolve) => ends.push(resolve)),
  });
  const { run } = partsOf(request) as PlacedParts;
  return { request, freed, ends, run: () => run([], {}) };
}

test('what is disposed during runs goes after the last of them', async () => {
  const { request, freed, ends, run } = open();
  assert.equal(request.batchSize, 3);
  const [first, second] = [run(), run()];
  request[Symbol.dispose]();
  request[Symbol.dispose]();
  await assert.rejects(run(), { code: 'DISPOSED', message: /a placed request was used after/ });
  assert.equal(ends.length, 2);
  ends[0]?.({} as RunReport);
  await first;
  assert.deepEqual(freed, []);
  ends[1]?.({} as RunReport);
  await second;
  assert.deepEqual(freed, ['program', 'matrices', 'bags']);
});

test('what is idle goes at once, and once', async () => {
  const { request, freed, ends, run } = open();
  const running = run();
  ends[0]?.({} as RunReport);
  await running;
  assert.deepEqual(freed, []);
  request[Symbol.dispose]();
  request[Symbol.dispose]();
  assert.deepEqual(freed, ['program', 'matrices', 'bags']);
});

test('only what was placed is one', () => {
  assert.equal(partsOf({}), undefined);
  assert.equal(partsOf(Object.create(PlacedRequest.prototype)), undefined);
  assert.throws(() => new PlacedRequest(Symbol('mine') as never, {} as never), { code: 'USAGE' });
});
