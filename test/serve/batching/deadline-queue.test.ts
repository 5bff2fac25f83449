import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeadlineQueue, type Place } from '../../../src/serve/batching/deadline-queue.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

interface Entry {
  readonly name: number;
  readonly samples: number;
  readonly deadlineMs: number;
}

/** Everything in order, taken out. */
function drained(queue: DeadlineQueue<Entry>): Entry[] {
  const all: Entry[] = [];
  for (let { first } = queue; first !== undefined; first = queue.first) {
    all.push(first.request);
    queue.remove(first);
  }
  return all;
}

test('an empty queue has nothing due', () => {
  const queue = new DeadlineQueue<Entry>();
  assert.equal(queue.first, undefined);
  assert.equal(queue.size, 0);
  assert.equal(queue.samples, 0);
  assert.equal(queue.samplesDueBy(Number.POSITIVE_INFINITY), 0);
});

test('the earliest deadline is first; equal ones keep the order of their arrival', () => {
  const queue = new DeadlineQueue<Entry>();
  const deadlines = [5, 3, Number.POSITIVE_INFINITY, 3, 5, -1, Number.POSITIVE_INFINITY, 3];
  for (const [name, deadlineMs] of deadlines.entries()) queue.add({ name, samples: 1, deadlineMs });
  assert.deepEqual(
    drained(queue).map(({ name }) => name),
    [5, 1, 3, 7, 0, 4, 2, 6],
  );
});

test('random adds and removals do as a sorted list', () => {
  const random = new Random(SEED);
  const queue = new DeadlineQueue<Entry>();
  let list: Place<Entry>[] = [];
  for (let name = 0; name < 5000; name++) {
    if (list.length > 0 && random.next() < 0.48) {
      const place = random.next() < 0.3 ? (list[0] as Place<Entry>) : random.pick(list);
      queue.remove(place);
      list = list.filter((other) => other !== place);
    } else {
      const request = { name, samples: random.integer(0, 9), deadlineMs: random.integer(0, 50) };
      const after = list.findLastIndex((other) => other.request.deadlineMs <= request.deadlineMs);
      list.splice(after + 1, 0, queue.add(request));
    }
    const by = random.integer(-1, 51);
    const due = list.filter(({ request }) => request.deadlineMs <= by);
    assert.equal(
      queue.samplesDueBy(by),
      due.reduce((sum, { request }) => sum + request.samples, 0),
    );
    assert.equal(
      queue.samples,
      list.reduce((sum, { request }) => sum + request.samples, 0),
    );
    assert.equal(queue.size, list.length);
    assert.equal(queue.first, list[0]);
  }
  assert.ok(list.length > 50, 'the queue was long enough to say something');
  assert.deepEqual(
    drained(queue),
    list.map(({ request }) => request),
  );
});

/** Counts the deadlines that are read: the nodes that an operation visits. */
test('adds in any order visit few nodes', () => {
  const random = new Random(SEED);
  for (const deadlineOf of [(i: number) => i, (i: number) => -i, () => random.next(), () => 7]) {
    let reads = 0;
    const queue = new DeadlineQueue<Entry>();
    for (let i = 0; i < 20_000; i++) {
      const due = deadlineOf(i);
      queue.add({
        name: i,
        samples: 1,
        get deadlineMs() {
          reads++;
          return due;
        },
      });
    }
    assert.ok(reads < 20_000 * 2 * 40, `${reads} reads`);
  }
});
