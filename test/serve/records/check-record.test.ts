import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf } from '../../../src/ffi/host-memory.ts';
import { checkRecord } from '../../../src/serve/records/check-record.ts';
import {
  type BagsAt,
  type BoundsAt,
  type RecordDescription,
  type SlotView,
  writeRecord,
} from '../../../src/serve/records/record.ts';
import { RecordModel } from '../../../src/serve/records/record-model.ts';
import { RecordWord, TableFlag, TableWord, tableWords } from '../../../src/serve/records/record-words.ts';

const MODEL = new RecordModel({
  tables: [
    { name: 'rows', rows: 10, pruned: false, takesWeights: true },
    { name: 'pruned', rows: 10, pruned: true, takesWeights: false },
    { name: 'most', rows: 2 ** 31 - 1, pruned: true, takesWeights: true },
    { name: 'wide', rows: 2 ** 40, pruned: true, takesWeights: true },
  ],
  denseFeatures: 2,
});
const SLOT_BYTES = 1024;

/** A slot whose memory ends where the slot does. */
function slotOf(bytes = SLOT_BYTES): SlotView {
  const buffer = new ArrayBuffer(bytes);
  const words = new Uint32Array(buffer, 0, bytes >> 2);
  return { address: addressOf(words), words, bytes: new Uint8Array(buffer) };
}

class Writer {
  readonly slot = slotOf();
  #end = MODEL.headerBytes;

  put(array: ArrayBufferView): number {
    const at = this.#end;
    this.slot.bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at);
    this.#end += array.byteLength;
    return at;
  }

  integers(values: readonly (number | bigint)[], int64 = false) {
    const array = int64 ? BigInt64Array.from(values, BigInt) : Int32Array.from(values, Number);
    return { at: this.put(array), int64 };
  }

  check(description: Omit<RecordDescription, 'denseAt'> & { readonly denseAt?: number }) {
    const denseAt = description.denseAt ?? this.put(new Float32Array(2 * description.samples));
    writeRecord(MODEL, this.slot, { ...description, denseAt });
    return this.again();
  }

  again() {
    return checkRecord(MODEL, this.slot.address, SLOT_BYTES);
  }
}

/** What is found in a request of 2 samples with these bags of one table. */
function found(
  table: number,
  indices: readonly (number | bigint)[],
  bounds:
    | { readonly kind: 'even' }
    | { readonly kind: 'lengths' | 'offsets'; readonly of: readonly (number | bigint)[] },
  int64 = false,
) {
  const writer = new Writer();
  const where: BoundsAt =
    bounds.kind === 'even'
      ? bounds
      : bounds.kind === 'lengths'
        ? { kind: 'lengths', ...writer.integers(bounds.of, int64) }
        : { kind: 'offsets', hasEnd: bounds.of.length === 3, ...writer.integers(bounds.of, int64) };
  const bags: BagsAt = { indices: writer.integers(indices, int64), lookups: indices.length, bounds: where };
  const tables = MODEL.tables.map((_, t) => (t === table ? bags : undefined));
  const error = writer.check({ samples: 2, tables });
  if (error === undefined) return undefined;
  const { table: of, position, value } = error.details;
  assert.equal(of, table);
  assert.match(error.message, new RegExp(`^table ${table} \\(${MODEL.tables[table]?.name}\\): `));
  return [error.code, position, value];
}

const EVEN = { kind: 'even' } as const;
const lengths = (...of: (number | bigint)[]) => ({ kind: 'lengths', of }) as const;
const offsets = (...of: (number | bigint)[]) => ({ kind: 'offsets', of }) as const;

