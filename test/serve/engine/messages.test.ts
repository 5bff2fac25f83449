import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Answered,
  OUTCOMES,
  type PostedRequest,
  postAnswer,
  postCancel,
  postRequest,
  readAnswer,
  readRequest,
  TO_ENGINE,
} from '../../../src/serve/engine/messages.ts';
import { RingReader, RingWriter, ringMemory } from '../../../src/serve/engine/ring.ts';

function through<T>(
  write: (ring: RingWriter) => boolean,
  read: (entries: Float64Array, place: number) => T,
): T[] {
  const memory = ringMemory(4);
  // Not the first entry: places count.
  new RingWriter(memory).push(1, 2, 3, 4, 5, 6, 7, 8);
  new RingReader(memory).drain(() => {});
  assert.equal(write(new RingWriter(memory)), true);
  const messages: T[] = [];
  new RingReader(memory).drain((entries, place) => messages.push(read(entries, place)));
  return messages;
}

test('a request arrives as it was posted', () => {
  const request: PostedRequest = {
    ticket: 2 ** 40 + 1,
    slotAddress: 2 ** 47 + 64,
    outputAddress: 2 ** 47 + 128,
    samples: 270,
    deadlineMs: Number.POSITIVE_INFINITY,
    priority: 4,
    arrivedMs: 123_456_789.125,
  };
  const read = (entries: Float64Array, place: number) => {
    assert.equal(entries[place], TO_ENGINE.request);
    return readRequest(entries, place, 3);
  };
  assert.deepEqual(
    through((ring) => postRequest(ring, request), read),
    [{ ...request, from: 3 }],
  );
});

test('a request that is given up is told by its ticket', () => {
  const read = (entries: Float64Array, place: number) => [entries[place], entries[place + 1]];
  assert.deepEqual(
    through((ring) => postCancel(ring, 77), read),
    [[TO_ENGINE.cancel, 77]],
  );
});

test('an answer of every outcome arrives as it was posted', () => {
  for (const outcome of OUTCOMES) {
    const answered: Answered = {
      ticket: 9,
      outcome,
      retryAfterMs: 1.5,
      queueMs: 2.5,
      mergeMs: 3.5,
      computeMs: 4.5,
      copyMs: 5.5,
      endedMs: 123_456_790.5,
    };
    assert.deepEqual(
      through((ring) => postAnswer(ring, answered), readAnswer),
      [answered],
    );
  }
});

test('nothing is posted to a full queue', () => {
  const ring = new RingWriter(ringMemory(1));
  assert.equal(postCancel(ring, 1), true);
  assert.equal(postCancel(ring, 2), false);
});
