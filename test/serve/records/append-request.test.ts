import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf } from '../../../src/ffi/host-memory.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { appendedBytes, appendRequest } from '../../../src/serve/records/append-request.ts';
import { checkRecord } from '../../../src/serve/records/check-record.ts';
import type { SlotView } from '../../../src/serve/records/record.ts';
import { RecordModel } from '../../../src/serve/records/record-model.ts';

const MODEL = new RecordModel({
  tables: [
    { name: 'a', rows: 10, pruned: false, takesWeights: true },
    { name: 'b', rows: 10, pruned: false, takesWeights: true },
  ],
  denseFeatures: 2,
});
const [INDICES, WEIGHTS] = [Int32Array.of(1, 2, 3), Float32Array.of(1, 2, 3)];
const BAGS = { indices: INDICES, offsets: Int32Array.of(0, 2) };
const REQUEST: DlrmRequest = {
  batchSize: 2,
  dense: new Float32Array(4),
  denseFeatures: 2,
  bags: [BAGS, { indices: INDICES, offsets: Int32Array.of(0), perUser: true, weights: WEIGHTS }],
  users: Int32Array.of(0, 2),
};

function slotOf(bytes: number): SlotView {
  const buffer = new ArrayBuffer(bytes);
  const words = new Uint32Array(buffer, 0, bytes >> 2);
  return { address: addressOf(words), words, bytes: new Uint8Array(buffer) };
}

function append(change: Partial<DlrmRequest>, from?: number) {
  const slot = slotOf(1024);
  const end = appendRequest(MODEL, slot, { ...REQUEST, ...change }, from);
  return { end, error: checkRecord(MODEL, slot.address, end) };
}

test('a request is appended behind the header, or behind what is there', () => {
  const bytes = appendedBytes(REQUEST);
  assert.deepEqual(append({}), { end: MODEL.headerBytes + bytes, error: undefined });
  assert.deepEqual(append({}, 301), { end: 304 + bytes, error: undefined });
  const slot = slotOf(304 + bytes);
  slot.bytes.fill(7, 256, 301);
  appendRequest(MODEL, slot, REQUEST, 301);
  assert.deepEqual([...slot.bytes.subarray(256, 301)], Array(45).fill(7));
});

test('a slot that is too small is not written', () => {
  const slot = slotOf(MODEL.headerBytes + appendedBytes(REQUEST) - 1);
  slot.bytes.fill(9);
  assert.throws(() => appendRequest(MODEL, slot, REQUEST), { code: 'OUT_OF_MEMORY' });
  assert.ok(slot.bytes.every((byte) => byte === 9));
});

test('shapes are refused that values cannot show', () => {
  const bad = (code: string, change: Partial<DlrmRequest>) => assert.throws(() => append(change), { code });
  bad('TENSOR_SHAPE', { dense: new Float32Array(3) });
  bad('TABLE_MISSING', { bags: [BAGS] });
  bad('TABLE_UNEXPECTED', { bags: [BAGS, BAGS, BAGS] });
  bad('TENSOR_SHAPE', { bags: [BAGS, { ...BAGS, offsets: Int32Array.of(0) }] });
  bad('TENSOR_SHAPE', { bags: [BAGS, { ...BAGS, offsets: Int32Array.of(0, 1, 2, 3) }] });
  bad('TENSOR_SHAPE', { bags: [BAGS, { ...BAGS, offsets: Int32Array.of(0, 1, 2), perUser: true }] });
  bad('TENSOR_SHAPE', { bags: [BAGS, { ...BAGS, weights: new Float32Array(2) }] });
  bad('USERS_INVALID', { users: new Int32Array(0) });
  const { users: _, ...withoutUsers } = REQUEST;
  assert.throws(() => appendRequest(MODEL, slotOf(1024), withoutUsers), { code: 'USERS_INVALID' });
});

test('values are refused by the check', () => {
  assert.equal(append({ users: Int32Array.of(0, 1) }).error?.code, 'USERS_INVALID');
  assert.equal(
    append({ bags: [BAGS, { ...BAGS, indices: Int32Array.of(1, 10, 3) }] }).error?.code,
    'INDEX_OUT_OF_RANGE',
  );
  assert.equal(
    append({ bags: [BAGS, { ...BAGS, offsets: Int32Array.of(0, 4) }] }).error?.code,
    'OFFSETS_INVALID',
  );
});

test('no samples of no users', () => {
  const none = { indices: new Int32Array(0), offsets: Int32Array.of(0), perUser: true };
  const request = { batchSize: 0, dense: new Float32Array(0), users: Int32Array.of(0), bags: [none, none] };
  assert.equal(append(request).error, undefined);
});

test('what a model of records is given is checked', () => {
  const table = { name: 'a', rows: 1, pruned: false, takesWeights: true };
  for (const shape of [
    { tables: [{ ...table, rows: -1 }], denseFeatures: 1 },
    { tables: [table], denseFeatures: 2 ** 24 + 1 },
    { tables: [{ ...table, pruned: 1 }], denseFeatures: 1 },
  ])
    assert.throws(() => new RecordModel(shape as never), { code: 'OPTION_INVALID' });
});