test('indices are rows, or pruned ones', () => {
  for (const int64 of [false, true]) {
    // More of them than a vector has, the bad one at every place.
    for (let at = 0; at < 14; at++) {
      const put = (value: number | bigint, fill = 9) =>
        Array.from({ length: 14 }, (_, i) => (i === at ? value : fill));
      assert.equal(found(0, put(0), EVEN, int64), undefined);
      assert.deepEqual(found(0, put(10), EVEN, int64), ['INDEX_OUT_OF_RANGE', at, 10n]);
      assert.deepEqual(found(0, put(-1), EVEN, int64), ['INDEX_OUT_OF_RANGE', at, -1n]);
      assert.deepEqual(found(0, put(-(2 ** 31)), EVEN, int64), [
        'INDEX_OUT_OF_RANGE',
        at,
        BigInt(-(2 ** 31)),
      ]);
      assert.deepEqual(found(0, put(2 ** 31 - 1), EVEN, int64), [
        'INDEX_OUT_OF_RANGE',
        at,
        BigInt(2 ** 31 - 1),
      ]);
      assert.equal(found(1, put(-1), EVEN, int64), undefined);
      assert.deepEqual(found(1, put(-2), EVEN, int64), ['INDEX_OUT_OF_RANGE', at, -2n]);
      assert.deepEqual(found(1, put(10), EVEN, int64), ['INDEX_OUT_OF_RANGE', at, 10n]);
      assert.equal(found(2, put(2 ** 31 - 2), EVEN, int64), undefined);
      assert.equal(found(2, put(-1), EVEN, int64), undefined);
      assert.deepEqual(found(2, put(2 ** 31 - 1), EVEN, int64), [
        'INDEX_OUT_OF_RANGE',
        at,
        BigInt(2 ** 31 - 1),
      ]);
      assert.equal(found(3, put(2 ** 31 - 1), EVEN, int64), undefined);
      assert.deepEqual(found(3, put(-2), EVEN, int64), ['INDEX_OUT_OF_RANGE', at, -2n]);
    }
  }
  const wide = (value: bigint) => found(3, [5, value], EVEN, true);
  assert.equal(wide(2n ** 40n - 1n), undefined);
  for (const value of [2n ** 40n, 2n ** 63n - 1n, -(2n ** 63n), -2n, 2n ** 62n])
    assert.deepEqual(wide(value), ['INDEX_OUT_OF_RANGE', 1, value]);
  for (const value of [2n ** 32n, 2n ** 32n + 5n, -(2n ** 32n) + 5n])
    assert.deepEqual(found(0, [5, value], EVEN, true), ['INDEX_OUT_OF_RANGE', 1, value]);
  assert.deepEqual(found(0, [10, -1], EVEN), ['INDEX_OUT_OF_RANGE', 0, 10n], 'the first one');
});

test('a hint says what a client can do', () => {
  const writer = new Writer();
  const indices = writer.integers([10, 3]);
  const error = writer.check({ samples: 2, tables: [{ indices, lookups: 2, bounds: EVEN }] });
  assert.equal(error?.message, 'table 0 (rows): indices[0] = 10 is not a row of [0, 10)');
  assert.doesNotMatch(error?.hint ?? '', /--/);
});

test('lengths count the lookups', () => {
  for (const int64 of [false, true]) {
    assert.equal(found(0, [1, 2, 3], lengths(0, 3), int64), undefined);
    assert.equal(found(0, [], lengths(0, 0), int64), undefined);
    assert.deepEqual(found(0, [1, 2, 3], lengths(1, 1), int64), ['LENGTHS_INVALID', undefined, 2n]);
    assert.deepEqual(found(0, [1, 2, 3], lengths(2, 2), int64), ['LENGTHS_INVALID', undefined, 4n]);
    assert.deepEqual(found(0, [1, 2, 3], lengths(-1, 4), int64), ['LENGTHS_INVALID', 0, -1n]);
    assert.deepEqual(found(0, [1, 2, 3], lengths(2, 4), int64), ['LENGTHS_INVALID', 1, 4n]);
  }
  for (const value of [2n ** 63n - 1n, -(2n ** 63n), 2n ** 32n, 2n ** 32n + 1n])
    assert.deepEqual(found(0, [1, 2, 3], lengths(2, value), true), ['LENGTHS_INVALID', 1, value]);
  assert.equal(found(0, [1, 2, 3, 4], EVEN), undefined);
  assert.deepEqual(found(0, [1, 2, 3], EVEN), ['TENSOR_SHAPE', undefined, 3n]);
});

