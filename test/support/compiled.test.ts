/** The cache of libraries that tests compile. */
import assert from 'node:assert/strict';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { compiledFolder, keepLibrary, keptLibrary, shareLibrary } from './compiled.ts';

const root = mkdtempSync(join(tmpdir(), 'hotrow-compiled-'));
after(() => rmSync(root, { recursive: true }));
const built = join(root, 'library.so');
writeFileSync(built, 'machine code');

test('a library is kept for its inputs and no others', () => {
  const folder = join(root, 'kept');
  assert.equal(keptLibrary(['a', 'b'], folder), undefined);
  const path = keepLibrary(['a', 'b'], built, { folder });
  assert.equal(keptLibrary(['a', 'b'], folder), path);
  assert.equal(readFileSync(path).subarray(0, 12).toString(), 'machine code');
  for (const others of [['a'], ['b', 'a'], ['ab'], ['a', 'b', '']])
    assert.equal(keptLibrary(others, folder), undefined, others.join());
});

test('a library is shared by several inputs', () => {
  const folder = join(root, 'shared');
  const path = keepLibrary(['a'], built, { folder });
  for (let time = 0; time < 2; time++) {
    const shared = shareLibrary(['b'], path, folder);
    assert.notEqual(shared, path);
    assert.equal(keptLibrary(['b'], folder), shared);
    assert.equal(readFileSync(shared).subarray(0, 12).toString(), 'machine code');
    assert.equal(readdirSync(folder).length, 2);
  }
});

test('a damaged library is as if it were not there, until it is kept again', () => {
  const folder = join(root, 'damaged');
  const path = keepLibrary(['a'], built, { folder });
  const bytes = readFileSync(path);
  for (const damage of [
    () => truncateSync(path, bytes.length - 1),
    () => truncateSync(path, 0),
    () => writeFileSync(path, bytes.fill(0, 3, 4)),
  ]) {
    damage();
    assert.equal(keptLibrary(['a'], folder), undefined);
    keepLibrary(['a'], built, { folder });
    assert.equal(keptLibrary(['a'], folder), path);
  }
});

test('of too many libraries those unused longest are deleted', () => {
  const folder = join(root, 'many');
  for (let i = 0; i < 4; i++) {
    const path = keepLibrary([`${i}`], built, { folder, mostKept: 4 });
    utimesSync(path, 1000 + i, 1000 + i);
  }
  assert.ok(keptLibrary(['0'], folder), 'used last');
  keepLibrary(['4'], built, { folder, mostKept: 4 });
  const left = ['0', '1', '2', '3', '4'].filter((input) => keptLibrary([input], folder) !== undefined);
  assert.deepEqual(left, ['0', '4']);
  assert.equal(readdirSync(folder).length, 2);
});

test('what was left unfinished is deleted once it is old', () => {
  const folder = join(root, 'unfinished');
  keepLibrary(['a'], built, { folder });
  const [old, young] = ['.unfinished-old', '.unfinished-young'].map((name) => join(folder, name)) as [
    string,
    string,
  ];
  writeFileSync(old, '');
  utimesSync(old, 1000, 1000);
  writeFileSync(young, '');
  keepLibrary(['b'], built, { folder });
  const names = readdirSync(folder).filter((name) => name.startsWith('.'));
  assert.deepEqual(names, ['.unfinished-young']);
});

test('the folder follows XDG_CACHE_HOME where it is absolute', () => {
  assert.equal(compiledFolder({ XDG_CACHE_HOME: '/c' }), '/c/hotrow-tests');
  assert.match(compiledFolder({ XDG_CACHE_HOME: 'relative' }), /\/\.cache\/hotrow-tests$/);
  assert.match(compiledFolder({}), /\/\.cache\/hotrow-tests$/);
});
