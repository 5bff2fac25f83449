/** The list of mutants follows the code; that tests kill them is not tried here, which takes too long. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
// @ts-expect-error: a script, without types
import { nearestTests } from '../../scripts/changed-tests.mjs';
import { MUTANTS } from '../../scripts/mutants/list.ts';
import { faultsOf, type Mutant, mutantsOf, nameOf, testsOfMutant } from '../../scripts/mutants/mutant.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** What mutants change, so that a change there chooses this test. */
const MUTATED = [new URL('../../src', import.meta.url), new URL('../../kernels', import.meta.url)];

test('each mutant has its text in its file exactly once, and tests that are there', () => {
  assert.deepEqual(faultsOf(MUTANTS, root), []);
  const folders = MUTATED.map((url) => fileURLToPath(url));
  for (const mutant of MUTANTS)
    assert.ok(
      folders.some((folder) => join(root, mutant.file).startsWith(`${folder}/`)),
      `${mutant.file} is not what mutants change`,
    );
  assert.equal(new Set(MUTANTS.map(nameOf)).size, MUTANTS.length, 'no mutant stands twice');
});

test('few are said to be equivalent, each with a reason', () => {
  const equivalent = MUTANTS.filter(({ equivalent: reason }) => reason !== undefined);
  assert.ok(equivalent.length <= 5);
  for (const { equivalent: reason } of equivalent) assert.match(reason as string, /\w+ \w+/);
});

test('what does not follow the code is named', (t) => {
  const own = mkdtempSync(join(tmpdir(), 'hotrow-mutants-test-'));
  t.after(() => rmSync(own, { recursive: true }));
  for (const folder of ['src', 'test']) mkdirSync(join(own, folder));
  writeFileSync(join(own, 'src/a.ts'), 'one two two');
  writeFileSync(join(own, 'test/a.test.ts'), "import '../src/a.ts';");
  writeFileSync(join(own, 'test/b.test.ts'), "import './a.test.ts';\nimport './c.ts';");
  writeFileSync(join(own, 'test/c.test.ts'), '');
  const [good, twice, never, same, lost, untested] = [
    ...mutantsOf('src/a.ts', [
      ['one', 'three'],
      ['two', 'three'],
      ['three', 'one'],
      ['one', 'one'],
    ]),
    ...mutantsOf('src/b.ts', [['one', 'two']]),
    ...mutantsOf('src/a.ts', [['one', '']], ['test/d.test.ts']),
  ] as [Mutant, Mutant, Mutant, Mutant, Mutant, Mutant];
  const faults = (mutant: Mutant) => faultsOf([mutant], own);
  assert.deepEqual(faults(good), []);
  assert.match(faults(twice).join(), /src\/a\.ts: two → three: its text occurs 2 times/);
  assert.match(faults(never).join(), /occurs 0 times/);
  assert.match(faults(same).join(), /changes nothing/);
  assert.match(faults(lost).join(), /src\/b\.ts: one → two: its text occurs 0 times/);
  assert.match(faults(untested).join(), /there is no test\/d\.test\.ts/);
  assert.deepEqual(testsOfMutant(good, own, new Map()), ['test/a.test.ts', 'test/b.test.ts']);
  assert.deepEqual(testsOfMutant(untested, own, new Map()), ['test/d.test.ts']);
  assert.deepEqual(nearestTests('src/b.ts', ['test/a.test.ts'], own), []);
});
