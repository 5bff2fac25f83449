import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerWriter, type InferAnswer } from '../../../src/serve/protocol/answer.ts';

const writer = new AnswerWriter('m "1"', '7', [
  { name: 'probability', width: 1 },
  { name: 'logit', width: 2 },
]);
const arrays = [Float32Array.of(0.25, Number.NaN), Float32Array.of(1, -2, Number.POSITIVE_INFINITY, 4)];

/** The JSON of an answer, and the bytes behind it. */
function read({ body, jsonLength = body.length }: InferAnswer) {
  return { json: JSON.parse(body.toString('utf8', 0, jsonLength)), bytes: body.subarray(jsonLength) };
}

const floats = (bytes: Buffer) =>
  Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));

test('all outputs in JSON: NaN and infinities are null', () => {
  const answer = writer.write(2, arrays, writer.given({ binary: false }));
  assert.equal(answer.contentType, 'application/json');
  assert.equal(answer.jsonLength, undefined);
  assert.deepEqual(read(answer).json, {
    model_name: 'm "1"',
    model_version: '7',
    outputs: [
      { name: 'probability', datatype: 'FP32', shape: [2, 1], data: [0.25, null] },
      { name: 'logit', datatype: 'FP32', shape: [2, 2], data: [1, -2, null, 4] },
    ],
  });
});

test('all outputs as bytes', () => {
  const answer = writer.write(2, arrays, writer.given({ binary: true }), 'größe "1"');
  assert.equal(answer.contentType, 'application/octet-stream');
  const { json, bytes } = read(answer);
  assert.deepEqual(json, {
    model_name: 'm "1"',
    model_version: '7',
    id: 'größe "1"',
    outputs: [
      { name: 'probability', datatype: 'FP32', shape: [2, 1], parameters: { binary_data_size: 8 } },
      { name: 'logit', datatype: 'FP32', shape: [2, 2], parameters: { binary_data_size: 16 } },
    ],
  });
  assert.deepEqual(floats(bytes), [0.25, Number.NaN, 1, -2, Number.POSITIVE_INFINITY, 4]);
});

test('outputs that are asked for: some, in their order, each in its form', () => {
  const asked = [
    { name: 'logit', binary: true },
    { name: 'probability', binary: false },
  ];
  const given = writer.given({ binary: false, outputs: asked });
  const { json, bytes } = read(writer.write(2, arrays, given));
  assert.deepEqual(json.outputs, [
    { name: 'logit', datatype: 'FP32', shape: [2, 2], parameters: { binary_data_size: 16 } },
    { name: 'probability', datatype: 'FP32', shape: [2, 1], data: [0.25, null] },
  ]);
  assert.deepEqual(floats(bytes), [1, -2, Number.POSITIVE_INFINITY, 4]);
  const one = writer.given({ binary: true, outputs: [{ name: 'probability', binary: true }] });
  assert.deepEqual(floats(read(writer.write(2, arrays, one)).bytes), [0.25, Number.NaN]);
});

test('arrays may be views, and batches empty', () => {
  const memory = Float32Array.of(9, 8, 7, 6);
  const views = [memory.subarray(1, 3), memory.subarray(0, 0)];
  const given = writer.given({ binary: true, outputs: [{ name: 'probability', binary: true }] });
  assert.deepEqual(floats(read(writer.write(2, views, given)).bytes), [8, 7]);
  const none = read(
    writer.write(0, [new Float32Array(), new Float32Array()], writer.given({ binary: true })),
  );
  assert.deepEqual(none.json.outputs[0].shape, [0, 1]);
  assert.equal(none.bytes.length, 0);
});

test('outputs that the model has not', () => {
  for (const name of ['Probability', '', '__proto__', 'x'.repeat(10_000)])
    assert.throws(() => writer.given({ binary: true, outputs: [{ name, binary: true }] }), {
      code: 'OUTPUT_UNKNOWN',
      hint: 'its outputs are probability, logit',
    });
});
