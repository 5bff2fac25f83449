/**
 * A server under load beside clients that do wrong, for minutes: whether any good request fails, and whether anything grows. Linux.
 *
 *   npx tsx scripts/serving-endurance.ts [--minutes N] [--rate N] [--samples N] [--device cpu|cuda] [--preset NAME] [--cancels N]
 *
 * Beside `hotrow load`: requests whose client goes away, headers that never end, bodies over the limit. Descriptors, threads and
 * mappings of files of the server's process are counted when it is warm and at the end. Exits with 1 where a good request failed, or
 * something grew.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    rate: { type: 'string', default: '100' },
    samples: { type: 'string', default: '10' },
    device: { type: 'string', default: 'cpu' },
    preset: { type: 'string', default: 'quick' },
    rows: { type: 'string', default: '20000' },
    cancels: { type: 'string', default: '1000' },
  },
});
const root = fileURLToPath(new URL('..', import.meta.url));
const seconds = 60 * Number(values.minutes);
/** Before the first count, and before the last: what is idle has been given back. */
const SETTLE_MS = 5000;
const WARM_UP_SECONDS = 15;

async function startServer(): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const { device, preset, rows } = values;
  const args = [
    'serve',
    '--preset',
    preset,
    '--rows',
    rows,
    '--device',
    device,
    '--port',
    '0',
    '--sla',
    '2s',
    '--max-body',
    '8',
  ];
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const port = await new Promise<number>((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (chunk) => {
      process.stderr.write(chunk);
      text += chunk;
      const found = /listening on \S+:(\d+)/.exec(text)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, port };
}

interface Held {
  readonly descriptors: number;
  readonly threads: number;
  readonly fileMappings: number;
}

function held(pid: number): Held {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
    fileMappings: maps.filter((line) => / \//.test(line)).length,
  };
}

interface Load {
  readonly runs: readonly {
    readonly scheduled: number;
    readonly inTime: number;
    readonly failed: number;
    readonly unanswered: number;
  }[];
}

/** Good requests for so many seconds. */
async function load(port: number, seconds: number, folder: string): Promise<Load> {
  const file = join(folder, `load-${seconds}.json`);
  const args = [
    'load',
    `http://127.0.0.1:${port}`,
    '--rate',
    values.rate,
    '--samples',
    values.samples,
    '--duration',
    `${seconds}s`,
  ];
  const child = spawn(
    process.execPath,
    ['dist/cli/main.js', ...args, '--processes', '1', '--sleep', '--json', file],
    {
      cwd: root,
      stdio: ['ignore', 'inherit', 'ignore'],
    },
  );
  await new Promise((resolve) => child.once('exit', resolve));
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** A client that sends `text` and, after some time, goes away. */
async function badClient(port: number, text: string, ms: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  socket.write(text);
  await sleep(ms);
  socket.destroy();
}

/** Clients that do wrong, spread over the time. */
async function badClients(port: number, ms: number): Promise<void> {
  const path = `/v2/models/${values.preset}/infer`;
  const cancels = Number(values.cancels);
  const body = JSON.stringify({ samples: [] });
  const sent: Promise<void>[] = [];
  for (let i = 0; i < cancels; i++) {
    sent.push(
      badClient(port, `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n${body}`, 20),
    );
    if (i % 10 === 0) sent.push(badClient(port, `POST ${path} HTTP/1.1\r\nhost: a\r\nx-slow: `, 15_000));
    if (i % 10 === 5)
      sent.push(
        badClient(port, `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n`, 1000),
      );
    await sleep(ms / cancels);
  }
  await Promise.all(sent);
}

const folder = mkdtempSync(join(tmpdir(), 'hotrow-serving-endurance-'));
const { child, port } = await startServer();
try {
  const pid = child.pid as number;
  const warm = load(port, WARM_UP_SECONDS, folder);
  await badClients(port, (1000 * WARM_UP_SECONDS) / 2);
  await warm;
  await sleep(SETTLE_MS);
  const before = held(pid);
  const good = load(port, seconds, folder);
  await badClients(port, 1000 * seconds * 0.95);
  const { runs } = await good;
  await sleep(SETTLE_MS);
  const after = held(pid);
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const exit = await exited;
  const bad = runs.reduce((sum, { failed, unanswered }) => sum + failed + unanswered, 0);
  console.log(JSON.stringify({ command: process.argv.slice(2).join(' '), runs, before, after, exit }));
  const grown = (Object.keys(before) as (keyof Held)[]).filter((name) => after[name] > before[name]);
  if (bad > 0) console.error(`${bad} good requests failed`);
  if (grown.length > 0) console.error(`grew: ${grown.join(', ')}`);
  if (bad > 0 || grown.length > 0 || exit !== 0) process.exitCode = 1;
} finally {
  child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
}
