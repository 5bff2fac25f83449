import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeviceError, ServeError } from '../../../src/errors.ts';
import {
  failureTrailers,
  isGrpc,
  packingOf,
  percentEncoded,
  timeoutOf,
} from '../../../src/serve/grpc/status.ts';
import { errorAnswer } from '../../../src/serve/protocol/error-answer.ts';
import fc from '../../support/properties.ts';

test('texts are printable ASCII, of bounded length, and come back', () => {
  assert.equal(percentEncoded('50 % näh\n東😀'), '50 %25 n%C3%A4h%0A%E6%9D%B1%F0%9F%98%80');
  fc.assert(
    fc.property(fc.string({ unit: 'binary', size: 'max', maxLength: 3000 }), (text) => {
      const encoded = percentEncoded(text);
      assert.match(encoded, /^[ -~]*$/);
      assert.ok(encoded.length <= 1500);
      const whole = Buffer.from(text).toString();
      const back = decodeURIComponent(encoded);
      if (encoded.length < 1400) assert.equal(back, whole);
      else assert.ok(whole.startsWith(back));
    }),
  );
});

test('timeouts', () => {
  const ms = (given: string) => timeoutOf({ 'grpc-timeout': given });
  assert.equal(timeoutOf({}), undefined);
  for (const [given, wanted] of [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3000],
    ['99999999m', 99_999_999],
    ['5000u', 5],
    ['1000000n', 1],
  ] as const)
    assert.equal(ms(given), wanted, given);
  for (const given of [
    '',
    '1',
    'S',
    '-1S',
    '+1S',
    '1.5S',
    '1e3S',
    ' 1S',
    '1S ',
    '1s',
    '1h',
    '123456789n',
    '1SS',
    '٣S',
  ])
    assert.throws(() => ms(given), { code: 'REQUEST_INVALID' }, given);
  assert.throws(() => ms('0n'), { code: 'DEADLINE_EXCEEDED' });
});

test('types and encodings', () => {
  for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc; x=y'])
    assert.ok(isGrpc({ 'content-type': type }), type);
  for (const type of [
    undefined,
    '',
    'application/grpc-web',
    'application/grpc+json',
    'text/plain',
    'xapplication/grpc',
  ])
    assert.ok(!isGrpc(type === undefined ? {} : { 'content-type': type }), type);
  assert.equal(packingOf({}), undefined);
  assert.equal(packingOf({ 'grpc-encoding': 'identity' }), undefined);
  assert.equal(packingOf({ 'grpc-encoding': 'gzip' }), 'gzip');
  assert.throws(() => packingOf({ 'grpc-encoding': 'deflate' }), { code: 'CONTENT_UNSUPPORTED' });
});

test('what failed says when to try again where that helps', () => {
  const of = (error: Error, ms?: number) =>
    failureTrailers(errorAnswer(error, ms === undefined ? {} : { retryAfterMs: ms }), ms);
  const overloaded = of(new DeviceError('OVERLOADED', 'x', { hint: 'y' }), 1500.2);
  assert.deepEqual(overloaded, {
    'grpc-status': '8',
    'grpc-message': 'OVERLOADED: x (y)',
    'hotrow-code': 'OVERLOADED',
    'retry-after': '2',
    'grpc-retry-pushback-ms': '1501',
  });
  assert.equal(of(new ServeError('SHUTTING_DOWN', 'x'))['grpc-retry-pushback-ms'], '1000');
  assert.equal(of(new DeviceError('OVERLOADED', 'x'), 0)['grpc-retry-pushback-ms'], '1');
  assert.equal(of(new ServeError('MODEL_UNKNOWN', 'x'))['retry-after'], undefined);
  assert.equal(of(new ServeError('CONTENT_UNSUPPORTED', 'x'))['grpc-accept-encoding'], 'identity,gzip');
});
