/** What is under way at once on a device, in which order, and what is refused. Nothing here waits for time. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, test } from 'node:test';
import { Admission, DEFAULT_LIMITS } from '../../src/backend/admission.ts';
import { AbortError, DeviceError } from '../../src/errors.ts';

/** Work that ends when told. */
class Job {
  readonly name: string;
  began = false;
  end: () => void = () => {};
  fail: (error: Error) => void = () => {};
  readonly work: () => Promise<string>;

  constructor(name: string) {
    this.name = name;
    const done = new Promise<string>((resolve, reject) => {
      this.end = () => resolve(name);
      this.fail = reject;
    });
    this.work = () => {
      this.began = true;
      return done;
    };
  }
}

const settle = async () => {
  for (let i = 0; i < 20; i++) await undefined;
};

function jobs(names: string): Job[] {
  return [...names].map((name) => new Job(name));
}

const begun = (all: readonly Job[]) =>
  all
    .filter(({ began }) => began)
    .map(({ name }) => name)
    .join('');

/** As calls do: at once where there is room. */
async function ask(admission: Admission, job: Job, bytes = 1, signal?: AbortSignal): Promise<string> {
  const turn = admission.enter({ bytes, what: 'predict', signal });
  using _turn = turn instanceof Promise ? await turn : turn;
  return await job.work();
}

test('so many run at once, the others begin in their order', async () => {
  const admission = new Admission({ programs: 2 });
  const all = jobs('abcde');
  const results = all.map((job) => ask(admission, job));
  assert.equal(begun(all), 'ab', 'what may run begins at once');
  assert.deepEqual(admission.state, { programs: 2, bytes: 2, waiting: 3 });
  all[1]?.end();
  await settle();
  assert.equal(begun(all), 'abc');
  all[0]?.fail(new Error('it failed'));
  await assert.rejects(results[0] as Promise<string>, /it failed/);
  await settle();
  assert.equal(begun(all), 'abcd');
  for (const job of all) job.end();
  assert.deepEqual(await Promise.all(results.slice(1)), ['b', 'c', 'd', 'e']);
  assert.deepEqual(admission.state, { programs: 0, bytes: 0, waiting: 0 });
});

test('a call never overtakes one that waits, however small it is', async () => {
  const admission = new Admission({ bytes: 10 });
  const all = jobs('abc');
  const [a, b, c] = all as [Job, Job, Job];
  const results = [ask(admission, a, 6), ask(admission, b, 6), ask(admission, c, 1)];
  await settle();
  assert.equal(begun(all), 'a');
  a.end();
  await settle();
  assert.equal(begun(all), 'abc');
  for (const job of all) job.end();
  await Promise.all(results);
});

test('one that takes more bytes than there may be runs alone', async () => {
  const admission = new Admission({ bytes: 10 });
  const all = jobs('abc');
  const [a, b, c] = all as [Job, Job, Job];
  const results = [ask(admission, a, 3), ask(admission, b, 100), ask(admission, c, 3)];
  await settle();
  assert.equal(begun(all), 'a');
  a.end();
  await settle();
  assert.equal(begun(all), 'ab');
  b.end();
  await settle();
  assert.equal(begun(all), 'abc');
  c.end();
  await Promise.all(results);
});

test('what was granted counts before it begins', async () => {
  const admission = new Admission({ programs: 1 });
  const all = jobs('abc');
  const [a, b, c] = all as [Job, Job, Job];
  const first = ask(admission, a);
  const second = ask(admission, b);
  a.end();
  await first;
  // b was told that it may go on; c comes at the same moment.
  const third = ask(admission, c);
  await settle();
  assert.equal(begun(all), 'ab');
  b.end();
  c.end();
  await Promise.all([second, third]);
});

test('past the queue calls are refused, and those that wait are not', async () => {
  const admission = new Admission({ programs: 1, waiting: 2 });
  const all = jobs('abcd');
  const results = all.slice(0, 3).map((job) => ask(admission, job));
  await assert.rejects(ask(admission, all[3] as Job), (error) => {
    assert.ok(error instanceof DeviceError);
    assert.equal(error.code, 'OVERLOADED');
    assert.match(error.message, /predict: 2 calls wait/);
    return true;
  });
  for (const job of all) job.end();
  assert.deepEqual(await Promise.all(results), ['a', 'b', 'c']);
  assert.equal(begun(all), 'abc');
  assert.equal(await ask(admission, all[3] as Job), 'd');
});

