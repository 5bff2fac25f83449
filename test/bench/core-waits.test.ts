import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CoreWaits } from '../../src/bench/core-waits.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-waits-'));
after(() => rmSync(folder, { recursive: true }));

function thread(name: string, ran: number, waited: number): void {
  mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, name, 'schedstat'), `${ran} ${waited} 12\n`);
}

test('counts what all threads waited since, those that came meanwhile too', () => {
  thread('1', 1000, 500);
  thread('2', 0, 0);
  thread('gone', 5000, 5000);
  const waits = new CoreWaits(folder);
  assert.equal(waits.share(), undefined, 'nothing has run');
  thread('1', 1600, 600);
  thread('3', 200, 100);
  rmSync(join(folder, 'gone'), { recursive: true });
  assert.equal(waits.share(), 200 / 1000);
  assert.match(waits.note() ?? '', /threads waited 20 % of their time for a core/);
  thread('1', 9600, 600);
  assert.equal(waits.note(), undefined, 'a little is always waited');
});

test('says nothing where the system does not tell', () => {
  const waits = new CoreWaits(join(folder, 'not there'));
  assert.deepEqual([waits.share(), waits.note()], [undefined, undefined]);
});