test('offsets begin with 0 and never decrease, up to the lookups', () => {
  for (const int64 of [false, true]) {
    for (const good of [offsets(0, 0), offsets(0, 3), offsets(0, 0, 3), offsets(0, 1, 2), offsets(0, 0, 0)])
      assert.equal(found(0, [1, 2, 3], good, int64), undefined);
    assert.deepEqual(found(0, [1, 2, 3], offsets(1, 2), int64), ['OFFSETS_INVALID', 0, 1n]);
    assert.deepEqual(found(0, [1, 2, 3], offsets(-1, 2), int64), ['OFFSETS_INVALID', 0, -1n]);
    assert.deepEqual(found(0, [1, 2, 3], offsets(0, 4), int64), ['OFFSETS_INVALID', 1, 4n]);
    assert.deepEqual(found(0, [1, 2, 3], offsets(0, 2, 1), int64), ['OFFSETS_INVALID', 2, 1n]);
    assert.deepEqual(found(0, [1, 2, 3], offsets(0, 2, 4), int64), ['OFFSETS_INVALID', 2, 4n]);
    assert.deepEqual(
      found(0, [1, 2, 30], offsets(0, 0, 1), int64),
      ['INDEX_OUT_OF_RANGE', 2, 30n],
      'of no bag',
    );
  }
  assert.deepEqual(found(0, [1, 2, 3], offsets(0, 2n ** 62n), true), ['OFFSETS_INVALID', 1, 2n ** 62n]);
});

test('values in one piece are divided by lengths, in any order of tables', () => {
  const piece = (
    order: readonly number[],
    values: readonly number[],
    of: readonly number[],
    lookups = values.length,
  ) => {
    const writer = new Writer();
    const description = {
      samples: 2,
      pieces: [{ tables: order, values: writer.integers(values), lookups, lengths: writer.integers(of) }],
    };
    return { error: writer.check(description), writer };
  };
  const { error, writer } = piece([2, 0, 1], [20, 9, -1, 3], [1, 0, 0, 1, 2, 0]);
  assert.equal(error, undefined);
  const start = writer.slot.words[tableWords(2) + TableWord.indicesAt] as number;
  for (const [t, at, lookups] of [
    [2, 0, 1],
    [0, 1, 1],
    [1, 2, 2],
  ] as const) {
    assert.equal(writer.slot.words[tableWords(t) + TableWord.indicesAt], start + 4 * at);
    assert.equal(writer.slot.words[tableWords(t) + TableWord.lookups], lookups);
  }
  const code = (...of: Parameters<typeof piece>) => {
    const own = piece(...of).error;
    return [own?.code, own?.details.table, own?.details.value];
  };
  assert.deepEqual(code([2, 0], [1, 1, 1, 1], [1, 0, 1, 1]), ['LENGTHS_INVALID', 0, 3n]);
  assert.deepEqual(code([2, 0], [1, 1], [1, 0, 1, 1]), ['LENGTHS_INVALID', 0, 3n]);
  assert.deepEqual(
    code([2, 0, 1], [1, 1], [1, 0, 1, 1, 0, 0]),
    ['LENGTHS_INVALID', 0, 3n],
    'the first too many',
  );
  assert.deepEqual(code([2, 0], [1, 1], [1, 0, 1, -1]), ['LENGTHS_INVALID', 0, -1n]);
  assert.deepEqual(code([2, 0], [1, 10], [1, 0, 1, 0]), ['INDEX_OUT_OF_RANGE', 0, 10n]);
});

test('users run from 0 to the number of samples', () => {
  const users = (starts: readonly number[], samples = 3) => {
    const writer = new Writer();
    const description = {
      count: starts.length - 1,
      startsAt: writer.integers(starts).at,
      denseFeatures: 0,
      denseAt: 0,
    };
    const error = writer.check({ samples, users: description });
    if (error === undefined) return undefined;
    assert.equal(error.code, 'USERS_INVALID');
    return [error.details.position, error.details.value];
  };
  assert.equal(users([0, 0, 3, 3]), undefined);
  assert.deepEqual(users([1, 3]), [0, 1n]);
  assert.deepEqual(users([-1, 3]), [0, -1n]);
  assert.deepEqual(users([0, 2, 1, 3]), [2, 1n]);
  assert.deepEqual(users([0, 2]), [1, 2n]);
  assert.deepEqual(users([0, 4]), [1, 4n]);
  assert.equal(users([0], 0), undefined);
  assert.throws(() => users([0], 1), { code: 'USERS_INVALID' });
});

test('weights only where a table takes them', () => {
  const writer = new Writer();
  const indices = writer.integers([1, 2]);
  const weightsAt = writer.put(Float32Array.of(1, 2));
  const bags = { indices, lookups: 2, bounds: EVEN, weightsAt };
  assert.equal(writer.check({ samples: 2, tables: [bags] }), undefined);
  const error = writer.check({ samples: 2, tables: [undefined, bags] });
  assert.deepEqual([error?.code, error?.details.table], ['TENSOR_UNEXPECTED', 1]);
});

