/** Files by URL: whatever takes the path of a file takes `new URL('…', import.meta.url)` too. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import * as H from '../../src/index.ts';

// A space, a letter beyond ASCII and a percent sign are escaped in URLs.
const folder = mkdtempSync(join(tmpdir(), 'hotrow é 100% '));
after(() => rmSync(folder, { recursive: true, force: true }));

const FUNCTIONS: readonly (readonly [string, (file: H.FilePath) => Promise<unknown>])[] = [
  ['loadModel', (file) => H.loadModel(file, { device: 'cpu' })],
  ['loadCheckpoint', H.loadCheckpoint],
  ['readRequest', (file) => H.readRequest(file)],
  ['readResults', H.readResults],
  ['readPlan', H.readPlan],
  ['readTrace', (file) => H.readTrace(file)],
];

for (const [name, read] of FUNCTIONS) {
  test(`${name}: a URL names the file that its path names`, async () => {
    const file = join(folder, `${name}.bin`);
    const [byPath, byUrl] = await Promise.allSettled([read(file), read(pathToFileURL(file))]);
    assert.ok(byPath?.status === 'rejected' && byPath.reason.code === 'FILE_NOT_FOUND');
    assert.ok(byUrl?.status === 'rejected' && byUrl.reason.code === 'FILE_NOT_FOUND');
    assert.equal(byUrl.reason.message, byPath.reason.message);
  });

  test(`${name}: URLs of other schemes, and what only looks like a URL, are refused`, async () => {
    const hostile = Object.create(URL.prototype) as URL;
    for (const url of [
      new URL('https://localhost/x'),
      new URL('data:,x'),
      hostile,
      { href: 'file:///x' } as URL,
    ])
      await assert.rejects(read(url), { code: 'OPTION_INVALID' });
  });
}

test('a trace by URL', async () => {
  const file = join(folder, 'trace.txt');
  writeFileSync(file, '1\n2\n1\n');
  const [byPath, byUrl] = await Promise.all([H.readTrace(file), H.readTrace(pathToFileURL(file))]);
  assert.deepEqual(byUrl, byPath);
});
