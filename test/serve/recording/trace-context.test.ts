import assert from 'node:assert/strict';
import { test } from 'node:test';
import { traceContext } from '../../../src/serve/recording/trace-context.ts';

const trace = '0af7651916cd43dd8448eb211c80319c';
const parent = 'b7ad6b7169203331';
const good = `00-${trace}-${parent}-01`;

test('what holds to the standard stays', () => {
  for (const traceparent of [
    good,
    `00-${trace}-${parent}-00`,
    `cc-${trace}-${parent}-09`,
    `cc-${good.slice(3)}-what-comes`,
  ])
    assert.deepEqual(traceContext({ traceparent }), { traceparent });
  const tracestate = 'congo=t61rcWkgMzE,rojo=00f067aa0ba902b7';
  assert.deepEqual(traceContext({ traceparent: good, tracestate }), { traceparent: good, tracestate });
});

test('what does not is left out', () => {
  const wrong = [
    '',
    'x',
    `ff-${trace}-${parent}-01`,
    `00-${'0'.repeat(32)}-${parent}-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace.toUpperCase()}-${parent}-01`,
    `00-${trace.slice(1)}-${parent}-01`,
    `00-${trace}-${parent}-1`,
    `${good}-more`,
    ` ${good}`,
    `${good}\n`,
    `cc-${trace}-${parent}-01-${'x'.repeat(100)}`,
  ];
  for (const traceparent of wrong)
    assert.deepEqual(traceContext({ traceparent, tracestate: 'a=1' }), {}, traceparent);
  assert.deepEqual(traceContext({ tracestate: 'a=1' }), {});
  for (const tracestate of ['', 'x'.repeat(513), 'a=\u00e9', 'a=1\n'])
    assert.deepEqual(traceContext({ traceparent: good, tracestate }), { traceparent: good }, tracestate);
});
