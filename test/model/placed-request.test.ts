/** Placed requests: their memory stays as long as a run needs it, and goes once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Executable, PlacedBags } from '../../src/backend/backend.ts';
import { type HeldParts, PlacedRequest, partsOf, placedRequest } from '../../src/model/placed-request.ts';

function open() {
  const freed: string[] = [];
  const part = (name: string): Disposable => ({ [Symbol.dispose]: () => void freed.push(name) });
  const request = placedRequest({
    owner: {},
    bags: { batchSize: 3, ...part('bags') } as unknown as PlacedBags,
    owned: [part('program'), part('matrices')],
    executable: {} as Executable,
  });
  return { request, freed, parts: partsOf(request) as HeldParts };
}

test('what is disposed during runs goes after the last of them', () => {
  const { request, freed, parts } = open();
  assert.equal(request.batchSize, 3);
  const [first, second] = [parts.hold(), parts.hold()];
  request[Symbol.dispose]();
  request[Symbol.dispose]();
  assert.throws(() => parts.hold(), { code: 'DISPOSED', message: /a placed request was used after/ });
  first[Symbol.dispose]();
  assert.deepEqual(freed, []);
  second[Symbol.dispose]();
  assert.deepEqual(freed, ['program', 'matrices', 'bags']);
});

test('what is idle goes at once, and once', () => {
  const { request, freed, parts } = open();
  parts.hold()[Symbol.dispose]();
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
