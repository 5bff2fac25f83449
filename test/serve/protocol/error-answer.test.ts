import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AbortError,
  DeviceError,
  FormatError,
  type HotrowError,
  ModelError,
  RequestError,
  ServeError,
  type ServeErrorCode,
  WorkloadError,
} from '../../../src/errors.ts';
import { errorAnswer } from '../../../src/serve/protocol/error-answer.ts';

test('an answer says code, message and hint', () => {
  const error = new RequestError('TENSOR_SHAPE', 'dense has "3" columns', { hint: 'give 2' });
  const { body, ...rest } = errorAnswer(error);
  const message = 'TENSOR_SHAPE: dense has "3" columns (give 2)';
  assert.deepEqual(rest, { status: 400, grpcStatus: 3, code: 'TENSOR_SHAPE', message, headers: {} });
  assert.deepEqual(JSON.parse(body), { error: message, code: 'TENSOR_SHAPE', hint: 'give 2' });
});

test('statuses', () => {
  const serve = (code: ServeErrorCode) => new ServeError(code, 'x');
  const cases: [HotrowError, number, number][] = [
    [new RequestError('INDEX_OUT_OF_RANGE', 'x'), 400, 3],
    [new RequestError('REQUEST_INVALID', 'x'), 400, 3],
    [new RequestError('ARRAYS_CHANGED', 'x'), 500, 13],
    [new FormatError('JSON_INVALID', 'x'), 400, 3],
    [new FormatError('SAFETENSORS_INVALID', 'x'), 400, 3],
    [new FormatError('FILE_CHANGED', 'x'), 500, 13],
    [new WorkloadError('VOCABULARY_INVALID', 'x'), 500, 13],
    [new ModelError('MODEL_TOO_LARGE', 'x'), 500, 13],
    [new DeviceError('OVERLOADED', 'x'), 503, 8],
    [new DeviceError('OUT_OF_MEMORY', 'x'), 503, 8],
    [new DeviceError('DISPOSED', 'x'), 503, 14],
    [new DeviceError('CUDA_FAILED', 'x'), 500, 13],
    [new AbortError('ABORTED', 'x'), 499, 1],
    [serve('ROUTE_UNKNOWN'), 404, 12],
    [serve('METHOD_NOT_ALLOWED'), 405, 12],
    [serve('UNAUTHENTICATED'), 401, 16],
    [serve('ORIGIN_FORBIDDEN'), 403, 7],
    [serve('MODEL_UNKNOWN'), 404, 5],
    [serve('OUTPUT_UNKNOWN'), 400, 3],
    [serve('BODY_TOO_LARGE'), 413, 8],
    [serve('CONTENT_UNSUPPORTED'), 415, 12],
    [serve('DEADLINE_UNMEETABLE'), 503, 14],
    [serve('DEADLINE_EXCEEDED'), 504, 4],
    [serve('SHUTTING_DOWN'), 503, 14],
  ];
  for (const [error, status, grpcStatus] of cases) {
    const answer = errorAnswer(error);
    assert.deepEqual([answer.status, answer.grpcStatus], [status, grpcStatus], error.code);
    assert.equal(answer.headers['retry-after'], status === 503 ? '1' : undefined, error.code);
    assert.equal(answer.headers['www-authenticate'], status === 401 ? 'Bearer realm="hotrow"' : undefined);
    assert.ok(error.hint.length > 0);
  }
});

test('when to try again, in whole seconds; what methods there are', () => {
  const overloaded = new DeviceError('OVERLOADED', 'x');
  for (const [retryAfterMs, seconds] of [
    [0, '1'],
    [1, '1'],
    [1000, '1'],
    [1001, '2'],
  ] as const)
    assert.equal(errorAnswer(overloaded, { retryAfterMs }).headers['retry-after'], seconds);
  assert.deepEqual(errorAnswer(new RequestError('TENSOR_SHAPE', 'x'), { retryAfterMs: 5 }).headers, {});
  assert.deepEqual(errorAnswer(new ServeError('METHOD_NOT_ALLOWED', 'x'), { allow: 'POST' }).headers, {
    allow: 'POST',
  });
});

test('of what nobody threw on purpose it says nothing', () => {
  for (const error of [
    new TypeError('secret'),
    'secret',
    undefined,
    { code: 'OVERLOADED', message: 'secret' },
  ]) {
    const { status, code, body } = errorAnswer(error);
    assert.deepEqual([status, code], [500, 'INTERNAL']);
    assert.doesNotMatch(body, /secret/);
  }
});
