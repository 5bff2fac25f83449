/**
 * AbortSignals of callers. They are read as the platform made them, whatever was put in front of their members, so that none of
 * a caller's code runs where a call under way looks at its signal.
 */
import { types } from 'node:util';
import { deferred } from '../deferred.ts';
import { AbortError } from '../errors.ts';
import { type Check, reading, refuseOption } from './value.ts';

function getterOf(name: 'aborted' | 'reason'): (this: AbortSignal) => unknown {
  return Object.getOwnPropertyDescriptor(AbortSignal.prototype, name)?.get as () => unknown;
}

const aborted = getterOf('aborted');
const reason = getterOf('reason');
const { addEventListener, removeEventListener } = EventTarget.prototype;

/** An AbortSignal. */
export const abortSignal: Check<AbortSignal> = (value, at) => {
  // A proxy of one runs its traps whenever it is looked at.
  const own = reading(at, () => (value instanceof AbortSignal && !types.isProxy(value) ? value : undefined));
  if (own === undefined) return refuseOption(at, value, 'an AbortSignal');
  // What only looks like one throws here, and not in the midst of a call.
  reading(at, () => {
    aborted.call(own);
    onAbort(own, () => {})[Symbol.dispose]();
  });
  return own;
};

export function isAborted(signal: AbortSignal | undefined): boolean {
  return signal !== undefined && aborted.call(signal) === true;
}

/** The error of a call that its caller gave up; `what` is the call. */
export function abortError(signal: AbortSignal, what: string): AbortError {
  return new AbortError('ABORTED', `${what} was aborted`, { cause: reason.call(signal) });
}

/** For long work, between its steps. @throws AbortError once `signal` is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal !== undefined && isAborted(signal)) throw abortError(signal, what);
}

/** Calls `then` once when `signal` is aborted, which it is not yet, until what is given back is disposed. */
export function onAbort(signal: AbortSignal, then: () => void): Disposable {
  addEventListener.call(signal, 'abort', then, { once: true });
  return { [Symbol.dispose]: () => removeEventListener.call(signal, 'abort', then) };
}

/** What `work` comes to, unless `signal` is aborted before: then nobody waits for it, and nobody hears of its failure. @throws AbortError. */
export async function untilAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  what: string,
): Promise<T> {
  if (signal === undefined) return work;
  work.catch(() => {});
  throwIfAborted(signal, what);
  const { promise, reject } = deferred<never>();
  using _ = onAbort(signal, () => reject(abortError(signal, what)));
  return await Promise.race([work, promise]);
}
