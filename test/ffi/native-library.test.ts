/** Calls into the CPU library: how many at once, what they keep alive, what their statuses mean. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { addressOf, copyAll } from '../../src/ffi/host-memory.ts';
import { updateRows } from '../../src/ffi/move-rows.ts';
import { checkRun, inBackground, library } from '../../src/ffi/native-library.ts';
import { garbageCollector } from '../../src/garbage-collector.ts';

const gc = garbageCollector();

async function collectGarbage(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await setImmediate();
    gc();
  }
}

type Callback = (error: unknown, result: number) => void;

/** A native function that keeps nothing of a call. */
const forgetful = { async: () => {} };

/** What a call is given, held by nobody else. */
function given(): { readonly args: object[]; readonly alive: () => boolean } {
  const args = [new Float32Array(1000), { of: 'the call' }];
  const refs = args.map((arg) => new WeakRef(arg));
  return { args, alive: () => refs.every((ref) => ref.deref() !== undefined) };
}

/** Begins a call in a frame of its own, which keeps nothing. */
function begin(native: { async(...args: unknown[]): void }): () => boolean {
  const own = given();
  const reached = given();
  void inBackground(native, own.args.splice(0), reached.args.splice(0));
  return () => own.alive() && reached.alive();
}

test('a call keeps its arguments, and what they reach, until it returns and no longer', async () => {
  const kept = begin(forgetful);
  let end: Callback = () => {};
  const ended = begin({
    async: (...args) => {
      end = args.at(-1) as Callback;
    },
  });
  await collectGarbage();
  assert.ok(kept(), 'under way');
  assert.ok(ended(), 'under way');
  end(undefined, 0);
  end = () => {};
  await collectGarbage();
  assert.equal(ended(), false, 'over');
  assert.ok(kept(), 'under way still');
});

test('updates of rows and copies keep the arrays whose addresses they gave', async (t) => {
  const functions = library() as unknown as Record<string, unknown>;
  for (const name of ['updateRows', 'copyAll']) {
    const own = functions[name];
    functions[name] = forgetful;
    t.after(() => {
      functions[name] = own;
    });
  }
  const array = <A extends Float32Array | BigInt64Array | Uint8Array>(made: A): [A, () => boolean] => {
    const ref = new WeakRef(made);
    return [made, () => ref.deref() !== undefined];
  };
  const alive = (() => {
    const [numbers, a] = array(new BigInt64Array(1000));
    const [values, b] = array(new Uint8Array(8000));
    const rows = addressOf(new Float32Array(1));
    void updateRows({ rows, rowCount: 1, rowBytes: 8, numbers, values });
    const [source, c] = array(new Float32Array(1 << 18));
    const [target, d] = array(new Float32Array(1 << 18));
    void copyAll([{ source, target, bytes: source.byteLength }]);
    return () => [a(), b(), c(), d()];
  })();
  await collectGarbage();
  assert.deepEqual(alive(), [true, true, true, true]);
});

test('48 calls at a time, less those under way still; one that ends or fails lets the next begin', async () => {
  const running: Callback[] = [];
  const native = { async: (...args: unknown[]) => void running.push(args.at(-1) as Callback) };
  const count = 120;
  const calls = Array.from({ length: count }, () => inBackground<number>(native, []).catch(() => -1));
  await setImmediate();
  const most = running.length;
  // Calls of other tests never return.
  assert.ok(most <= 48 && most >= 40, `${most} at once`);
  for (let ended = 0; ended < count; ended++) {
    assert.equal(running.length, Math.min(count, most + ended), `after ${ended}`);
    const [callback] = running.slice(ended) as [Callback];
    callback(ended % 3 === 0 ? new Error('failed') : undefined, ended);
    await setImmediate();
  }
  assert.deepEqual(
    await Promise.all(calls),
    Array.from({ length: count }, (_, i) => (i % 3 === 0 ? -1 : i)),
  );
  // All places are free again.
  const again = Array.from({ length: most }, () => inBackground<number>(native, []));
  await setImmediate();
  assert.equal(running.length, count + most);
  for (const callback of running.splice(count)) callback(undefined, 0);
  await Promise.all(again);
});

test('statuses', () => {
  checkRun(0);
  for (const [status, code] of [
    [2, 'ARRAYS_CHANGED'],
    [-2, 'OUT_OF_MEMORY'],
    [-1, 'KERNEL_FAILED'],
    [1, 'KERNEL_FAILED'],
  ] as const)
    assert.throws(() => checkRun(status), { code });
});