test('every array lies in the slot, behind the header', () => {
  const good = (change: (words: Uint32Array) => void) => {
    const writer = new Writer();
    const bounds = { kind: 'offsets', hasEnd: true, ...writer.integers([0, 1, 2]) } as const;
    const table = {
      indices: writer.integers([1, 2]),
      lookups: 2,
      bounds,
      weightsAt: writer.put(Float32Array.of(1, 2)),
    };
    const users = {
      count: 1,
      startsAt: writer.integers([0, 2]).at,
      denseFeatures: 1,
      denseAt: writer.put(Float32Array.of(1)),
    };
    assert.equal(writer.check({ samples: 2, users, tables: [table] }), undefined);
    change(writer.slot.words);
    return writer.again();
  };
  const table = tableWords(0);
  const sizes = [
    [RecordWord.denseAt, 8],
    [RecordWord.userDenseAt, 4],
    [RecordWord.startsAt, 8],
    [table + TableWord.indicesAt, 8],
    [table + TableWord.boundsAt, 12],
    [table + TableWord.weightsAt, 8],
  ] as const;
  for (const [word, bytes] of sizes) {
    const last = SLOT_BYTES - bytes;
    // There, an array of zeros may be bad, but as what it holds.
    for (const at of [MODEL.headerBytes, last])
      assert.notEqual(
        good((words) => words.fill(at, word, word + 1))?.code,
        'REQUEST_INVALID',
        `word ${word}`,
      );
    for (const at of [last + 1, SLOT_BYTES, SLOT_BYTES + 1, 2 ** 32 - 4, 4 * tableWords(4) - 1]) {
      const error = good((words) => words.fill(at, word, word + 1));
      assert.deepEqual(
        [error?.code, error?.details.position],
        ['REQUEST_INVALID', word],
        `word ${word}: ${at}`,
      );
    }
  }
  const flags = table + TableWord.flags;
  for (const [word, value] of [
    [RecordWord.samples, 2 ** 31],
    [RecordWord.users, 2 ** 31],
    [RecordWord.userFeatures, 3],
    [flags, 128],
    [flags, TableFlag.even | TableFlag.offsets],
    [flags, TableFlag.offsetsEnd | TableFlag.offsets],
    [flags, TableFlag.headsPiece | TableFlag.even],
  ] as const) {
    const error = good((words) => words.fill(value, word, word + 1));
    assert.deepEqual(
      [error?.code, error?.details.position],
      ['REQUEST_INVALID', word],
      `word ${word}: ${value}`,
    );
  }
  const withoutUsers = (change: (words: Uint32Array) => void) => {
    const writer = new Writer();
    assert.equal(writer.check({ samples: 2 }), undefined);
    change(writer.slot.words);
    return writer.again()?.details.position;
  };
  assert.equal(
    withoutUsers((words) => words.fill(1, RecordWord.userFeatures, RecordWord.userFeatures + 1)),
    RecordWord.userFeatures,
  );
  assert.equal(
    withoutUsers((words) => words.fill(TableFlag.even | TableFlag.perUser, flags, flags + 1)),
    flags,
  );
});

test('a chain of tables ends', () => {
  const writer = new Writer();
  writer.check({ samples: 0 });
  const next = (t: number) => tableWords(t) + TableWord.next;
  const chain = (...to: readonly (readonly [number, number])[]) => {
    for (let t = 0; t < 4; t++) {
      writer.slot.words[next(t)] = 0;
      writer.slot.words[tableWords(t) + TableWord.flags] = t === 0 ? TableFlag.headsPiece : 0;
    }
    for (const [t, value] of to) writer.slot.words[next(t)] = value;
    return writer.again()?.details.position;
  };
  assert.equal(chain([0, 2], [1, 3], [2, 4]), undefined);
  assert.equal(chain([0, 2], [1, 3], [2, 4], [3, 1]), next(3));
  assert.equal(chain([0, 1]), next(0));
  assert.equal(chain([0, 5]), next(0));
  assert.equal(chain([0, 2 ** 32 - 1]), next(0));
});

test('a slot shorter than a header, or of 4 GiB, is refused', () => {
  const { address } = slotOf();
  assert.throws(() => checkRecord(MODEL, address, 4 * tableWords(4) - 1), { code: 'KERNEL_FAILED' });
  assert.throws(() => checkRecord(MODEL, address, 2 ** 32), { code: 'KERNEL_FAILED' });
  assert.equal(checkRecord(MODEL, address, 4 * tableWords(4)), undefined);
});
