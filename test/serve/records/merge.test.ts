import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend } from '../../../src/backend/backend.ts';
import type { HostPtr } from '../../../src/ffi/host-memory.ts';
import { NativeMemory } from '../../../src/ffi/host-memory.ts';
import { createPool, destroyPool } from '../../../src/ffi/thread-pool.ts';
import { DlrmModel, openBackend } from '../../../src/index.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { appendedBytes, appendRequest } from '../../../src/serve/records/append-request.ts';
import { BatchMemory } from '../../../src/serve/records/batch-memory.ts';
import { checkRecord } from '../../../src/serve/records/check-record.ts';
import { bytesFor, mergeRecords } from '../../../src/serve/records/merge.ts';
import { viewSlot } from '../../../src/serve/records/record.ts';
import { RecordModel, type RecordShape, recordShape } from '../../../src/serve/records/record-model.ts';
import { randomTable } from '../../support/cases.ts';
import { smallModel } from '../../support/models.ts';
import { Random } from '../../support/random.ts';
import {
  alone,
  type ListedRequest,
  randomRequest,
  referenceMerge,
  type Written,
  writeListed,
} from '../../support/records.ts';
import { SEED } from '../../support/seed.ts';

const SHAPE: RecordShape = {
  tables: [
    { name: 'plain', rows: 40, pruned: false, takesWeights: true },
    { name: 'pruned', rows: 7, pruned: true, takesWeights: true },
    { name: 'unweighted', rows: 2 ** 31 - 1, pruned: true, takesWeights: false },
    { name: 'wide', rows: 2 ** 31, pruned: true, takesWeights: true },
    { name: 'one row', rows: 1, pruned: false, takesWeights: false },
  ],
  denseFeatures: 3,
};

/** The arrays of a request as plain values: dense features by their bits. */
function plain({ dense, ...request }: DlrmRequest) {
  return { ...request, dense: [...new Uint32Array(dense.slice().buffer)] };
}

function written(random: Random, model: RecordModel, requests: readonly ListedRequest[]): Written[] {
  return requests.map((request) => {
    const own = writeListed(random, model, request);
    assert.equal(checkRecord(model, own.memory.address, own.bytes), undefined);
    return own;
  });
}

const addresses = (records: readonly Written[]): HostPtr[] => records.map(({ memory }) => memory.address);

function release(records: readonly Written[]): void {
  for (const { memory } of records) memory[Symbol.dispose]();
}

test('records of all forms merge as plain code merges them', () => {
  const random = new Random(SEED);
  const model = new RecordModel(SHAPE);
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend, 1);
  for (let round = 0; round < 600; round++) {
    const requests = Array.from({ length: random.integer(0, 5) }, () =>
      randomRequest(random, SHAPE, { anyBits: true, users: round % 3 > 0 }),
    );
    const records = written(random, model, requests);
    const bytes = bytesFor(model, addresses(records));
    const merged = mergeRecords(model, addresses(records), memory);
    assert.equal(model.merge.bytes, bytes);
    assert.ok(memory.bytes >= bytes);
    assert.deepEqual(plain(merged.request), plain(referenceMerge(SHAPE, requests)), `round ${round}`);
    const starts = [0];
    for (const { samples } of requests) starts.push((starts.at(-1) as number) + samples);
    assert.deepEqual([...merged.starts], starts);
    release(records);
  }
});

test('threads that share a large batch merge it as one does', () => {
  const random = new Random(SEED + 2);
  const shape = recordShape(smallModel(random, 'dot-lower'));
  const pool = createPool(3, 'portable');
  const [alone, shared] = [new RecordModel(shape), new RecordModel(shape, pool)];
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend);
  using other = new BatchMemory(backend);
  const requests = Array.from({ length: 40 }, (_, r) =>
    randomRequest(random, shape, { users: r % 2 > 0, most: 600 }),
  );
  const records = written(random, alone, requests);
  assert.ok(bytesFor(alone, addresses(records)) > 1 << 18, 'large enough to be shared');
  const whole = plain(mergeRecords(alone, addresses(records), memory).request);
  for (let round = 0; round < 20; round++)
    assert.deepEqual(plain(mergeRecords(shared, addresses(records), other).request), whole);
  destroyPool(pool);
  release(records);
});

