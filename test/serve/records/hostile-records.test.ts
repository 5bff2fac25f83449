/** Headers of any words, in slots whose memory ends where they do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, type HostPtr, NativeMemory } from '../../../src/ffi/host-memory.ts';
import { openBackend } from '../../../src/index.ts';
import { BatchMemory } from '../../../src/serve/records/batch-memory.ts';
import { checkRecord } from '../../../src/serve/records/check-record.ts';
import { bytesFor, mergeRecords } from '../../../src/serve/records/merge.ts';
import { RecordModel } from '../../../src/serve/records/record-model.ts';
import { tableWords } from '../../../src/serve/records/record-words.ts';
import { Random } from '../../support/random.ts';
import { randomRequest, writeListed } from '../../support/records.ts';
import { SEED } from '../../support/seed.ts';

const MODEL = new RecordModel({
  tables: [
    { name: 'rows', rows: 10, pruned: false, takesWeights: true },
    { name: 'pruned', rows: 10, pruned: true, takesWeights: false },
    { name: 'most', rows: 2 ** 31 - 1, pruned: true, takesWeights: true },
    { name: 'wide', rows: 2 ** 40, pruned: true, takesWeights: true },
  ],
  denseFeatures: 2,
});
test('whatever words a header has, nothing outside the slot is read, and what is good can be merged', () => {
  const random = new Random(SEED);
  using backend = openBackend({ device: 'cpu' }).backend;
  using batch = new BatchMemory(backend);
  // Behind its last page no memory is mapped; a sanitizer looks at the other's ends.
  using page = new NativeMemory(4096);
  const small = new Uint8Array(new ArrayBuffer(700));
  const smallAddress = addressOf(small);
  let merged = 0;
  let refused = 0;
  for (let round = 0; round < 3000; round++) {
    const [address, view]: [HostPtr, Uint8Array] =
      round % 2 === 0 ? [page.address, page.view(0, 4096)] : [smallAddress, small];
    const words = new Uint32Array(view.buffer, 0, tableWords(4));
    if (round % 4 < 2) {
      using own = writeListed(random, MODEL, randomRequest(random, MODEL, { most: 3 })).memory;
      view.set(own.view(0, Math.min(own.bytes, view.length)));
      for (let changes = random.integer(0, 3); changes > 0; changes--)
        words[random.integer(0, words.length - 1)] = hostile(random, view.length);
    } else {
      for (let i = 0; i < words.length; i++) words[i] = hostile(random, view.length);
      for (let i = words.byteLength; i < view.length; i++) view[i] = random.integer(0, 5) === 0 ? 1 : 0;
    }
    if (checkRecord(MODEL, address, view.length) !== undefined) {
      refused += 1;
      continue;
    }
    if (bytesFor(MODEL, [address, address]) > 1 << 20) continue;
    const { request } = mergeRecords(MODEL, [address, address], batch);
    merged += 1;
    for (const [t, { indices, offsets }] of request.bags.entries()) {
      const least = MODEL.tables[t]?.pruned ? -1 : 0;
      for (const index of indices)
        assert.ok(Number(index) >= least && Number(index) < (MODEL.tables[t]?.rows ?? 0));
      assert.equal(Number(offsets.at(-1)), indices.length);
      for (let b = 1; b < offsets.length; b++) assert.ok(Number(offsets[b]) >= Number(offsets[b - 1]));
    }
  }
  assert.ok(merged > 100 && refused > 100, `${merged} merged, ${refused} refused`);
});

/** Values at which something changes, as a rule. */
function hostile(random: Random, bytes: number): number {
  return random.pick([
    0,
    0,
    random.integer(0, 4),
    random.integer(0, 255),
    random.integer(0, bytes + 4),
    bytes - random.integer(0, 16),
    2 ** 31 - random.integer(0, 2),
    2 ** 32 - random.integer(1, 16),
    random.integer(0, 2 ** 32 - 1),
  ]);
}
