import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerCheck } from '../../src/load/answers.ts';
import type { HttpAnswer } from '../../src/load/http-answer.ts';

const reply = (status: number, json: unknown, tensors = 0, jsonBytes?: number): HttpAnswer => {
  const text = Buffer.from(typeof json === 'string' ? json : JSON.stringify(json));
  const bytes = jsonBytes ?? text.length;
  return { status, body: Buffer.concat([text, Buffer.alloc(tensors)]), jsonBytes: bytes, keepAlive: true };
};
const output = (rows: number, size: number | undefined, more: object = {}) => ({
  outputs: [
    {
      name: 'probability',
      datatype: 'FP32',
      shape: [rows, 1],
      ...(size === undefined ? {} : { parameters: { binary_data_size: size } }),
      ...more,
    },
  ],
});

test('answers that answer', () => {
  const check = new AnswerCheck();
  for (const answer of [
    reply(200, output(3, 12), 12),
    // Known by now.
    reply(200, output(3, 12), 12),
    reply(200, output(3, undefined, { data: [0.5, 0.25, 1] })),
    reply(200, output(3, undefined, { data: [[0.5], [0.25], [1]] })),
  ])
    assert.deepEqual(check.outcome(answer, 3), { kind: 'answered', samples: 3 });
});

test('answers that do not', () => {
  const check = new AnswerCheck();
  assert.equal(check.outcome(reply(200, output(3, 12), 12), 3).kind, 'answered');
  for (const [answer, what] of [
    [reply(200, output(2, 8), 8), /another number of samples/],
    [reply(200, output(3, 12), 8), /tensors of another length/],
    [reply(200, output(3, 12), 16), /tensors of another length/],
    [reply(200, output(3, 8), 8), /another length than its shape/],
    [reply(200, output(3, undefined, { data: [1, 2] })), /another length than its shape/],
    [reply(200, output(3, undefined)), /another length than its shape/],
    [reply(200, output(3, 12, { datatype: 'BYTES' }), 12), /another length than its shape/],
    [reply(200, { outputs: [] }), /no outputs/],
    [reply(200, {}), /no outputs/],
    [reply(200, '{"outputs":'), /no outputs/],
    [reply(200, output(3, 12), 0, 10_000), /shorter than its header says/],
  ] as const) {
    const outcome = check.outcome(answer, 3);
    assert.equal(outcome.kind, 'failed');
    assert.match('what' in outcome ? outcome.what : '', what);
  }
});

test('refused, dropped, failed: by status, code and words', () => {
  const check = new AnswerCheck();
  for (const [status, json, kind, what] of [
    [503, { error: 'OVERLOADED: full', code: 'OVERLOADED' }, 'refused', '503 OVERLOADED'],
    [504, { error: 'late', code: 'DEADLINE_EXCEEDED' }, 'dropped', '504 DEADLINE_EXCEEDED'],
    [400, { error: 'bad input' }, 'failed', '400 bad input'],
    [404, 'no JSON', 'failed', '404'],
    [500, { code: '\x1b[2J' }, 'failed', '500 \\x1b[2J'],
  ] as const)
    assert.deepEqual(check.outcome(reply(status, json), 3), { kind, what });
  assert.deepEqual(check.outcome({ broken: 'connection: closed' }, 3), {
    kind: 'failed',
    what: 'connection: closed',
  });
});
