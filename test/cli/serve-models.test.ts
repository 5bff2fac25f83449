/** The command's folder of models, read again on SIGHUP; and a GPU that is lost: the process ends, so that another is started. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Client, jsonIn, outputsIn, refusal } from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { lengthsOf, NAMES } from '../support/request-forms.ts';
import { f32, i32 } from '../support/request-tensors.ts';
import { SEED } from '../support/seed.ts';
import { copyPackage, rowsModel, SERVING_COMMAND, saidBy, writeRowsModel } from '../support/served.ts';

const top = mkdtempSync(join(tmpdir(), 'hotrow-serve-models-'));
const underWay = new Set<ChildProcess>();
after(() => {
  for (const child of underWay) child.kill('SIGKILL');
  rmSync(top, { recursive: true });
});

const { dense, bags } = saidBy(new Random(SEED), 2);
const sent = protocolBody({
  dense: f32([2, 2], dense.flat()),
  values: i32([bags.flat(2).length], bags.flat(2)),
  lengths: i32([NAMES.length, 2], bags.flatMap(lengthsOf)),
});

async function serving(main: string, ...args: string[]) {
  const own = ['serve', '--port', '0', '--device', 'cpu', '--threads', '1', '--io-threads', '1'];
  const child = spawn(process.execPath, [main, ...own, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  underWay.add(child);
  const text = { stdout: '', stderr: '' };
  let heard = () => {};
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (more: string) => {
      text[name] += more;
      heard();
    });
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  const until = async (pattern: RegExp) => {
    for (;;) {
      const found = pattern.exec(text.stderr);
      if (found !== null) return found;
      assert.equal(child.exitCode ?? child.signalCode, null, text.stderr);
      await new Promise<void>((resolve) => {
        heard = resolve;
      });
    }
  };
  const [, port] = await until(/listening on \S+:(\d+)/);
  return { child, text, ended, until, port: Number(port) };
}

test('SIGHUP reads the folder of models again', async () => {
  const folder = join(top, 'models');
  await writeRowsModel(join(folder, 'rows', '1'), 1);
  const { child, ended, until, port } = await serving(SERVING_COMMAND[1], '--models', folder, '--admin');
  using client = new Client(port);
  const version = async () => outputsIn(await client.infer('rows', sent)).model_version;
  assert.equal(await version(), '1');
  await writeRowsModel(join(top, 'second'), 2);
  renameSync(join(top, 'second'), join(folder, 'rows', '2'));
  child.kill('SIGHUP');
  await until(/loaded rows, version 2,/);
  assert.equal(await version(), '2');
  mkdirSync(join(folder, 'rows', '3'));
  child.kill('SIGHUP');
  await until(/error\[FILE_NOT_FOUND\]: .*rows\/3 holds no checkpoint/);
  assert.equal(await version(), '2');
  const index = jsonIn(await client.ask('POST', '/v2/repository/index', ''));
  assert.deepEqual([index[0].version, index[0].state], ['2', 'READY']);
  assert.equal((await client.ask('POST', '/v2/repository/models/rows/unload', '')).status, 200);
  assert.equal(refusal(await client.infer('rows', sent)), '503 MODEL_UNAVAILABLE');
  child.kill('SIGTERM');
  assert.equal(await ended, 0);
});

test('a GPU that is lost ends the command with 1, when the access log is written', async () => {
  const own = copyPackage();
  const engine = join(own, 'dist/serve/engine-thread.js');
  renameSync(engine, join(own, 'dist/serve/real-engine.js'));
  const error = {
    kind: 'DeviceError',
    name: 'CudaError',
    code: 'KERNEL_FAILED',
    message: 'cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS',
    hint: 'the context was lost',
  };
  // It says so at the second request of clients.
  writeFileSync(
    engine,
    `import { parentPort } from 'node:worker_threads';
    await import('./real-engine.js');
    parentPort.on('message', ({ start }) => {
      if (start === undefined) return;
      const [counts, bell] = [new Int32Array(start.counts), new Int32Array(start.bell)];
      let seen;
      const looking = setInterval(() => {
        if (Atomics.load(counts, 0) === 0) return;
        const rung = Atomics.load(bell, 0);
        seen ??= rung;
        if (rung - seen < 20) return;
        clearInterval(looking);
        parentPort.postMessage({ kind: 'failed', error: ${JSON.stringify(error)} });
        setImmediate(() => process.exit(0));
      }, 1);
    });`,
  );
  const { text, ended, port } = await serving(
    join(own, 'dist/cli/main.js'),
    `rows=${rowsModel}`,
    '--access-log',
  );
  using client = new Client(port, 4);
  const statuses: Promise<number[]>[] = Array.from({ length: 4 }, async () => {
    const own: number[] = [];
    for (;;) {
      const reply = await client.infer('rows', sent).catch(() => undefined);
      if (reply === undefined) return own;
      own.push(reply.status);
      if (reply.status !== 200) assert.match(refusal(reply), /^503 (MODEL_UNAVAILABLE|SHUTTING_DOWN)$/);
    }
  });
  const all = (await Promise.all(statuses)).flat();
  assert.equal(await ended, 1);
  assert.ok(all.includes(200));
  assert.match(text.stderr, /error\[KERNEL_FAILED\]: .*CUDA_ERROR_ILLEGAL_ADDRESS/);
  const lines = text.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).status);
  for (const status of [200, 503])
    assert.ok(
      lines.filter((own) => own === status).length >= all.filter((own) => own === status).length,
      `${status}`,
    );
});
