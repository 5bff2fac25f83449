import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  abortError,
  abortSignal,
  isAborted,
  onAbort,
  throwIfAborted,
  untilAborted,
} from '../../src/checks/abort.ts';
import { AbortError, UsageError } from '../../src/errors.ts';

test('an AbortSignal is taken, anything else is refused', () => {
  const { signal } = new AbortController();
  assert.equal(abortSignal(signal, 'signal'), signal);
  const refused = [undefined, null, {}, { aborted: false }, new EventTarget(), new Proxy(signal, {})];
  for (const value of [...refused, Object.create(AbortSignal.prototype)])
    assert.throws(() => abortSignal(value, 'signal'), UsageError);
});

test('what a caller put in front of a signal’s members is not run', () => {
  const controller = new AbortController();
  const { signal } = controller;
  const hostile = () => {
    throw new Error('run');
  };
  for (const name of ['aborted', 'reason', 'throwIfAborted', 'addEventListener', 'removeEventListener'])
    Object.defineProperty(signal, name, { get: hostile });
  abortSignal(signal, 'signal');
  let told = 0;
  onAbort(signal, () => told++);
  onAbort(signal, () => (told += 10))[Symbol.dispose]();
  assert.equal(isAborted(signal), false);
  throwIfAborted(signal, 'work');
  controller.abort('why');
  assert.equal(told, 1);
  assert.equal(isAborted(signal), true);
});

test('the error is named as the platform names it, and has the reason as its cause', () => {
  const signal = AbortSignal.abort('why');
  const expected = { name: 'AbortError', code: 'ABORTED', message: 'predict was aborted', cause: 'why' };
  assert.throws(() => throwIfAborted(signal, 'predict'), expected);
  assert.ok(abortError(signal, 'x') instanceof AbortError);
  throwIfAborted(undefined, 'predict');
  assert.equal(isAborted(undefined), false);
});

test('a wait ends with its work, or with the signal, whichever is first', async () => {
  const never = new Promise<string>(() => {});
  const { signal } = new AbortController();
  assert.equal(await untilAborted(Promise.resolve('made'), signal, 'waiting'), 'made');
  assert.equal(await untilAborted(Promise.resolve('made'), undefined, 'waiting'), 'made');
  await assert.rejects(untilAborted(Promise.reject(new Error('wrong')), signal, 'waiting'), /wrong/);
  const controller = new AbortController();
  const waiting = untilAborted(never, controller.signal, 'waiting');
  controller.abort('why');
  const expected = { code: 'ABORTED', message: 'waiting was aborted', cause: 'why' };
  await assert.rejects(waiting, expected);
  await assert.rejects(untilAborted(never, controller.signal, 'waiting'), expected);
  // A failure that nobody waits for is no unhandled rejection.
  await assert.rejects(
    untilAborted(Promise.reject(new Error('late')), controller.signal, 'waiting'),
    expected,
  );
});