test('a record that was checked may be checked and merged again', () => {
  const random = new Random(SEED + 1);
  const model = new RecordModel(SHAPE);
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend);
  for (let round = 0; round < 100; round++) {
    const requests = [randomRequest(random, SHAPE), randomRequest(random, SHAPE)];
    const records = written(random, model, requests);
    for (const { memory: own, bytes } of records)
      assert.equal(checkRecord(model, own.address, bytes), undefined);
    for (let again = 0; again < 2; again++) {
      const { request } = mergeRecords(model, addresses(records), memory);
      assert.deepEqual(plain(request), plain(referenceMerge(SHAPE, requests)));
    }
    release(records);
  }
});

test('arrays lie in the memory as a device copies them in one piece', () => {
  const random = new Random(SEED + 2);
  const model = new RecordModel(SHAPE);
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend);
  const records = written(random, model, [randomRequest(random, SHAPE), randomRequest(random, SHAPE)]);
  const { request } = mergeRecords(model, addresses(records), memory);
  let end = memory.block.start;
  for (const { indices, offsets, weights } of request.bags) {
    for (const array of [indices, offsets, ...(weights ? [weights] : [])]) {
      assert.equal(array.buffer, memory.block.buffer);
      assert.equal(array.byteOffset, end);
      end = Math.ceil((end + array.byteLength) / 16) * 16;
    }
  }
  release(records);
});

test('what was not checked, or found bad, is not merged', () => {
  const random = new Random(SEED + 3);
  const model = new RecordModel(SHAPE);
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend);
  const record = writeListed(random, model, randomRequest(random, SHAPE));
  assert.throws(() => mergeRecords(model, [record.memory.address], memory), /not-checked/);
  assert.equal(checkRecord(model, record.memory.address, record.bytes), undefined);
  mergeRecords(model, [record.memory.address], memory);
  record.slot.words[2] = SHAPE.denseFeatures + 1;
  assert.ok(checkRecord(model, record.memory.address, record.bytes));
  assert.throws(() => mergeRecords(model, [record.memory.address], memory), /not-checked/);
  assert.throws(() => bytesFor(model, [record.memory.address]), /not-checked/);
  record.memory[Symbol.dispose]();
});

test('what int32 cannot count is refused', () => {
  const model = new RecordModel({
    tables: [{ name: 't', rows: 5, pruned: false, takesWeights: true }],
    denseFeatures: 0,
  });
  using memory = new NativeMemory(1 << 16);
  const slot = viewSlot(memory.address, memory.bytes);
  const empty = (samples: number) => {
    slot.words.fill(0, 0, 16);
    slot.words[0] = samples;
    slot.words[8 + 4] = 32;
    assert.equal(checkRecord(model, memory.address, memory.bytes), undefined);
  };
  empty(2 ** 30);
  assert.ok(bytesFor(model, [memory.address]) > 2 ** 32);
  const refused = { code: 'TENSOR_SHAPE' };
  assert.throws(() => bytesFor(model, [memory.address, memory.address]), refused);
  // One user's bag of 1024 lookups for 2^21 candidates, beside another user's of 1024 for none; a record per sample forces repeats.
  const write = (perUser: boolean, candidates: number) => {
    slot.words.fill(0, 0, 16);
    slot.words.set([candidates, 1, 0, 0, 0, 64], 0);
    slot.words.set([0, candidates], 16);
    slot.words.set([128, perUser ? 1024 : 0, 0, 0, perUser ? 32 | 4 : 32], 8);
    assert.equal(checkRecord(model, memory.address, memory.bytes), undefined);
  };
  write(true, 2 ** 21);
  assert.ok(bytesFor(model, [memory.address]) < 2 ** 13);
  using other = new NativeMemory(1 << 12);
  other.view(0, 4096).set(slot.bytes.subarray(0, 4096));
  write(false, 1);
  assert.throws(() => bytesFor(model, [other.address, memory.address]), refused);
});

