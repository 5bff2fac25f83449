/**
 * What it takes to check requests and to merge them into one batch, on one thread:
 * `npx tsx bench/request-records.ts [--requests 30] [--samples 270] [--rows 1000000] [--rounds 201] [--json FILE]`. Requests are stacked
 * values and lengths of 26 tables with 214 lookups a sample, as MLPerf's; int64 and int32, and one user with candidates, half of the
 * tables the user's. Beside them: a copy of as many bytes as are merged, and the part of a merge that is JavaScript.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { timing } from '../src/bench/statistics.ts';
import { NativeMemory } from '../src/ffi/host-memory.ts';
import { openBackend } from '../src/index.ts';
import { BatchMemory } from '../src/serve/records/batch-memory.ts';
import { checkRecord } from '../src/serve/records/check-record.ts';
import { mergeRecords } from '../src/serve/records/merge.ts';
import { type SlotView, viewSlot, writeRecord } from '../src/serve/records/record.ts';
import { RecordModel } from '../src/serve/records/record-model.ts';
import { createRandom } from '../src/workload/random.ts';

/** Lookups of a bag, by table. */
const LENGTHS = [3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1];
const DENSE = 13;
const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '30' },
    samples: { type: 'string', default: '270' },
    rows: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '201' },
    json: { type: 'string' },
  },
});
const requests = Number(values.requests);
const samples = Number(values.samples);
const rows = Number(values.rows);
const rounds = Number(values.rounds);
const random = createRandom(1);

const model = new RecordModel({
  tables: LENGTHS.map((_, t) => ({ name: `t${t}`, rows, pruned: false, takesWeights: true })),
  denseFeatures: DENSE,
});

interface Form {
  readonly name: string;
  readonly int64: boolean;
  /** Tables that have a bag per user. */
  readonly userTables: readonly number[];
}

interface Slot {
  readonly memory: NativeMemory;
  readonly view: SlotView;
  readonly bytes: number;
  readonly write: () => void;
}

const ALL = LENGTHS.map((_, t) => t);

/** A body as a server receives it, behind the header: dense features, users, and values and lengths of each piece, at odd places. */
function makeSlot({ int64, userTables }: Form): Slot {
  const width = int64 ? 8 : 4;
  const own = ALL.filter((t) => !userTables.includes(t));
  const pieces = [
    { tables: own, bags: samples },
    { tables: userTables, bags: 1 },
  ].filter(({ tables }) => tables.length > 0);
  const lookupsOf = ({ tables, bags }: (typeof pieces)[number]) =>
    bags * tables.reduce((sum, t) => sum + (LENGTHS[t] as number), 0);
  let end = model.headerBytes + 4 * samples * DENSE + 8;
  const places = pieces.map((piece) => {
    const valuesAt = end + 3;
    const lengthsAt = valuesAt + width * lookupsOf(piece);
    end = lengthsAt + 4 * piece.tables.length * piece.bags;
    return { ...piece, valuesAt, lengthsAt };
  });
  const memory = new NativeMemory(end);
  const view = viewSlot(memory.address, memory.bytes);
  const data = new DataView(view.bytes.buffer);
  data.setInt32(model.headerBytes + 4 * samples * DENSE + 4, samples, true);
  for (const { tables, bags, valuesAt, lengthsAt, ...piece } of places) {
    for (let i = 0; i < lookupsOf({ tables, bags, ...piece }); i++) {
      const row = Math.floor(random.float() * rows);
      if (int64) data.setBigInt64(valuesAt + 8 * i, BigInt(row), true);
      else data.setInt32(valuesAt + 4 * i, row, true);
    }
    tables.forEach((t, i) => {
      for (let b = 0; b < bags; b++)
        data.setInt32(lengthsAt + 4 * (i * bags + b), LENGTHS[t] as number, true);
    });
  }
  const users = {
    count: 1,
    startsAt: model.headerBytes + 4 * samples * DENSE,
    denseFeatures: 0,
    denseAt: 0,
  };
  const description = {
    samples,
    denseAt: model.headerBytes,
    ...(userTables.length > 0 ? { users } : {}),
    pieces: places.map(({ tables, bags, valuesAt, lengthsAt }) => ({
      tables,
      values: { at: valuesAt, int64 },
      lookups: lookupsOf({ tables, bags }),
      lengths: { at: lengthsAt, int64: false },
      perUser: tables === userTables,
    })),
  };
  return { memory, view, bytes: end, write: () => writeRecord(model, view, description) };
}

