/** Requests whose JSON was read before are what they would be if it were read again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { elementsOf, isInBody, type TensorRequest } from '../../../src/serve/protocol/infer-request.ts';
import { KnownHeads } from '../../../src/serve/protocol/known-heads.ts';
import { NativeBinder } from '../../../src/serve/protocol/native-binder.ts';
import { parseInferRequest } from '../../../src/serve/protocol/parse-infer.ts';
import { protocolBody, type SentBody } from '../../support/infer-bodies.ts';
import { f32, feature, i32, i64, inputsOf } from '../../support/request-tensors.ts';

const body = (values: number[], extra: object = {}) =>
  protocolBody({ dense: f32([1, 2], [1, 2]), values: i32([values.length], values) }, { extra });

function parsed({ body, jsonLength }: SentBody, known?: KnownHeads, query = ''): TensorRequest {
  const request = parseInferRequest(body, { jsonLength, query }, known);
  assert.ok('tensors' in request);
  return request;
}

/** Parses twice, and says whether the second one was known; either is what it is without anything known. */
function isKnown(first: SentBody, second: SentBody, queries: readonly [string, string] = ['', '']): boolean {
  const known = new KnownHeads();
  const before = parsed(first, known, queries[0]);
  assert.deepEqual(before, parsed(first, undefined, queries[0]));
  const request = parsed(second, known, queries[1]);
  assert.deepEqual(request, parsed(second, undefined, queries[1]));
  return request.tensors === before.tensors;
}

test('the same JSON before other bytes is known', () => {
  assert.ok(isKnown(body([1, 2]), body([3, 4])));
  const said = { id: 'a', parameters: { timeout: 5, priority: 2 }, outputs: [{ name: 'x' }] };
  assert.ok(isKnown(body([1, 2], said), body([3, 4], said)));
  const known = new KnownHeads();
  parsed(body([1, 2]), known);
  const request = parsed(body([3, 4]), known);
  const values = request.tensors.get('values');
  assert.ok(values !== undefined && isInBody(values));
  assert.deepEqual(elementsOf(request.body, values).data, Int32Array.of(3, 4));
});

test('JSON of the same length, another query and a longer body are not', () => {
  assert.ok(!isKnown(body([1], { id: 'a' }), body([1], { id: 'b' })));
  assert.ok(!isKnown(body([1]), body([1]), ['priority=1', 'priority=2']));
  const known = new KnownHeads();
  const short = body([1]);
  parsed(short, known);
  const longer = { ...short, body: Buffer.concat([short.body, Buffer.alloc(1)]) };
  assert.throws(() => parsed(longer, known), { code: 'REQUEST_INVALID' });
});

test('memory of a body may hold another one later', () => {
  const known = new KnownHeads();
  const memory = body([1], { id: 'a' });
  assert.equal(parsed(memory, known).id, 'a');
  memory.body.set(body([1], { id: 'b' }).body);
  assert.equal(parsed(memory, known).id, 'b');
});

test('what the body says beyond its JSON is read each time', () => {
  const strings = (text: string) => protocolBody({ values: { shape: [1], strings: [text] } });
  assert.ok(!isKnown(strings('a'), strings('b')));
  const inJson = protocolBody({ values: i32([1], [1]) }, { inJson: () => true });
  assert.ok(!isKnown(inJson, inJson));
});

test('a few are remembered, those that came last', () => {
  const known = new KnownHeads();
  const firsts = [0, 1, 2, 3, 4].map((id) => parsed(body([1], { id: `${id}` }), known).tensors);
  const isAgain = (id: number) => parsed(body([1], { id: `${id}` }), known).tensors === firsts[id];
  assert.deepEqual([4, 3, 2, 1, 0].map(isAgain), [true, true, true, true, false]);
  const long = body([1], { id: 'a'.repeat(4000), more: 'b'.repeat(20_000) });
  assert.ok(!isKnown(long, long), 'however long they are');
});

test('users of a known request are those of its own body', () => {
  const inputs = inputsOf([feature('a')], ['x']);
  const of = (first: number) =>
    protocolBody({
      'user.dense': f32([2, 1], [1, 2]),
      users: i64([3], [0, first, 3]),
      'indices.0': i32([3, 1], [1, 2, 3]),
    });
  const known = new KnownHeads();
  const binder = new NativeBinder(inputs);
  const starts = [1, 2].map((first) => binder.bind(parsed(of(first), known))?.users?.starts);
  assert.deepEqual(starts, [Int32Array.of(0, 1, 3), Int32Array.of(0, 2, 3)]);
});

test('a known request is bound to where its body is', () => {
  const known = new KnownHeads();
  const binder = new NativeBinder(inputsOf([feature('a')], ['x']));
  const one = () => protocolBody({ dense: f32([1, 1], [1]), 'indices.0': i32([1, 1], [1]) });
  const bind = (bodyAt: number) => binder.bind(parsed(one(), known), bodyAt)?.denseAt;
  const places = [64, 128, 128, 64].map(bind) as number[];
  assert.deepEqual(
    places.map((place) => place - (places[0] as number)),
    [0, 64, 64, 0],
  );
});

test('where nothing comes again little is remembered, and what does come again is soon', () => {
  const known = new KnownHeads();
  const named = (id: string) => parsed(body([1], { id }), known).tensors;
  for (let id = 0; id < 100; id++) named(`first ${id}`);
  assert.notEqual(named('second'), named('second'));
  let [before, requests] = [named('third'), 1];
  for (let next = named('third'); next !== before && requests <= 64; next = named('third'), requests++)
    before = next;
  assert.ok(requests <= 64);
  assert.equal(named('third'), before);
});
