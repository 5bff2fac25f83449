import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
// @ts-expect-error: a script, without types
import { noticeOf } from '../../scripts/bundled-licences.mjs';
// @ts-expect-error: a script, without types
import { FOR_NODE } from '../../scripts/esbuild-options.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const of = (path: string, bytesInOutput = 1) => ({ [path]: { bytesInOutput } });

test('what is bundled of a package has its licence', () => {
  const notice = noticeOf(root, { ...of('src/at.ts'), ...of('node_modules/typebox/build/index.mjs') });
  assert.match(notice, /^\/\*!\ntypebox:\n[\s\S]*Permission is hereby granted[\s\S]*\n\*\/\n$/);
});

test('own sources need none, nor does a package of which nothing is left', () => {
  assert.equal(noticeOf(root, { ...of('src/at.ts'), ...of('node_modules/typebox/build/index.mjs', 0) }), '');
});

test('a package without a licence is not bundled', () => {
  assert.throws(() => noticeOf(root, of('node_modules/no-such-package/index.js')), /has no licence/);
});

test('of the packages that are installed with Hotrow, the one of many files is bundled', () => {
  assert.ok(!FOR_NODE.external.includes('typebox'));
  assert.ok(FOR_NODE.external.includes('koffi'));
});