function timed(work: () => void): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}

/** Median, with the fastest as well: what else runs on the machine only adds. */
function summary(times: readonly number[]) {
  return { ...timing([...times]), leastMs: Math.min(...times) };
}

using backend = openBackend({ device: 'cpu' }).backend;
const forms: readonly Form[] = [
  { name: 'int64', int64: true, userTables: [] },
  { name: 'int32', int64: false, userTables: [] },
  { name: 'int64, one user', int64: true, userTables: ALL.slice(0, 13) },
];
const results = forms.map((form) => {
  const slots = Array.from({ length: requests }, () => makeSlot(form));
  const addresses = slots.map(({ memory }) => memory.address);
  using memory = new BatchMemory(backend, 1 << 24);
  const bodyBytes = slots.reduce((sum, { bytes }) => sum + bytes, 0);
  const times = {
    write: [] as number[],
    check: [] as number[],
    merge: [] as number[],
    native: [] as number[],
    copy: [] as number[],
  };
  let mergedBytes = 0;
  for (let round = -20; round < rounds; round++) {
    const write = timed(() => {
      for (const slot of slots) slot.write();
    });
    const check = timed(() => {
      for (const { memory: own, bytes } of slots) {
        const fault = checkRecord(model, own.address, bytes);
        if (fault !== undefined) throw fault;
      }
    });
    const merge = timed(() => mergeRecords(model, addresses, memory));
    mergedBytes = model.merge.bytes;
    const native = timed(() => model.merge.run(addresses, memory.block.address, memory.bytes));
    const { buffer, start } = memory.block;
    const target = new Uint8Array(buffer, start, mergedBytes);
    const copy = timed(() => {
      let end = 0;
      for (const { view, bytes } of slots) {
        const length = Math.min(bytes, mergedBytes - end);
        target.set(view.bytes.subarray(0, length), end);
        end += length;
      }
    });
    if (round < 0) continue;
    times.write.push(write);
    times.check.push(check);
    times.merge.push(merge);
    times.native.push(native);
    times.copy.push(copy);
  }
  for (const { memory: own } of slots) own[Symbol.dispose]();
  return {
    form: form.name,
    bodyBytes,
    mergedBytes,
    write: summary(times.write),
    check: summary(times.check),
    merge: summary(times.merge),
    mergeNative: summary(times.native),
    copyOfMergedBytes: summary(times.copy),
  };
});

for (const { form, bodyBytes, mergedBytes, ...all } of results) {
  console.log(
    `${form}: ${(bodyBytes / 1e6).toFixed(1)} MB of requests, ${(mergedBytes / 1e6).toFixed(1)} MB merged`,
  );
  for (const [name, { medianMs, p10Ms, p90Ms, leastMs }] of Object.entries(all)) {
    const figures = [medianMs, p10Ms, p90Ms, leastMs].map((ms) => ms.toFixed(3));
    console.log(
      `  ${name.padEnd(18)} ${figures[0]} ms (${figures[1]} to ${figures[2]}, least ${figures[3]})`,
    );
  }
}
if (values.json !== undefined) {
  const shape = { requests, samples, rows, bagLengths: LENGTHS, denseFeatures: DENSE };
  const created = { createdAt: new Date().toISOString(), shape, results };
  await writeFile(values.json, `${JSON.stringify(created, null, 2)}\n`);
}
