import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessLine, eventLine } from '../../../src/serve/recording/log-lines.ts';
import fc from '../../support/properties.ts';

const TIME = Date.UTC(2025, 0, 2, 3, 4, 5, 678);

test('a line says what became of a request', () => {
  const line = accessLine({
    time: TIME,
    protocol: 'http',
    method: 'POST',
    path: '/v2/models/ads/infer',
    model: 'ads',
    status: 200,
    samples: 270,
    bytes: 92_000,
    answerBytes: 1080,
    queueMs: 0.12345678,
    computeMs: 1.5,
    totalMs: 2.0004,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  });
  assert.equal(
    line,
    '{"time":"2025-01-02T03:04:05.678Z","protocol":"http","method":"POST","path":"/v2/models/ads/infer","model":"ads","status":200,"samples":270,"bytes":92000,"answerBytes":1080,"queueMs":0.123,"computeMs":1.5,"totalMs":2,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
  );
});

test('what is not known is left out', () => {
  const entry = {
    time: TIME,
    protocol: 'grpc',
    method: 'GET',
    path: '/',
    status: 404,
    code: 'ROUTE_UNKNOWN',
    bytes: 0,
  };
  const line = accessLine({ ...entry, totalMs: Number.NaN, queueMs: undefined, model: undefined });
  assert.deepEqual(Object.keys(JSON.parse(line)), [
    'time',
    'protocol',
    'method',
    'path',
    'status',
    'code',
    'bytes',
  ]);
});

test('whatever others send is one printable line of bounded length', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', size: 'max', maxLength: 3000 }),
    fc.string({
      size: 'max',
      unit: fc.constantFrom('\n', '\u202e', '\ud800', '"', '\\', '😀', '\u{e0041}'),
      maxLength: 3000,
    }),
  );
  const isPrintable = (line: string) => {
    assert.doesNotMatch(
      line,
      /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/u,
    );
    assert.ok(line.length < 12_000 + 16 * 3000);
    return JSON.parse(line);
  };
  fc.assert(
    fc.property(text, text, (one, other) => {
      const access = isPrintable(
        accessLine({
          time: TIME,
          protocol: 'http',
          method: one,
          path: other,
          model: one,
          code: other,
          traceparent: one,
          status: 1,
          bytes: 0,
          totalMs: 0,
        }),
      );
      if (other.length <= 300) assert.equal(access.path, other);
      else assert.ok(access.path.length <= 301 && other.startsWith(access.path.slice(0, -1)));
      const fields = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`${i}${one}`, other]));
      const event = isPrintable(
        eventLine({ time: TIME, level: 'error', event: one, message: other, fields }),
      );
      assert.ok(Object.keys(event).length <= 4 + 16);
    }),
    // Long texts take minutes to be made shorter.
    { endOnFailure: true },
  );
});

test('fields of an event do not replace what every line has', () => {
  const fields = {
    model: 'ads',
    version: 2,
    time: 'never',
    message: 'other',
    level: 'x',
    event: 'y',
    none: undefined,
  };
  const line = eventLine({
    time: Number.POSITIVE_INFINITY,
    level: 'info',
    event: 'model-loaded',
    message: 'm',
    fields,
  });
  assert.deepEqual(JSON.parse(line), {
    time: '+275760-09-13T00:00:00.000Z',
    level: 'info',
    event: 'model-loaded',
    message: 'm',
    model: 'ads',
    version: 2,
  });
  assert.match(eventLine({ time: Number.NaN, level: 'info', event: 'e', message: '' }), /1970-01-01/);
});
