/** Copies of the work tree that build at once. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Builders, WorkCopy } from '../../scripts/mutants/work-copy.ts';

test('each copy keeps its own objects, of the compiler that the environment names', async () => {
  const named = process.env.CC;
  const compilers: (string | undefined)[] = [];
  const starts: (() => void)[] = [];
  const copy = () =>
    new WorkCopy(mkdtempSync(join(tmpdir(), 'hotrow-copy-test-')), {
      buildNative: ({ environment }) => {
        compilers.push(environment.CC);
        return new Promise<void>((resolve) => starts.push(resolve));
      },
      bundleTests: () => assert.fail('nothing is tested'),
    } satisfies Builders);
  using first = copy();
  using second = copy();
  const copies = [first, second];
  const builds = copies.map((own) => own.build());
  assert.equal(process.env.CC, named, 'while they build');
  for (const end of starts) end();
  await Promise.all(builds);
  const again = first.build();
  starts.at(-1)?.();
  await again;
  assert.equal(process.env.CC, named);
  const expected = [first, second, first].map(({ root }) =>
    [
      process.execPath,
      join(root, 'scripts/mutants/kept-objects.mjs'),
      join(root, '.objects'),
      named?.trim() || 'cc',
    ].join(' '),
  );
  assert.deepEqual(compilers, expected);
});
