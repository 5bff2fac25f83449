import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nowMs } from '../../../src/serve/engine/clock.ts';
import {
  type Answered,
  type PostedRequest,
  postAnswer,
  readRequest,
  TO_ENGINE,
} from '../../../src/serve/engine/messages.ts';
import { Bell, RingReader, RingWriter, ringMemory } from '../../../src/serve/engine/ring.ts';
import { EngineLine, type EngineQueues, Engines } from '../../../src/serve/requests/engine-lines.ts';

const word = () => new SharedArrayBuffer(4);
const queuesOf = (capacity: number): EngineQueues => ({
  requests: ringMemory(capacity),
  answers: ringMemory(capacity),
  bell: word(),
  load: word(),
});
const request = (samples: number): Omit<PostedRequest, 'ticket'> => ({
  slotAddress: 64,
  outputAddress: 128,
  samples,
  deadlineMs: Number.POSITIVE_INFINITY,
  priority: 4,
  arrivedMs: 1,
});
const answer = (ticket: number, outcome: Answered['outcome'] = 'done'): Answered => ({
  ticket,
  outcome,
  retryAfterMs: 0,
  queueMs: 1,
  mergeMs: 2,
  computeMs: 3,
  copyMs: 4,
  endedMs: 6,
});

/** The engine's end of a line. */
function engineEnd({ requests, answers }: EngineQueues) {
  const [reader, writer] = [new RingReader(requests), new RingWriter(answers)];
  return {
    read() {
      const messages: (PostedRequest | number)[] = [];
      reader.drain((entries, place) => {
        messages.push(
          entries[place] === TO_ENGINE.request
            ? readRequest(entries, place, 2)
            : (entries[place + 1] as number),
        );
      });
      return messages;
    },
    answer: (answered: Answered) => postAnswer(writer, answered),
  };
}

test('a request is posted, counted until its answer, and answered once', async () => {
  const queues = queuesOf(8);
  const [line, end, bell] = [new EngineLine(queues, 8), engineEnd(queues), new Bell(queues.bell)];
  bell.look();
  const [first, second] = [line.post(request(3)), line.post(request(4))];
  assert.ok(first !== undefined && second !== undefined);
  assert.notEqual(first.ticket, second.ticket);
  await new Promise((turn) => setImmediate(turn));
  assert.equal(bell.wait(), undefined, 'the engine is woken');
  assert.deepEqual([line.waiting, line.load], [2, 7]);
  assert.equal(new EngineLine(queues, 8).load, 7, 'other threads see it');
  assert.deepEqual(end.read(), [
    { ...request(3), ticket: first.ticket, from: 2 },
    { ...request(4), ticket: second.ticket, from: 2 },
  ]);
  end.answer(answer(second.ticket, 'late'));
  end.answer(answer(second.ticket));
  end.answer(answer(99));
  line.receive();
  assert.deepEqual(await second.answered, answer(second.ticket, 'late'));
  assert.deepEqual([line.waiting, line.load], [1, 3]);
  end.answer(answer(first.ticket));
  line.receive();
  assert.deepEqual(await first.answered, answer(first.ticket));
  assert.deepEqual([line.waiting, line.load], [0, 0]);
});

test('a request that waits is given up; one that was answered is not', () => {
  const queues = queuesOf(8);
  const [line, end] = [new EngineLine(queues, 8), engineEnd(queues)];
  const posted = line.post(request(1));
  assert.ok(posted !== undefined);
  end.read();
  line.cancel(99);
  line.cancel(posted.ticket);
  assert.deepEqual(end.read(), [posted.ticket]);
  assert.equal(line.waiting, 1, 'its answer is still to come');
  end.answer(answer(posted.ticket, 'cancelled'));
  line.receive();
  line.cancel(posted.ticket);
  assert.deepEqual(end.read(), []);
});

test('there is room for every request, for giving it up, and for its answer', async () => {
  const queues = queuesOf(8);
  const [line, end] = [new EngineLine(queues, 8), engineEnd(queues)];
  for (let round = 0; round < 3; round++) {
    const posted = [1, 2, 3, 4].map((samples) => line.post(request(samples)));
    assert.equal(line.post(request(5)), undefined);
    assert.deepEqual([line.waiting, line.load], [4, 10]);
    for (const one of posted) line.cancel(one?.ticket as number);
    assert.equal(end.read().length, 8);
    for (const one of posted) assert.equal(end.answer(answer(one?.ticket as number)), true);
    line.receive();
    assert.equal((await Promise.all(posted.map((one) => one?.answered))).length, 4);
    assert.deepEqual([line.waiting, line.load], [0, 0]);
  }
});

test('where the queue is full all the same, nothing is posted and nothing is left waiting', () => {
  const queues = queuesOf(4);
  const [line, end] = [new EngineLine(queues, 4), engineEnd(queues)];
  const one = line.post(request(1));
  for (let i = 0; i < 5; i++) line.cancel(one?.ticket as number);
  assert.equal(line.post(request(1)), undefined);
  assert.deepEqual([line.waiting, line.load], [1, 1]);
  assert.equal(end.read().length, 4);
  assert.ok(line.post(request(1)) !== undefined);
});

for (const pollMs of [0, 1, 60_000])
  test(`answers of all engines are handed on until it is stopped, polling ${pollMs} ms`, async () => {
    const queues = [queuesOf(8), queuesOf(8)];
    const bell = word();
    const engines = new Engines(bell, 8);
    const lines = queues.map((own, e) => engines.add(own, e * pollMs));
    const receiving = engines.receive();
    using _alive = setInterval(() => {}, 60_000);
    for (let round = 0; round < 5; round++) {
      const posted = lines.map((line) => line.post(request(1)));
      assert.equal(engines.waiting, 2);
      for (const [e, own] of queues.entries()) {
        engineEnd(own).answer(answer(posted[e]?.ticket as number));
        new Bell(bell).ring();
      }
      await Promise.all(posted.map((one) => one?.answered));
      assert.equal(engines.waiting, 0);
    }
    for (const line of lines) {
      assert.ok(line.post(request(1)) !== undefined);
      engines.remove(line);
    }
    assert.equal(engines.waiting, 0);
    engines.stop();
    await receiving;
  });

test('who posts several requests in a turn rings once', async () => {
  const queues = queuesOf(8);
  const line = new EngineLine(queues, 8);
  const rung = () => Atomics.load(new Int32Array(queues.bell), 0);
  for (const samples of [1, 2, 3]) line.post(request(samples));
  assert.equal(rung(), 0);
  await new Promise((turn) => setImmediate(turn));
  assert.equal(rung(), 1);
  line.cancel(0);
  await new Promise((turn) => setImmediate(turn));
  assert.equal(rung(), 2);
});

test('an engine is told an earlier deadline, by what answers take from it', () => {
  const queues = queuesOf(8);
  const [line, end] = [new EngineLine(queues, 8), engineEnd(queues)];
  const due = (deadlineMs: number) => {
    const posted = line.post({ ...request(1), arrivedMs: 1000, deadlineMs });
    const [read] = end.read() as PostedRequest[];
    end.answer(answer(posted?.ticket as number));
    line.receive();
    return read?.deadlineMs;
  };
  assert.equal(due(1100), 1100);
  const longAgo = nowMs() - 1e6;
  for (let i = 0; i < 200; i++) line.sent({ endedMs: longAgo });
  assert.equal(due(1100), 1075, 'a quarter of the time at most');
  assert.equal(due(Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY);
});
