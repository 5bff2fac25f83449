import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32, gzipSync } from 'node:zlib';
import { readTrace } from '../../src/workload/trace.ts';
import { file, numbers, refuses } from '../support/trace-files.ts';

describe('dlrm_datasets', () => {
  // Two tables, three bags each: table 0 looks up 1, 2, 3 and table 1 looks up 10, 20.
  const indices = [1, 2, 3, 10, 20];
  const lengths = [1, 2, 0, 0, 1, 1];
  const withEnd = [0, 1, 3, 3, 3, 4, 5];
  const saved = (
    offsets: readonly number[],
    at = indices,
    shape: readonly number[] = [2, 3],
    bagLengths = lengths,
  ) =>
    torchFile([
      { shape: [at.length], values: at },
      { shape: [offsets.length], values: offsets },
      { shape, values: bagLengths },
    ]);

  test('offsets [T·B + 1]', async () => {
    const trace = await readTrace(await file('a.pt', saved(withEnd)));
    assert.equal(trace.format, 'dlrm_datasets');
    assert.deepEqual(trace.streams.map(numbers), [
      [1, 2, 3],
      [10, 20],
    ]);
  });

  test('offsets [T·B]', async () => {
    const { streams } = await readTrace(await file('b.pt', saved(withEnd.slice(0, -1))));
    assert.deepEqual(streams.map(numbers), [
      [1, 2, 3],
      [10, 20],
    ]);
  });

  test('gzipped', async () => {
    const { streams } = await readTrace(await file('c.pt.gz', gzipSync(saved(withEnd))));
    assert.deepEqual(streams.map(numbers), [
      [1, 2, 3],
      [10, 20],
    ]);
  });

  test('known by its content, not its name', async () => {
    assert.equal((await readTrace(await file('d.bin', saved(withEnd)))).format, 'dlrm_datasets');
    assert.equal((await readTrace(await file('d.log', gzipSync(saved(withEnd))))).format, 'dlrm_datasets');
    assert.equal((await readTrace(await file('d.pt.gz', gzipSync('1\n2\n')))).format, 'text');
  });

  test('tables keep their bags', async () => {
    const { offsets } = await readTrace(await file('bags.pt', saved(withEnd)));
    assert.deepEqual(
      offsets?.map((own) => [...own]),
      [
        [0, 1, 3, 3],
        [0, 0, 1, 2],
      ],
    );
  });

  test('flat lengths are one table', async () => {
    const { streams } = await readTrace(await file('e.pt', saved(withEnd, indices, [6])));
    assert.deepEqual(streams.map(numbers), [indices]);
  });

  test('flat lengths of a known number of tables', async () => {
    const path = await file('flat.pt', saved(withEnd, indices, [6]));
    assert.deepEqual((await readTrace(path, { tables: 2 })).streams.map(numbers), [
      [1, 2, 3],
      [10, 20],
    ]);
    await assert.rejects(readTrace(path, { tables: 4 }), { code: 'TRACE_INVALID', message: /tables/ });
    await assert.rejects(readTrace(path, { tables: 0 }), { code: 'OPTION_INVALID', message: /tables is 0/ });
  });

  test('offsets and lengths that disagree', async () => {
    await refuses(
      saved(withEnd, indices, [2, 3], [1, 2, 0, 1, 0, 1]),
      'TRACE_INVALID',
      /offsets of table 1, bag 0: .* its length is 1/,
      'j.pt',
    );
    await refuses(
      saved([0, 1, 3, 3, 3, 4, 4], indices, [2, 3], [1, 2, 0, 0, 1, 0]),
      'TRACE_INVALID',
      /last offset is 4, there are 5 lookups/,
      'k.pt',
    );
    await refuses(
      saved([1, 1, 3, 3, 3, 4, 5], indices, [2, 3], [0, 2, 0, 0, 1, 1]),
      'TRACE_INVALID',
      /offsets of table 0, bag 0: \[1, 1\)/,
      'l.pt',
    );
  });

  test('bad ones', async () => {
    const negative = [1, 2, 3, -1, 20];
    await refuses(saved(withEnd, negative), 'TRACE_INVALID', /table 1, lookup 0: -1/, 'f.pt');
    // Gzipped, it is read from a temporary copy, which no message names.
    const packed = await refuses(
      gzipSync(saved(withEnd, negative)),
      'TRACE_INVALID',
      /table 1, lookup 0/,
      'f.gz',
    );
    assert.doesNotMatch(packed.message, /inflated/);
    const cut = await file('cut.gz', gzipSync(saved(withEnd).subarray(0, -30)));
    await assert.rejects(readTrace(cut), (error: Error) => {
      assert.ok(error.message.startsWith(`${cut}: the zip is damaged or truncated`), error.message);
      return true;
    });
    await refuses(saved([0, 1, 3, 9, 9, 9, 9]), 'TRACE_INVALID', /offsets of table/, 'g.pt');
    await refuses(saved([0, 1, 3, -1, 3, 4, 5]), 'TRACE_INVALID', /offsets of table/, 'h.pt');
  });

  test('lengths that are not contiguous', async () => {
    const transposed = torchFile([
      { shape: [5], values: indices },
      { shape: [7], values: withEnd },
      { shape: [2, 3], strides: [1, 2], values: lengths },
    ]);
    const message = /lengths of shape \[2,3\] is not contiguous/;
    assert.match(
      (await refuses(transposed, 'TRACE_INVALID', message, 'm.pt')).hint,
      /lengths\.contiguous\(\)/,
    );
  });

  test('offsets that do not fit the lengths', () =>
    refuses(saved([0, 1, 3, 3, 3]), 'TRACE_INVALID', /5 offsets/, 'i.pt').then(() => {}));
});

