import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as errors from '../../../src/errors.ts';
import { receivedError, sentError } from '../../../src/serve/engine/thread-errors.ts';

/** As threads send it. */
const sent = (error: unknown) => receivedError(structuredClone(sentError(error)));

test('every class of Hotrow’s arrives as its own, with code and hint', () => {
  const classes = Object.values(errors).filter(
    (one): one is typeof errors.UsageError =>
      typeof one === 'function' && Object.getPrototypeOf(one) === errors.HotrowError,
  );
  assert.ok(classes.length >= 10);
  for (const Class of classes) {
    const error = new Class('USAGE', `what is wrong: ${Class.name}`, { hint: 'do this' });
    const received = sent(error);
    assert.equal(Object.getPrototypeOf(received), Class.prototype, Class.name);
    const { name, message, code, hint, stack } = received as errors.HotrowError;
    assert.deepEqual(
      { name, message, code, hint, stack },
      { name: Class.name, message: error.message, code: 'USAGE', hint: 'do this', stack: error.stack },
    );
  }
});

test('a class that comes from another arrives as that one, by its own name', () => {
  class SomeDeviceError extends errors.DeviceError {}
  const error = new SomeDeviceError('CUDA_FAILED', 'a call failed');
  const received = sent(error);
  assert.ok(received instanceof errors.DeviceError);
  assert.equal(received.name, 'SomeDeviceError');
  assert.equal(received.code, 'CUDA_FAILED');
  assert.equal(received.hint, error.hint);
});

test('a log keeps its lines', () => {
  const error = new errors.DeviceError('KERNEL_COMPILE_FAILED', 'it does not compile', {
    log: 'line 1\nline 2',
  });
  assert.equal(error.message, 'it does not compile\nline 1\nline 2');
  assert.equal(sent(error).message, error.message);
});

test('other errors keep their names and texts, and what is none becomes one', () => {
  const error = new RangeError('out of range');
  const received = sent(error);
  assert.deepEqual(
    [received.name, received.message, received.stack],
    ['RangeError', 'out of range', error.stack],
  );
  assert.ok(!(received instanceof errors.HotrowError));
  assert.equal(sent('just text').message, 'just text');
  assert.equal(sent(undefined).message, 'undefined');
});
