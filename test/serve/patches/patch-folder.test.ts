/** The patches in a version's folder, and which of them a model takes. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { ModelPatches, PartlyPatched } from '../../../src/serve/models/model-patches.ts';
import { listPatches, removeUnfinished, writePatch } from '../../../src/serve/patches/patch-folder.ts';
import { safetensorsBody } from '../../support/infer-bodies.ts';
import { f32, i32 } from '../../support/request-tensors.ts';

const top = mkdtempSync(join(tmpdir(), 'hotrow-patch-folder-'));
after(() => rmSync(top, { recursive: true }));
let folder: string;
beforeEach(() => {
  folder = join(mkdtempSync(join(top, 'version-')), 'patches');
});

const MODEL = {
  name: 'ads',
  version: '1',
  tables: [{ name: 't', rows: 4, dim: 1, rowFormat: 'float32' as const }],
};
const patch = (sequence: number, value = sequence) =>
  safetensorsBody(
    { 'rows.t': i32([1], [0]), 'values.t': f32([1, 1], [value]) },
    { model: 'ads', version: '1', sequence: String(sequence) },
  ).body;
const put = (name: string, bytes: Uint8Array) => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), bytes);
};

/** Copies that take patches, or refuse as the test says. */
function copies(count: number) {
  const taken: number[][] = Array.from({ length: count }, () => []);
  const refusing = new Set<number>();
  const engines = taken.map((own, i) => ({
    async patch(bytes: Uint8Array) {
      if (refusing.has(i)) throw new Error(`copy ${i} has no memory`);
      own.push(Number(/"sequence":"(\d+)"/.exec(Buffer.from(bytes).toString('latin1'))?.[1]));
    },
  }));
  return { taken, refusing, patches: new ModelPatches(folder, MODEL, engines, { sequence: 0 }) };
}

test('are numbered without gaps, each in one file', async () => {
  assert.deepEqual(await listPatches(folder), []);
  put('2.safetensors', patch(2));
  await assert.rejects(listPatches(folder), {
    code: 'PATCH_GAP',
    message: /has patch 2, and patch 1 is missing/,
  });
  put('0001.safetensors', patch(1));
  for (const other of ['0.safetensors', 'x.safetensors', '3.pt', '0003.safetensors.0a.partial'])
    put(other, patch(3));
  assert.deepEqual(
    (await listPatches(folder)).map(({ sequence }) => sequence),
    [1, 2],
  );
  put('02.safetensors', patch(2));
  await assert.rejects(listPatches(folder), { code: 'PATCH_CONFLICT' });
  rmSync(join(folder, '02.safetensors'));
  symlinkSync(join(folder, '2.safetensors'), join(folder, '3.safetensors'));
  await assert.rejects(listPatches(folder), { code: 'REPOSITORY_INVALID', message: /is no file/ });
});

test('one that is there is not written over', async () => {
  assert.equal(await writePatch(folder, 1, patch(1)), join(folder, '0001.safetensors'));
  await assert.rejects(writePatch(folder, 1, patch(1, 5)), { code: 'FILE_UNWRITABLE' });
  assert.deepEqual(readdirSync(folder), ['0001.safetensors']);
});

test('the folder of a version that has gone is not made', async () => {
  rmSync(dirname(folder), { recursive: true });
  await assert.rejects(writePatch(folder, 1, patch(1)), { code: 'FILE_UNWRITABLE' });
  assert.equal(existsSync(dirname(folder)), false);
});

test('what was applied is to be there: none is taken, and it is told, until it is', async () => {
  const { taken, patches } = copies(1);
  for (const sequence of [1, 2]) await patches.receive(patch(sequence));
  const lost = { code: 'REPOSITORY_INVALID', message: /has lost patch [12], which is applied/ };
  rmSync(join(folder, '0002.safetensors'));
  for (const sequence of [1, 2, 3]) await assert.rejects(patches.receive(patch(sequence)), lost);
  await assert.rejects(patches.look(), lost);
  rmSync(folder, { recursive: true });
  await assert.rejects(patches.receive(patch(3)), lost);
  for (const sequence of [1, 2]) put(`${sequence}.safetensors`, patch(sequence));
  assert.equal((await patches.receive(patch(3))).applied, true);
  assert.deepEqual(taken, [[1, 2, 3]]);
});

