/** Threads of engines that are kept for the next model: how many there are, what they hold, and when they end. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { nativeCounts } from '../../../src/ffi/owned-handles.ts';
import { Client, jsonIn, outputsIn, refusal } from '../../support/http-client.ts';
import { protocolBody } from '../../support/infer-bodies.ts';
import { Random } from '../../support/random.ts';
import { lengthsOf, NAMES } from '../../support/request-forms.ts';
import { f32, i32 } from '../../support/request-tensors.ts';
import { refuseCounting, threads } from '../../support/resources.ts';
import { SEED } from '../../support/seed.ts';
import { type Overrides, programs, rowsModel, saidBy, serve, writeRowsModel } from '../../support/served.ts';

const { dense, bags } = saidBy(new Random(SEED), 3);
const sent = protocolBody({
  dense: f32([3, 2], dense.flat()),
  values: i32([bags.flat(2).length], bags.flat(2)),
  lengths: i32([NAMES.length, 3], bags.flatMap(lengthsOf)),
});
const top = mkdtempSync(join(tmpdir(), 'hotrow-spares-'));
after(() => rmSync(top, { recursive: true }));

const folderOf = (what: string) => mkdtempSync(join(top, `${what}-`));

/**
 * A server whose threads of engines are files in two folders: those that have begun, and those that have
 * not ended in order; what `code` adds to each.
 */
async function watched({ code = '', ...options }: Overrides & { readonly code?: string } = {}) {
  const [begun, running] = [folderOf('begun'), folderOf('running')];
  const program = join(begun, '..', `${begun.slice(-6)}.mjs`);
  const place = (folder: string) => `${JSON.stringify(folder)} + '/' + threadId`;
  writeFileSync(
    program,
    `import { parentPort, threadId } from 'node:worker_threads';
    import { existsSync, rmSync, writeFileSync } from 'node:fs';
    writeFileSync(${place(begun)}, '');
    writeFileSync(${place(running)}, '');
    process.on('exit', () => rmSync(${place(running)}));
    await import(${JSON.stringify(pathToFileURL(programs.engine).href)});
    ${code}`,
  );
  const security = { access: { origins: [], isAdministered: true } };
  const served = await serve({ security, programs: { ...programs, engine: program }, ...options });
  const client = new Client(served.port);
  const count = (folder: string) => readdirSync(folder).length;
  return {
    served,
    begun: () => count(begun),
    running: () => count(running),
    act: async (verb: string, model = 'rows') => {
      const reply = await client.ask('POST', `/v2/repository/models/${model}/${verb}`);
      return reply.status === 200 ? '200' : refusal(reply);
    },
    ask: async () => outputsIn(await client.infer('rows', sent)),
    reasonOf: async () => jsonIn(await client.ask('POST', '/v2/repository/index'))[0].reason as string,
    errors: () => served.events.flatMap((event) => (event.kind === 'error' ? [event.error.message] : [])),
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      await served.server.close();
    },
  };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('a model that is loaded again and again runs in two threads by turns, and nothing grows', async () => {
  await using own = await watched();
  const wanted = await own.ask();
  const counted: object[] = [];
  for (let load = 0; load < 5; load++) {
    assert.equal(await own.act('load'), '200');
    assert.deepEqual(await own.ask(), wanted);
    counted.push({ ...nativeCounts(), ...(refuseCounting === undefined && { threads: threads() }) });
  }
  for (const counts of counted) assert.deepEqual(counts, counted[0]);
  assert.deepEqual([own.begun(), own.running()], [2, 2]);
  assert.deepEqual(own.errors(), []);
  await own.served.server.close();
  assert.equal(own.running(), 0);
});

test('batches are not timed again for a model that has other weights only', async () => {
  const repository = folderOf('repository');
  await writeRowsModel(join(repository, 'rows', '1'), 1);
  await using own = await watched({ repository });
  let seen = 0;
  const sizes = () => {
    const events = own.served.events.slice(seen);
    seen += events.length;
    return events.flatMap((event) => {
      const text = event.kind === 'loading' ? event.text : '';
      return /^warming up: batches of (\d+)$/.exec(text)?.[1] ?? [];
    });
  };
  const all = ['1', '4', '16', '64', '256', '1024', '2048'];
  assert.deepEqual(sizes(), all);
  await writeRowsModel(join(repository, 'rows', '2'), 2);
  for (let load = 0; load < 2; load++) {
    assert.equal(await own.act('load'), '200');
    assert.deepEqual(sizes(), ['1']);
  }
  // 12 rows instead of 6.
  await writeRowsModel(join(repository, 'rows', '3'), 3, { firstRows: 12 });
  assert.equal(await own.act('load'), '200');
  assert.deepEqual(sizes(), all);
});

