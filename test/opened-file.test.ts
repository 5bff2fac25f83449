/** Files that are open: what is under way when they are closed, and when the thread that opened them ends. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { OpenedFile, readWhole, writeWhole } from '../src/opened-file.ts';
import { bundledProgram } from './support/bundled-program.ts';
import type { OpeningWork } from './support/opening-worker.ts';
import { descriptors, leavesNoFilesOpen, refuseCounting } from './support/resources.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-opened-'));
const file = join(folder, 'numbers');
writeFileSync(
  file,
  Uint8Array.from({ length: 64 }, (_, i) => i),
);
after(() => rmSync(folder, { recursive: true, force: true }));

describe('a file that is open', () => {
  test('is read at a place, and from where the last read ended', async () => {
    await leavesNoFilesOpen(async () => {
      await using opened = new OpenedFile(file, 'r');
      assert.equal(opened.size, 64);
      const into = new Uint8Array(8);
      assert.equal(await opened.read(into, 2, 4, 10), 4);
      assert.deepEqual([...into], [0, 0, 10, 11, 12, 13, 0, 0]);
      assert.equal(await opened.read(into, 0, 8, null), 8);
      assert.deepEqual([...into], [0, 1, 2, 3, 4, 5, 6, 7]);
      assert.equal(await opened.read(into, 0, 8, 60), 4);
      assert.deepEqual([...(await opened.readAll())], [...readFileSync(file).subarray(8)]);
    });
  });

  test('is written piece by piece, or added to', async () => {
    const path = join(folder, 'written');
    await leavesNoFilesOpen(async () => {
      await using opened = new OpenedFile(path, 'wx');
      for (const text of ['one ', 'two ']) await opened.write(Buffer.from(text));
      opened.chmod(0o600);
      assert.equal(opened.stat().mode & 0o777, 0o600);
      await opened.sync();
    });
    await writeWhole(path, 'three', 'a');
    assert.equal(String(await readWhole(path)), 'one two three');
    await writeWhole(path, Buffer.from('four'));
    assert.equal(String(await readWhole(path)), 'four');
    assert.throws(() => new OpenedFile(path, 'wx'), { code: 'EEXIST' });
    await assert.rejects(readWhole(join(folder, 'none')), { code: 'ENOENT' });
  });

  test('is closed after what is under way, and not used any more', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await leavesNoFilesOpen(async () => {
      // To both ends, so that opening it does not wait for others.
      const [opened, other] = [new OpenedFile(pipe, 'r+'), new OpenedFile(pipe, 'r+')];
      const order: string[] = [];
      const told = (what: string) => () => void order.push(what);
      const reading = opened.read(new Uint8Array(4), 0, 4, null);
      const ended = [reading.then(told('read')), opened.close().then(told('closed'))];
      await sleep(10);
      order.push('written');
      await other.write(Buffer.from('four'));
      await Promise.all(ended);
      assert.deepEqual(order, ['written', 'read', 'closed']);
      await assert.rejects(opened.read(new Uint8Array(4), 0, 4, null), { code: 'ERR_OUT_OF_RANGE' });
      await opened.close();
      await other.close();
    });
  });
});

test('a thread that ends while it opens files leaves none open', { skip: refuseCounting }, async () => {
  const program = await bundledProgram(new URL('./support/opening-worker.ts', import.meta.url));
  const workerData: OpeningWork = { file, folder };
  const before = descriptors();
  for (let i = 0; i < 12; i++) {
    const worker = new Worker(program, { workerData });
    await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await sleep(i);
    await worker.terminate();
  }
  assert.equal(descriptors(), before);
});