test('no queue: whoever cannot run at once is refused', async () => {
  const admission = new Admission({ programs: 1, waiting: 0 });
  const [a, b] = jobs('ab') as [Job, Job];
  const first = ask(admission, a);
  await assert.rejects(ask(admission, b), { code: 'OVERLOADED' });
  a.end();
  assert.equal(await first, 'a');
});

describe('AbortSignal', () => {
  test('a call that is aborted before does not begin', async () => {
    const admission = new Admission();
    const [a] = jobs('a') as [Job];
    await assert.rejects(ask(admission, a, 1, AbortSignal.abort('why')), (error) => {
      assert.ok(error instanceof AbortError);
      assert.equal(error.cause, 'why');
      return true;
    });
    assert.equal(a.began, false);
    assert.equal(admission.state.programs, 0);
  });

  test('one that waits gives its place up at once', async () => {
    const admission = new Admission({ programs: 1, waiting: 1 });
    const all = jobs('abc');
    const [a, b, c] = all as [Job, Job, Job];
    const controller = new AbortController();
    const first = ask(admission, a);
    const second = ask(admission, b, 1, controller.signal);
    controller.abort();
    await assert.rejects(second, { code: 'ABORTED', name: 'AbortError' });
    assert.deepEqual(admission.state, { programs: 1, bytes: 1, waiting: 0 });
    const third = ask(admission, c);
    a.end();
    c.end();
    assert.deepEqual(await Promise.all([first, third]), ['a', 'c']);
    assert.equal(begun(all), 'ac');
  });

  test('those behind one that needed more room go on when it is given up', async () => {
    const admission = new Admission({ bytes: 10 });
    const all = jobs('abc');
    const [a, b, c] = all as [Job, Job, Job];
    const controller = new AbortController();
    const results = [ask(admission, a, 6), ask(admission, c, 3)];
    const large = ask(admission, b, 6, controller.signal);
    const behind = jobs('d')[0] as Job;
    results.push(ask(admission, behind, 1));
    await settle();
    assert.equal(behind.began, false);
    controller.abort();
    await assert.rejects(large, { code: 'ABORTED' });
    await settle();
    assert.equal(behind.began, true);
    for (const job of [...all, behind]) job.end();
    await Promise.all(results);
  });

  test('one under way keeps its place until it ends', async () => {
    const admission = new Admission({ programs: 1 });
    const [a, b] = jobs('ab') as [Job, Job];
    const controller = new AbortController();
    const first = ask(admission, a, 1, controller.signal);
    const second = ask(admission, b);
    controller.abort();
    await settle();
    assert.equal(b.began, false, 'its arrays are still read');
    a.end();
    await first;
    b.end();
    assert.equal(await second, 'b');
  });

  test('a signal that is aborted later does nothing', async () => {
    const admission = new Admission({ programs: 1 });
    const [a, b] = jobs('ab') as [Job, Job];
    const controller = new AbortController();
    const first = ask(admission, a);
    const second = ask(admission, b, 1, controller.signal);
    a.end();
    b.end();
    assert.deepEqual(await Promise.all([first, second]), ['a', 'b']);
    controller.abort();
    await settle();
    assert.deepEqual(admission.state, { programs: 0, bytes: 0, waiting: 0 });
  });
});

test('limits that are not given have their defaults', () => {
  assert.deepEqual(new Admission({ waiting: 3 }).limits, { ...DEFAULT_LIMITS, waiting: 3 });
});

test('what waits first begins first, also where room for a smaller one comes earlier', async () => {
  const admission = new Admission({ bytes: 10 });
  const all = jobs('abcd');
  const [a, b, c, d] = all as [Job, Job, Job, Job];
  const results = [ask(admission, a, 3), ask(admission, b, 3), ask(admission, c, 9), ask(admission, d, 1)];
  await settle();
  a.end();
  await settle();
  assert.equal(begun(all), 'ab');
  b.end();
  await settle();
  assert.equal(begun(all), 'abcd');
  for (const job of [c, d]) job.end();
  await Promise.all(results);
});

test('a call that began listens to its signal no more', async () => {
  const admission = new Admission({ programs: 1 });
  const { signal } = new AbortController();
  const [a, b] = jobs('ab') as [Job, Job];
  const results = [ask(admission, a, 1, signal), ask(admission, b, 1, signal)];
  await settle();
  assert.equal(getEventListeners(signal, 'abort').length, 1);
  a.end();
  await settle();
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  b.end();
  await Promise.all(results);
});
