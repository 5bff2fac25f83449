import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type HotrowError, UsageError, WorkloadError } from '../../src/errors.ts';
import { readRequest } from '../../src/model/request/safetensors-request.ts';
import { type CategoryRows, type CriteoOptions, readCriteo as readRows } from '../../src/workload/criteo.ts';
import { goldenPath } from '../support/golden.ts';
import { readSafetensors } from '../support/safetensors.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-criteo-'));
});
after(() => rm(folder, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

/** As facebookresearch/dlrm trains, unless a test says otherwise. */
const readCriteo = (path: string, options: CategoryRows & Partial<CriteoOptions>) =>
  readRows(path, { preprocessing: 'log(1 + max(x, 0))', ...options });

const numbers = (indices: Iterable<number | bigint> | undefined) => Array.from(indices ?? [], Number);

const INTEGERS = Array.from({ length: 13 }, (_, i) => `I${i + 1}`);
const CATEGORIES = Array.from({ length: 26 }, (_, i) => `C${i + 1}`);
const HEADER = ['label', ...INTEGERS, ...CATEGORIES].join(',');
const tableRows = Array.from({ length: 26 }, () => 1000);

/** A row: label 1, I{i} = i, C{c} = 'a', but for what `changed` says. */
function row(changed: Readonly<Record<string, string>> = {}, separator = ','): string {
  return ['label', ...INTEGERS, ...CATEGORIES]
    .map((name) => changed[name] ?? (name === 'label' ? '1' : name.startsWith('I') ? name.slice(1) : 'a'))
    .join(separator);
}

async function refuses(content: string, pattern: RegExp, line?: number): Promise<HotrowError> {
  const path = await file('bad.csv', content);
  const error = await readCriteo(path, { tableRows }).then(
    () => assert.fail('was read'),
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof WorkloadError, String(error));
  assert.equal(error.code, 'CRITEO_INVALID');
  assert.match(error.message, pattern);
  assert.ok(error.message.includes(path), error.message);
  if (line !== undefined) {
    assert.match(error.message, new RegExp(`line ${line}\\b`));
    assert.equal(error.details.position, line);
  }
  return error;
}

describe('the sample of real rows', () => {
  const sample = goldenPath('criteo_sample.csv');
  const vocabulary = goldenPath('criteo_vocab.json');
  const request = goldenPath('criteo.request.safetensors');
  const expected = goldenPath('criteo.expected.safetensors');
  const there = sample && vocabulary && request && expected;
  const skip = there ? false : 'the criteo golden files are not on this machine';

  test('is the golden request', { skip }, async () => {
    const read = await readCriteo(sample as string, { vocabulary: vocabulary as string });
    const golden = await readRequest(request as string);
    assert.equal(read.request.batchSize, 200);
    assert.equal(read.request.denseFeatures, 13);
    assert.equal(read.request.bags.length, 26);
    read.request.bags.forEach(({ indices, offsets }, t) => {
      assert.deepEqual(numbers(indices), numbers(golden.bags[t]?.indices), `indices of table ${t}`);
      assert.deepEqual(numbers(offsets), numbers(golden.bags[t]?.offsets), `offsets of table ${t}`);
    });
    assert.equal(read.request.dense.length, golden.dense.length);
    read.request.dense.forEach((value, i) => {
      // The golden logarithm may have been taken in float32: one unit in the last place.
      const other = golden.dense[i] as number;
      assert.ok(
        Math.abs(value - other) <= Math.abs(other) * 2 ** -23,
        `dense[${i}] = ${value}, not ${other}`,
      );
    });
    const labels = readSafetensors(expected as string).tensors.get('labels');
    assert.deepEqual(numbers(read.labels), numbers(labels?.data));
  });

  test('is the same gzipped', { skip }, async () => {
    const packed = await file('sample.csv.gz', gzipSync(readFileSync(sample as string)));
    const options = { vocabulary: vocabulary as string };
    assert.deepEqual(await readCriteo(packed, options), await readCriteo(sample as string, options));
  });
});

describe('layouts', () => {
  const check = async (content: string | Uint8Array, labels: number[] | undefined, name = 'rows.csv') => {
    const read = await readCriteo(await file(name, content), { tableRows });
    const { request } = read;
    assert.equal(request.batchSize, 2);
    assert.deepEqual(
      Array.from(request.dense.subarray(0, 13)),
      INTEGERS.map((_, i) => Math.fround(Math.log(i + 2))),
    );
    for (const { indices, offsets } of request.bags) {
      assert.deepEqual(numbers(indices), [10, 10]);
      assert.deepEqual(numbers(offsets), [0, 1]);
    }
    assert.deepEqual(read.labels && numbers(read.labels), labels);
  };
  const unlabelled = (text: string, separator: string) => text.split(separator).slice(1).join(separator);

  test('CSV with a header', () => check(`${HEADER}\n${row()}\n${row({ label: '0' })}\n`, [1, 0]));
  test('CRLF', () => check(`${HEADER}\r\n${row()}\r\n${row()}\r\n`, [1, 1]));
  test('no end of the last line', () => check(`${HEADER}\n${row()}\n${row()}`, [1, 1]));
  test('blank lines at the end', () => check(`${HEADER}\n${row()}\n${row()}\n\n\n`, [1, 1]));
  test('a header without label', () =>
    check([HEADER, row(), row()].map((line) => unlabelled(line, ',')).join('\n'), undefined));
  test('the original TSV', () => check(`${row({}, '\t')}\n${row({ label: '0' }, '\t')}\n`, [1, 0], 'day_0'));
  test('the original test set', () =>
    check([row({}, '\t'), row({}, '\t')].map((line) => unlabelled(line, '\t')).join('\n'), undefined));
  test('gzipped TSV', () => check(gzipSync(`${row({}, '\t')}\n${row({}, '\t')}\n`), [1, 1], 'day_0.gz'));
  test('columns in another order', () => {
    const reversed = [HEADER, row(), row()].map((line) => line.split(',').reverse().join(','));
    return check(reversed.join('\n'), [1, 1]);
  });

  test('a header alone is an empty batch', async () => {
    const { request, labels } = await readCriteo(await file('none.csv', `${HEADER}\n`), { tableRows });
    assert.equal(request.batchSize, 0);
    assert.equal(request.bags.length, 26);
    assert.equal(labels?.length, 0);
  });
});

describe('names of columns', () => {
  const TORCHREC = [
    'label',
    ...INTEGERS.map((_, i) => `int_${i}`),
    ...CATEGORIES.map((_, i) => `cat_${i}`),
  ].join(',');
  const fifth = async (header: string, line = row()) => {
    const { request } = await readCriteo(await file('names.csv', `${header}\n${line}\n`), { tableRows });
    return [request.batchSize, request.dense[4], numbers(request.bags[4]?.indices)[0]];
  };
  const expected = [1, Math.fround(Math.log(6)), 10];

  test("TorchRec's", async () => assert.deepEqual(await fifth(TORCHREC), expected));
  test('in capitals and small letters', async () => {
    assert.deepEqual(await fifth(HEADER.toLowerCase()), expected);
    assert.deepEqual(await fifth(TORCHREC.toUpperCase()), expected);
    assert.deepEqual(await fifth(HEADER.replace('label', 'Label')), expected);
  });
  test("TorchRec's in another order", async () => {
    const reversed = (line: string) => line.split(',').reverse().join(',');
    assert.deepEqual(await fifth(reversed(TORCHREC), reversed(row())), expected);
  });
  test('after a byte order mark', async () => assert.deepEqual(await fifth(`\uFEFF${HEADER}`), expected));
  test('an error calls a column as the file does', async () => {
    await refuses(`${TORCHREC}\n${row({ I5: 'x' })}\n`, /column int_4: "x"/, 2);
    await refuses(`${TORCHREC}\n${row({ C26: 'xyz' })}\n`, /column cat_25: category "xyz"/, 2);
  });
  test('a column that is none of them', async () => {
    await refuses(`${HEADER},user_id\n`, /names a column "user_id"/, 1);
    await refuses(`id,${HEADER}\n`, /names a column "id"/, 1);
    await refuses(`${TORCHREC.replace('int_12', 'int_13')}\n`, /names a column "int_13"/, 1);
  });
  test('a column twice', async () => {
    await refuses(`${HEADER},I3\n`, /"I3" and "I3", which are the same column/, 1);
    await refuses(`${HEADER},int_2\n`, /"I3" and "int_2", which are the same column/, 1);
    await refuses(`${HEADER},LABEL\n`, /"label" and "LABEL"/, 1);
  });
  test('a column that is missing', async () => {
    await refuses(`${TORCHREC.replace(',cat_25', '')}\n`, /lacks C26/, 1);
    await refuses(`${HEADER.replace(',I13', '')}\n`, /lacks I13/, 1);
  });
  test('numbers instead of names', () =>
    refuses(
      `${Array.from({ length: 40 }, (_, i) => i).join(',')}\n${row()}\n`,
      /numbers the columns, and does not name them/,
      1,
    ).then(() => {}));
  test('a category that is called as a column is one', async () => {
    const { request } = await readCriteo(await file('c1.tsv', row({ C1: 'c1', C2: 'C2' }, '\t')), {
      tableRows,
    });
    assert.equal(request.batchSize, 1);
    assert.deepEqual(numbers(request.bags[0]?.indices), [0xc1]);
  });
});

describe('what TorchRec trains on', () => {
  const torchrec = async (changed: Record<string, string>) =>
    (
      await readCriteo(await file('torchrec.csv', `${HEADER}\n${row(changed)}\n`), {
        tableRows,
        hexadecimal: 'int32',
        preprocessing: 'log(x + 3)',
      })
    ).request;

  test('numbers are log(x + 3), missing ones log 3', async () => {
    const { dense } = await torchrec({ I1: '', I2: '-2', I3: '0', I4: '260' });
    assert.deepEqual(
      Array.from(dense.subarray(0, 4)),
      [3, 1, 3, 263].map((x) => Math.fround(Math.log(x))),
    );
  });

  for (const value of ['-3', '-4', '-3.0']) {
    test(`${value} has no logarithm`, async () => {
      const error = await torchrec({ I7: value }).then(
        () => assert.fail('was read'),
        (cause: unknown) => cause,
      );
      assert.ok(error instanceof WorkloadError);
      assert.equal(error.code, 'CRITEO_INVALID');
      assert.match(error.message, /line 2, column I7: log\(x \+ 3\) has no value for "-/);
      assert.deepEqual([error.details.position, error.details.value], [2, value]);
    });
  }

  // numpy: numpy.array([0xffffffff, 0x80000001], dtype=numpy.int32) % 1000 == [999, 353]
  test('categories keep 32 bits as an int32', async () => {
    const { bags } = await torchrec({
      C1: 'ffffffff',
      C2: '80000001',
      C3: '7fffffff',
      C4: '',
      C5: '05db9164',
    });
    assert.deepEqual(
      bags.slice(0, 5).map(({ indices }) => Number(indices[0])),
      [999, 353, 0x7fffffff % 1000, 0, 0x05db9164 % 1000],
    );
  });

  test('numbers as they are', async () => {
    const path = await file('none.csv', `${HEADER}\n${row({ I1: '', I2: '-7', I3: '0.5' })}\n`);
    const { request } = await readCriteo(path, { tableRows, preprocessing: 'none' });
    assert.deepEqual(Array.from(request.dense.subarray(0, 4)), [0, -7, 0.5, 4]);
  });
});

describe('values', () => {
  const read = async (changed: Record<string, string>) =>
    (await readCriteo(await file('values.csv', `${HEADER}\n${row(changed)}\n`), { tableRows })).request;

  test('dense features', async () => {
    const { dense } = await read({ I1: '', I2: '-2', I3: '0', I4: '1', I5: '260.0', I6: '2147483647' });
    const expected = [0, 0, 0, Math.log(2), Math.log(261), Math.log(2 ** 31)].map(Math.fround);
    assert.deepEqual(Array.from(dense.subarray(0, 6)), expected);
  });

  test('hashed categories', async () => {
    const { bags } = await read({ C1: '', C2: '05db9164', C3: 'ffffffff', C4: 'FFFFFFFF', C5: '0' });
    const rows = bags.slice(0, 5).map(({ indices }) => Number(indices[0]));
    assert.deepEqual(rows, [0, 0x05db9164 % 1000, 0xffffffff % 1000, 0xffffffff % 1000, 0]);
  });

  test('each table has its own rows', async () => {
    const path = await file('own.csv', `${HEADER}\n${row({ C1: '7', C2: '7' })}\n`);
    const { request } = await readCriteo(path, { tableRows: [3, 5, ...tableRows.slice(2)] });
    assert.deepEqual(
      request.bags.slice(0, 2).map(({ indices }) => Number(indices[0])),
      [1, 2],
    );
  });
});

describe('a limit', () => {
  const rows = [HEADER, row({ I1: '1' }), row({ I1: '2' }), row({ I1: 'bad' })].join('\n');
  const read = async (limit: number) => readCriteo(await file('limit.csv', rows), { tableRows, limit });

  test('ends the reading: what follows is not looked at', async () => {
    for (const limit of [0, 1, 2]) {
      const { request, labels } = await read(limit);
      assert.equal(request.batchSize, limit);
      assert.equal(request.dense.length, 13 * limit);
      assert.equal(labels?.length, limit);
      for (const { indices, offsets } of request.bags) {
        assert.equal(indices.length, limit);
        assert.equal(offsets.length, limit);
      }
    }
    await assert.rejects(read(3), { code: 'CRITEO_INVALID' });
  });

  test('that is no number', () => assert.rejects(read(Number.NaN), { code: 'OPTION_INVALID' }));
});

describe('bad rows', () => {
  const csv = (...rows: string[]) => [HEADER, ...rows].join('\n');

  test('letters in a number', () => refuses(csv(row(), row({ I5: 'x' })), /I5.*"x"/, 3).then(() => {}));
  test('NaN in a number', () => refuses(csv(row({ I13: 'NaN' })), /I13.*"NaN"/, 2).then(() => {}));
  for (const text of ['Infinity', '0x1F', ' 5']) {
    test(`the number ${text}`, () => refuses(csv(row({ I1: text })), /I1\b/, 2).then(() => {}));
  }
  test('the value is a detail', async () => {
    assert.equal((await refuses(csv(row({ I5: 'x' })), /I5/, 2)).details.value, 'x');
  });
  test('a long value is not echoed whole', async () => {
    const { message } = await refuses(csv(row({ I5: 'x'.repeat(100_000) })), /I5/, 2);
    assert.ok(message.length < 400, `${message.length} characters`);
  });
  test('an empty file', () => refuses('', /empty/).then(() => {}));
  test('a category that is not hexadecimal', () =>
    refuses(csv(row({ C26: 'wxyz' })), /C26.*"wxyz"/, 2).then(() => {}));
  test('a category too large to be one', () =>
    refuses(csv(row({ C1: 'f'.repeat(64) })), /C1/, 2).then(() => {}));
  test('a label of 2', () => refuses(csv(row({ label: '2' })), /label.*"2"/, 2).then(() => {}));
  test('a field too few', () =>
    refuses(csv(row(), row().slice(0, -2)), /39 (fields|columns)/, 3).then(() => {}));
  test('a field too many', () => refuses(csv(`${row()},b`), /41 (fields|columns)/, 2).then(() => {}));
  test('tabs under a header of commas', () =>
    refuses(csv(row({}, '\t')), /1 (field|column)/, 2).then(() => {}));
  test('a header without C7', () => refuses(`${HEADER.replace(',C7', '')}\n`, /C7/, 1).then(() => {}));
  test('another file', () => refuses('once upon a time\n', /line 1/, 1).then(() => {}));
  test('a line without end', () => refuses('1'.repeat(4 << 20), /line/).then(() => {}));

  test('a model of another number of tables', async () => {
    const path = await file('good.csv', csv(row()));
    await assert.rejects(readCriteo(path, { tableRows: [10, 10] }), { code: 'CRITEO_INVALID' });
  });

  test('no such file', () =>
    assert.rejects(
      readCriteo(join(folder, 'nowhere.csv'), { tableRows }),
      (error) => error instanceof UsageError && error.code === 'FILE_NOT_FOUND',
    ));
});

describe('vocabularies', () => {
  const words = Array.from({ length: 26 }, () => ['', 'a', 'b']);
  const read = async (vocabulary: unknown, changed: Record<string, string> = {}, options = {}) => {
    const path = await file('vocabulary.json', JSON.stringify(vocabulary));
    const rows = await file('vocabulary.csv', `${HEADER}\n${row(changed)}\n`);
    return readCriteo(rows, { vocabulary: path, ...options });
  };

  test('unknown categories go to a row of their own if one is named', async () => {
    const { request } = await read(words, { C1: 'zzz', C2: 'b' }, { unknownRow: 0 });
    assert.deepEqual(
      request.bags.slice(0, 3).map(({ indices }) => Number(indices[0])),
      [0, 2, 1],
    );
  });

  test('a row is the position of the string', async () => {
    const { request } = await read(words, { C1: '', C2: 'b' });
    assert.deepEqual(
      request.bags.slice(0, 3).map(({ indices }) => Number(indices[0])),
      [0, 2, 1],
    );
  });

  for (const category of ['c', '__proto__', 'constructor', 'length']) {
    test(`the unknown category ${category}`, async () => {
      const error = await read(words, { C3: category }).then(
        () => assert.fail('was read'),
        (cause: unknown) => cause,
      );
      assert.ok(error instanceof WorkloadError);
      assert.equal(error.code, 'CRITEO_INVALID');
      assert.match(error.message, new RegExp(`line 2.*C3.*"${category}"`));
      assert.ok(error.hint);
    });
  }

  for (const [what, vocabulary] of [
    ['an object', { C1: ['a'] }],
    ['25 fields', words.slice(1)],
    ['27 fields', [...words, []]],
    ['a field that is no list', [...words.slice(1), 'abc']],
    ['a category that is no string', [...words.slice(1), [1, 2]]],
  ] as const) {
    test(`${what} is no vocabulary`, () => assert.rejects(read(vocabulary), { code: 'VOCABULARY_INVALID' }));
  }

  test('a string twice in a field', () =>
    assert.rejects(read([['a', 'a'], ...words.slice(1)]), { code: 'VOCABULARY_INVALID' }));

  test('a vocabulary that is not JSON', async () => {
    const vocabulary = await file('broken.json', '[[');
    const path = await file('v.csv', `${HEADER}\n`);
    await assert.rejects(readCriteo(path, { vocabulary }), { code: 'FILE_TRUNCATED' });
  });

  test('what is no JSON at all is named', async () => {
    const path = await file('v.csv', `${HEADER}\n`);
    const vocabulary = await file('words.txt', 'a\nb\n');
    await assert.rejects(readCriteo(path, { vocabulary }), {
      code: 'FORMAT_UNKNOWN',
      message: /is a text file/,
    });
  });

  test('no such vocabulary', async () => {
    const path = await file('v.csv', `${HEADER}\n`);
    await assert.rejects(readCriteo(path, { vocabulary: join(folder, 'nowhere.json') }), {
      code: 'FILE_NOT_FOUND',
    });
  });
});