interface Saved {
  readonly shape: readonly number[];
  /** Row-major unless given. */
  readonly strides?: readonly number[];
  readonly values: readonly number[];
}

/** What torch.save writes for a tuple of three int64 tensors: a zip of stored entries, one of them a pickle. */
function torchFile(tensors: readonly [Saved, Saved, Saved]): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return Buffer.concat([Buffer.from('X'), length, bytes]);
  };
  const integer = (value: number) => {
    const bytes = Buffer.alloc(5, 'J');
    bytes.writeInt32LE(value, 1);
    return bytes;
  };
  const tuple = (values: readonly number[]) =>
    Buffer.concat([Buffer.from('('), ...values.map(integer), Buffer.from('t')]);
  const pickled = tensors.map(({ shape, strides: given, values }, key) => {
    const strides =
      given ?? shape.map((_, i) => shape.slice(i + 1).reduce((product, extent) => product * extent, 1));
    return Buffer.concat([
      Buffer.from('ctorch._utils\n_rebuild_tensor_v2\n(('),
      text('storage'),
      Buffer.from('ctorch\nLongStorage\n'),
      text(String(key)),
      text('cpu'),
      integer(values.length),
      Buffer.from('tQ'),
      integer(0),
      tuple(shape),
      tuple(strides),
      Buffer.from('\x89ccollections\nOrderedDict\n)RtR', 'latin1'),
    ]);
  });
  const pickle = Buffer.concat([Buffer.from([0x80, 2]), ...pickled, Buffer.from([0x87]), Buffer.from('.')]);
  return storedZip([
    ['archive/data.pkl', pickle],
    ['archive/byteorder', Buffer.from('little')],
    ...tensors.map(({ values }, key): [string, Buffer] => [
      `archive/data/${key}`,
      Buffer.from(BigInt64Array.from(values, BigInt).buffer),
    ]),
    ['archive/version', Buffer.from('3\n')],
  ]);
}

function storedZip(entries: readonly (readonly [string, Buffer])[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, data] of entries) {
    // From the version to the length of the extra field: the same in both headers.
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, Buffer.from(name), data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(at, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x00'), common, tail, Buffer.from(name));
    parts.push(local);
    at += local.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, listed, end]);
}
