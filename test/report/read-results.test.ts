/** What `readResults` accepts, and which error every kind of bad input gets. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HotrowError } from '../../src/errors.ts';
import { parseResults, readResults } from '../../src/report/read-results.ts';
import { recordedBench, smallCharacterization } from './results.ts';

const RECORDED = [
  'h200-paper',
  'h200-paper-traces',
  'h200-paper-sweeps',
  'cpu-zen5-quick',
  'cpu-zen5-traces',
];
const path = (name: string) => fileURLToPath(new URL(`../../bench/results/${name}.json`, import.meta.url));

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-results-'));
});
after(() => rm(folder, { recursive: true }));

for (const name of RECORDED) {
  test(`${name}.json is read, though older than some optional fields`, async () => {
    assert.deepEqual(await readResults(path(name)), JSON.parse(await readFile(path(name), 'utf8')));
  });
}

test('a characterization is read', () => {
  const own = smallCharacterization();
  assert.deepEqual(parseResults(own), own);
});

async function refuses(
  name: string,
  contents: string | undefined,
  code: string,
  pattern: RegExp,
): Promise<void> {
  const file = join(folder, name);
  if (contents !== undefined) await writeFile(file, contents);
  await assert.rejects(readResults(file), (error) => {
    assert.ok(error instanceof HotrowError);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    assert.ok(error.message.includes(file), 'it names the file');
    return true;
  });
}

const text = (change: (results: Record<string, unknown>) => void) => {
  const results = recordedBench('cpu-zen5-quick.json') as unknown as Record<string, unknown>;
  change(results);
  return JSON.stringify(results);
};

test('a missing file', () => refuses('missing.json', undefined, 'FILE_NOT_FOUND', /no such file/));
test('a folder', () => refuses('.', undefined, 'FILE_UNREADABLE', /is a folder/));
test('an empty file', () => refuses('empty.json', ' \n', 'FILE_TRUNCATED', /is empty/));
test('a file that was cut', () =>
  refuses('cut.json', text(() => {}).slice(0, 5000), 'FILE_TRUNCATED', /ends in the middle/));
test('not JSON', () => refuses('bad.json', '{"kind": bench}', 'JSON_INVALID', /Unexpected token/));
test('a web page', () =>
  refuses('page.json', '<html></html>', 'FORMAT_UNKNOWN', /is a web page, not results/));
test('a plan', () =>
  refuses(
    'tuned.json',
    '{"version":1,"device":"cpu","kernel":"standard","techniques":{}}',
    'FORMAT_UNKNOWN',
    /is a plan, not results/,
  ));
test('JSON that is no object', () => refuses('list.json', '[]', 'RESULTS_INVALID', /JSON object/));
test('no kind', () => refuses('plan.json', '{"version":1}', 'FORMAT_UNKNOWN', /kind is missing/));
test('another kind', () =>
  refuses(
    'kind.json',
    text((results) => {
      results.kind = 'toString';
    }),
    'FORMAT_UNKNOWN',
    /"toString" is none of bench, characterize/,
  ));
test('another version', () =>
  refuses(
    'version.json',
    text((results) => {
      results.version = 2;
    }),
    'FORMAT_UNKNOWN',
    /version 2, this Hotrow reads version 1/,
  ));
test('a member of the wrong type is named by its path', () =>
  refuses(
    'type.json',
    text((results) => {
      (results.embedding as { speedup: unknown }[])[3] = {
        ...(results.embedding as { speedup: unknown }[])[3],
        speedup: '2',
      };
    }),
    'RESULTS_INVALID',
    /\/embedding\/3\/speedup must be number/,
  ));
test('a member that nobody knows', () =>
  refuses(
    'extra.json',
    text((results) => {
      results.surprise = 1;
    }),
    'RESULTS_INVALID',
    /\/surprise is not a member/,
  ));
test('a share past 1', () =>
  refuses(
    'hotness.json',
    text((results) => {
      results.hotness = [{ pattern: 'p', points: [[1, 1.5]] }];
    }),
    'RESULTS_INVALID',
    /\/hotness\/0\/points\/0\/1/,
  ));