test('a spare thread holds nothing of the library, and serves a model of another name', async () => {
  const before = nativeCounts();
  await using own = await watched({ models: { rows: rowsModel, other: rowsModel } });
  const slots = nativeCounts();
  assert.equal(await own.act('unload'), '200');
  assert.equal(await own.act('unload', 'other'), '200');
  const spare = nativeCounts();
  // What is left are the slots of the thread that receives requests.
  for (const what of ['pools', 'poolThreads', 'mappedFiles', 'mappedBytes', 'handles'] as const)
    assert.equal(spare[what], before[what], what);
  assert.equal(spare.allocations, before.allocations + 1);
  assert.ok(slots.mappedFiles > before.mappedFiles);
  await until(() => own.running() === 1);
  assert.equal(await own.act('load', 'other'), '200');
  assert.equal(await own.act('load'), '200');
  await own.ask();
  assert.deepEqual([own.begun(), own.running()], [3, 2]);
});

describe('a thread is not kept', () => {
  test('where a model did not load', async () => {
    const repository = folderOf('repository');
    await writeRowsModel(join(repository, 'rows', '1'), 1);
    await using own = await watched({ repository });
    const wanted = await own.ask();
    const second = await writeRowsModel(join(repository, 'rows', '2'), 2);
    const file = second.replace(/hotrow\.json$/, 'safetensors');
    truncateSync(file, 200);
    assert.equal(await own.act('load'), '409 LOAD_FAILED');
    assert.equal(own.begun(), 2);
    await writeRowsModel(join(repository, 'rows', '2'), 2);
    assert.equal(await own.act('load'), '200');
    assert.equal(own.begun(), 3);
    assert.notDeepEqual(await own.ask(), wanted);
    // In the thread that was kept.
    truncateSync(file, 200);
    assert.equal(await own.act('load'), '409 LOAD_FAILED');
    assert.equal(own.begun(), 3);
    await writeRowsModel(join(repository, 'rows', '2'), 2);
    assert.equal(await own.act('load'), '200');
    assert.equal(own.begun(), 4);
  });

  test('where a batch failed', async () => {
    const repository = folderOf('repository');
    const description = await writeRowsModel(join(repository, 'rows', '1'), 1);
    await using own = await watched({ repository });
    truncateSync(description.replace(/hotrow\.json$/, 'safetensors'));
    await assert.rejects(own.ask());
    await until(() => own.running() === 0);
    assert.match(await own.reasonOf(), /FILE_CHANGED/);
    await writeRowsModel(join(repository, 'rows', '1'), 1);
    assert.equal(await own.act('load'), '200');
    await own.ask();
    assert.equal(own.begun(), 2);
  });

  test('where it ends by itself while it has no model, which is told', async () => {
    const told = join(folderOf('told'), 'end');
    const code = `setInterval(() => existsSync(${JSON.stringify(told)}) && process.exit(0), 5).unref();`;
    await using own = await watched({
      code: `parentPort.on('message', ({ kind }) => { if (kind === 'stop') { ${code} } });`,
    });
    assert.equal(await own.act('load'), '200');
    writeFileSync(told, '');
    await until(() => own.errors().length > 0);
    rmSync(told);
    assert.deepEqual(own.errors(), ['a thread of the server ended']);
    assert.equal(await own.act('load'), '200');
    await own.ask();
    assert.equal(own.begun(), 3);
  });
});

test('a server that closes while a model is loaded ends all threads', async () => {
  const own = await watched();
  assert.equal(await own.act('load'), '200');
  const loading = own.act('load').catch(() => 'gone');
  await until(() => own.served.events.at(-1)?.kind === 'loading');
  await own[Symbol.asyncDispose]();
  assert.match(await loading, /^200$|SHUTTING_DOWN|LOAD_FAILED|gone/);
  assert.equal(own.served.events.at(-1)?.kind, 'closed');
});
