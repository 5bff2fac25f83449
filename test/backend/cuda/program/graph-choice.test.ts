/** When a run is launched as a graph, and when that is a line of kernels. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  graphStreams,
  isGraphable,
  type LaneStreams,
} from '../../../../src/backend/cuda/program/graph-choice.ts';

const lookups = (bytes: number, follows = true) =>
  [
    {
      bags: { lookups: bytes / 64 },
      tables: { widestRowBytes: 64 },
      launches: () => (follows ? [] : undefined),
    },
  ] as never;
const both = (...all: unknown[][]) => all.flat() as never;

const HERE = { reachesPeers: false };

test('lookups whose launches can follow, on one GPU', () => {
  assert.equal(isGraphable(lookups(2 ** 40), HERE), true);
  assert.equal(
    isGraphable(lookups(64), { reachesPeers: true }),
    false,
    'copies between GPUs cannot be captured',
  );
  assert.equal(isGraphable(lookups(64, false), HERE), false);
  assert.equal(isGraphable(both(lookups(64), lookups(64, false)), HERE), false);
  assert.equal(isGraphable([], HERE), true);
});

test('very short lookups take all lanes into their own', () => {
  const streams = { copies: 'copies', lookups: 'lookups', dense: 'dense' } as unknown as LaneStreams;
  const line = { copies: 'lookups', lookups: 'lookups', dense: 'lookups' };
  assert.deepEqual(graphStreams(lookups(2 ** 22), streams), line);
  assert.equal(graphStreams(lookups(2 ** 22 + 64), streams), streams);
  assert.deepEqual(graphStreams([], streams), line);
});
