import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeAnswer, encodeMessage } from '../../src/client/tensors.ts';
import { ClientError, UsageError } from '../../src/errors.ts';
import { AnswerWriter } from '../../src/serve/protocol/answer.ts';
import { elementsOf, isInBody } from '../../src/serve/protocol/infer-request.ts';
import { parseInferRequest } from '../../src/serve/protocol/parse-infer.ts';

test('the server reads what is written, bytes aligned behind its JSON', () => {
  const part = new Float32Array([9, 1, 2, 9]).subarray(1, 3);
  const { body, jsonBytes } = encodeMessage(
    {
      dense: { shape: [1, 2], data: part },
      values: { shape: [2], data: BigInt64Array.of(-1n, 2n ** 40n) },
      lengths: { shape: [1, 1], data: Int32Array.of(2) },
      'values.city': { shape: [2], data: ['', 'Köln'] },
      'dense.x': { shape: [1], data: Float64Array.of(0.1) },
    },
    { id: 'é', outputs: ['logit'], parameters: { priority: 3 } },
  );
  assert.equal(jsonBytes % 8, 0);
  const asked = parseInferRequest(body, { jsonLength: String(jsonBytes), query: 'timeout=17' });
  assert.ok('tensors' in asked);
  const { id, priority, timeoutMicros, outputs, tensors } = asked;
  assert.deepEqual(
    { id, priority, timeoutMicros, outputs },
    {
      id: 'é',
      priority: 3,
      timeoutMicros: 17,
      outputs: [{ name: 'logit', binary: true }],
    },
  );
  const said = [...tensors].map(([name, tensor]) => {
    if ('strings' in tensor) return [name, tensor.shape, tensor.strings];
    return [name, tensor.shape, isInBody(tensor) ? elementsOf(body, tensor).data : undefined];
  });
  assert.deepEqual(said, [
    ['dense', [1, 2], Float32Array.of(1, 2)],
    ['values', [2], BigInt64Array.of(-1n, 2n ** 40n)],
    ['lengths', [1, 1], Int32Array.of(2)],
    ['values.city', [2], ['', 'Köln']],
    ['dense.x', [1], Float64Array.of(0.1)],
  ]);
});

test('a shape of another size is refused', () => {
  const tensors = { dense: { shape: [2, 2], data: Float32Array.of(1) } };
  assert.throws(() => encodeMessage(tensors, {}), UsageError);
});

const bufferOf = (body: Uint8Array) => Uint8Array.from(body).buffer;

test('answers are read as the server writes them, as bytes and as JSON', () => {
  const writer = new AnswerWriter('m', '3', [
    { name: 'probability', width: 1 },
    { name: '__proto__', width: 2 },
  ]);
  const arrays = [Float32Array.of(0.5, Number.NaN), Float32Array.of(1, 2, 3, 4)];
  for (const given of [
    [
      { index: 0, binary: true },
      { index: 1, binary: true },
    ],
    [
      { index: 0, binary: false },
      { index: 1, binary: true },
    ],
    [
      { index: 0, binary: false },
      { index: 1, binary: false },
    ],
  ]) {
    const { body, jsonLength } = writer.write(2, arrays, given, 'id');
    const { outputs, ...rest } = decodeAnswer(bufferOf(body), jsonLength);
    assert.deepEqual(rest, { model: 'm', version: '3', id: 'id' });
    assert.deepEqual(Object.entries(outputs), [
      ['probability', { shape: [2, 1], data: arrays[0] }],
      ['__proto__', { shape: [2, 2], data: arrays[1] }],
    ]);
  }
});

test('what is no answer is told', () => {
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const output = { name: 'p', datatype: 'FP32', shape: [2, 1] };
  const cases: [Uint8Array, number | undefined][] = [
    [json('text'), undefined],
    [json(null), undefined],
    [json({ outputs: {} }), undefined],
    [json({ outputs: [{ ...output, datatype: 'INT64', data: [1, 2] }] }), undefined],
    [json({ outputs: [{ ...output, shape: 2, data: [1, 2] }] }), undefined],
    [json({ outputs: [{ ...output, data: [1] }] }), undefined],
    [json({ outputs: [output] }), undefined],
    [json({ outputs: [{ ...output, parameters: { binary_data_size: 8 } }] }), undefined],
    [json({ outputs: [] }), 10_000],
    [json({ outputs: [] }), Number.NaN],
    [new TextEncoder().encode('<html>'), undefined],
  ];
  const head = json({ outputs: [{ ...output, parameters: { binary_data_size: 8 } }] });
  for (const bytes of [4, 6]) cases.push([Uint8Array.of(...head, ...new Uint8Array(bytes)), head.length]);
  for (const [body, jsonBytes] of cases)
    assert.throws(
      () => decodeAnswer(bufferOf(body), jsonBytes),
      (error) => error instanceof ClientError && error.code === 'SERVER_ANSWER_INVALID',
      new TextDecoder().decode(body),
    );
});