test('a merge of one record gives what was appended', () => {
  const random = new Random(SEED + 4);
  const model = new RecordModel(SHAPE);
  using backend = openBackend({ device: 'cpu' }).backend;
  using memory = new BatchMemory(backend);
  for (let round = 0; round < 100; round++) {
    const listed = [randomRequest(random, SHAPE, { anyBits: true })];
    const request = referenceMerge(SHAPE, listed);
    // Offsets without the end, and int64, are another form of the same.
    const bags = request.bags.map((own) => ({
      ...own,
      indices: BigInt64Array.from([...own.indices].map(BigInt)),
      offsets:
        random.integer(0, 1) === 0
          ? own.offsets
          : BigInt64Array.from([...own.offsets.slice(0, -1)].map(BigInt)),
    }));
    using slot = new NativeMemory(model.headerBytes + appendedBytes({ ...request, bags }));
    const end = appendRequest(model, viewSlot(slot.address, slot.bytes), { ...request, bags });
    assert.ok(end <= slot.bytes);
    assert.equal(checkRecord(model, slot.address, end), undefined);
    assert.deepEqual(plain(mergeRecords(model, [slot.address], memory).request), plain(request));
  }
});

const TABLES = (random: Random) => [
  randomTable(random, { name: 'int8', rows: 30, dim: 12, rowFormat: 'int8', mode: 'sum' }),
  randomTable(random, {
    name: 'pruned',
    rows: 20,
    dim: 3,
    rowFormat: 'float16',
    mode: 'sum',
    pruned: true,
    paddingIdx: 4,
  }),
  randomTable(random, { name: 'max', rows: 31, dim: 20, mode: 'max' }),
];
const OTHER_TABLES = (random: Random) => [
  randomTable(random, { name: 'float32', rows: 30, dim: 12, mode: 'sum', rowWeights: true }),
  randomTable(random, { name: 'mean', rows: 20, dim: 3, mode: 'mean', pruned: true }),
  randomTable(random, { name: 'int4', rows: 31, dim: 20, rowFormat: 'int4', mode: 'sum' }),
];

for (const [name, tables] of [
  ['quantised, pruned, max', TABLES],
  ['row weights, mean, int4', OTHER_TABLES],
] as const) {
  test(`a merged prediction is that of each request alone, bit for bit: ${name}`, async () => {
    const random = new Random(SEED + 5);
    const architecture = { ...smallModel(random, 'cat'), tables: tables(random) };
    const shape = recordShape(architecture);
    const records = new RecordModel(shape);
    const backend: Backend = openBackend({ device: 'cpu', threads: 2 }).backend;
    await using unchecked = await DlrmModel.create(backend, architecture, { indexChecking: 'none' });
    await using checked = await DlrmModel.create(backend, architecture, {
      indexChecking: 'error',
      closesBackend: true,
    });
    using memory = new BatchMemory(backend);
    for (let round = 0; round < 40; round++) {
      const requests = Array.from({ length: random.integer(1, 6) }, () => randomRequest(random, shape));
      const own = written(random, records, requests);
      const merged = mergeRecords(records, addresses(own), memory);
      const together = await unchecked.predict(merged.request);
      const again = await checked.predict(merged.request);
      assert.deepEqual(again.probabilities, together.probabilities);
      for (const [r, request] of requests.entries()) {
        const { probabilities } = await checked.predict(alone(shape, request));
        const part = together.probabilities.slice(merged.starts[r], merged.starts[r + 1]);
        assert.deepEqual(
          new Uint32Array(part.buffer),
          new Uint32Array(probabilities.slice().buffer),
          `round ${round}`,
        );
      }
      release(own);
    }
  });
}