test('those that come are taken in order, once', async () => {
  const { taken, patches } = copies(2);
  await assert.rejects(patches.receive(patch(2)), { code: 'PATCH_GAP', message: /patch 1 is missing/ });
  assert.equal((await patches.receive(patch(1))).applied, true);
  assert.equal((await patches.receive(patch(1))).applied, false);
  await assert.rejects(patches.receive(patch(1, 7)), { code: 'PATCH_CONFLICT' });
  put('0002.safetensors', patch(2));
  // What lies in the folder comes first.
  assert.equal((await patches.receive(patch(3))).applied, true);
  assert.deepEqual(taken, [
    [1, 2, 3],
    [1, 2, 3],
  ]);
  assert.equal(patches.patched.sequence, 3);
});

test('two servers of one folder take each number once', async () => {
  const servers = [copies(1), copies(1)];
  for (let sequence = 1; sequence <= 8; sequence++) {
    // Of some numbers both are sent the same patch, of others different ones.
    const sent = servers.map((_, i) => (sequence % 2 === 0 ? patch(sequence) : patch(sequence, 10 * i)));
    const told = await Promise.allSettled(
      servers.map(({ patches }, i) => patches.receive(sent[i] as Buffer)),
    );
    const refused = told.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []));
    assert.deepEqual(refused, sequence % 2 === 0 ? [] : ['PATCH_CONFLICT']);
    for (const { patches } of servers) await patches.look();
  }
  for (const { taken } of servers) assert.deepEqual(taken, [[1, 2, 3, 4, 5, 6, 7, 8]]);
});

test('one whose number something wrong has in the folder is refused', async () => {
  const { patches } = copies(1);
  put('1.safetensors', Buffer.from('no patch'));
  await assert.rejects(patches.receive(patch(1)), {
    code: 'PATCH_CONFLICT',
    message: /lies in the folder, and is not applied/,
  });
  rmSync(join(folder, '1.safetensors'));
  assert.equal((await patches.receive(patch(1))).applied, true);
});

test('one that no copy takes leaves nothing; one that some take says so', async () => {
  const { taken, refusing, patches } = copies(2);
  refusing.add(0).add(1);
  await assert.rejects(patches.receive(patch(1)), /copy 0 has no memory/);
  assert.deepEqual(readdirSync(folder), []);
  refusing.delete(1);
  await assert.rejects(patches.receive(patch(1)), PartlyPatched);
  assert.deepEqual(readdirSync(folder), []);
  refusing.clear();
  assert.equal((await patches.receive(patch(1))).applied, true);
  assert.equal(patches.patched.sequence, 1);
  assert.deepEqual(taken[0], [1]);
});

test('copies that were ready at other times get what each lacks; what is wrong is told once', async () => {
  const { taken, patches } = copies(2);
  for (const sequence of [1, 2]) put(`${sequence}.safetensors`, patch(sequence));
  await patches.look([{ sequence: 2 }, { sequence: 1 }]);
  assert.deepEqual([taken, patches.patched.sequence], [[[], [2]], 2]);
  put('0003.safetensors', patch(9));
  await assert.rejects(patches.look(), {
    code: 'PATCH_INVALID',
    message: /0003\.safetensors: .*is 9, and its name says 3/,
  });
  await patches.look();
  put('0003.safetensors', patch(3));
  await patches.look();
  assert.deepEqual(taken, [[3], [2, 3]]);
});

test('what a server that was killed had begun goes, and nothing else does', async () => {
  await removeUnfinished(folder);
  const [left, other] = ['0001.safetensors.0123456789ab.partial', 'notes.partial'];
  for (const name of [left, other, '0001.safetensors']) put(name, patch(1));
  // Another server may be writing it.
  await removeUnfinished(folder);
  assert.equal(existsSync(join(folder, left)), true);
  await removeUnfinished(folder, Date.now() + 3_600_000);
  assert.deepEqual(readdirSync(folder).sort(), ['0001.safetensors', other]);
  assert.equal((await listPatches(folder)).length, 1);
});
