import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerReader, type HttpAnswer, MalformedAnswer } from '../../src/load/http-answer.ts';

/** What is read of `text`, cut every `step` bytes. */
function read(text: string, step: number, reader = new AnswerReader()): HttpAnswer | undefined {
  const bytes = Buffer.from(text, 'latin1');
  for (let i = 0; i < bytes.length; i += step) {
    const answer = reader.push(bytes.subarray(i, i + step));
    if (answer === undefined) continue;
    assert.ok(i + step >= bytes.length, 'it is complete at its end, not before');
    return answer;
  }
  return undefined;
}

const ANSWERS: readonly (readonly [string, string, Partial<HttpAnswer> & { readonly text: string }])[] = [
  [
    'a length',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nInference-Header-Content-Length: 3\r\nKeep-Alive: timeout=7\r\n\r\nabcde',
    { status: 200, text: 'abcde', jsonBytes: 3, idleSeconds: 7, keepAlive: true },
  ],
  ['no body', 'HTTP/1.1 204 No Content\r\n\r\n', { status: 204, text: '', keepAlive: true }],
  [
    'of length 0',
    'HTTP/1.1 503 Busy\r\ncontent-length:0\r\n\r\n',
    { status: 503, text: '', keepAlive: true },
  ],
  [
    'chunks',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n',
    { status: 200, text: 'abc0123456789', keepAlive: true },
  ],
  [
    'the last of its connection',
    'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}',
    { status: 400, text: '{}', keepAlive: false },
  ],
  [
    'HTTP/1.0',
    'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}',
    { status: 200, text: '{}', keepAlive: false },
  ],
  [
    'after others that are none',
    'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx',
    { status: 200, text: 'x', keepAlive: true },
  ],
];

for (const [name, text, expected] of ANSWERS) {
  test(`an answer: ${name}, however it is cut`, () => {
    for (let step = 1; step <= text.length; step++) {
      const answer = read(text, step);
      assert.ok(answer !== undefined);
      const { body, ...rest } = answer;
      assert.deepEqual({ ...rest, text: body.toString('latin1') }, expected);
    }
  });
}

test('answers follow each other on a connection', () => {
  const reader = new AnswerReader();
  for (const [, text, { status }] of ANSWERS) assert.equal(read(text, 7, reader)?.status, status);
  assert.equal(reader.isAmid, false);
});

test('an answer without a length ends with its connection', () => {
  const reader = new AnswerReader();
  assert.equal(read('HTTP/1.1 200 OK\r\n\r\nabc', 4, reader), undefined);
  const answer = reader.end();
  assert.equal(answer?.body.toString(), 'abc');
  assert.equal(answer?.keepAlive, false);
});

test('a connection that ends amid an answer has none', () => {
  const reader = new AnswerReader();
  read('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc', 100, reader);
  assert.equal(reader.end(), undefined);
  assert.equal(reader.isAmid, true);
});

for (const [name, text] of [
  ['another protocol', 'SSH-2.0-OpenSSH\r\n\r\n'],
  ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'],
  ['a body beyond bounds', 'HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n'],
  ['a chunk without a size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n'],
  ['more than an answer', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc'],
  ['a head without an end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(70_000)}`],
] as const)
  test(`malformed: ${name}`, () => assert.throws(() => read(text, text.length), MalformedAnswer));
