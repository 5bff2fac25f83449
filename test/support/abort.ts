/** Calls that are given up: before they begin, in the midst, and when they are done. */
import assert from 'node:assert/strict';
import type { OnProgress } from '../../src/progress.ts';

/** What a call is given. */
export interface Watch {
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
}

const ABORTED = { name: 'AbortError', code: 'ABORTED', cause: 'why' };

/** A call whose signal was aborted before does nothing. */
export async function assertAbortedBefore(call: (watch: Watch) => Promise<unknown>): Promise<void> {
  const steps: string[] = [];
  const onProgress: OnProgress = (what) => steps.push(what);
  await assert.rejects(call({ signal: AbortSignal.abort('why'), onProgress }), ABORTED);
  assert.deepEqual(steps, []);
}

/**
 * A call that is given up at step `n` of what `what` names ends there. `midst`: called right before, for what the call holds then.
 */
export async function assertAbortedAt(
  what: RegExp,
  n: number | undefined,
  call: (watch: Watch) => Promise<unknown>,
  midst: () => void = () => {},
): Promise<void> {
  const controller = new AbortController();
  const later: string[] = [];
  const onProgress: OnProgress = (step, at) => {
    if (controller.signal.aborted) later.push(step);
    else if (what.test(step) && at === n) {
      midst();
      controller.abort('why');
    }
  };
  await assert.rejects(call({ signal: controller.signal, onProgress }), ABORTED);
  assert.ok(controller.signal.aborted, 'the step was reached');
  assert.deepEqual(later, [], 'nothing was begun after it');
}

/** A call that is done does not hear of its signal any more. @returns what it gave. */
export async function abortedAfter<T>(call: (watch: Watch) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const given = await call({ signal: controller.signal, onProgress: () => {} });
  controller.abort('why');
  return given;
}
