/** Commands that Ctrl-C or SIGTERM meets: they end with 130 or 143 and one line, and leave nothing behind. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { facebookTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { COMMAND, dataHome } from '../support/cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-interrupt-'));
after(() => rmSync(folder, { recursive: true }));
const model = join(folder, 'model.safetensors');
before(() => writeCheckpoint(model, facebookTensors()));

const underWay = new Set<Running>();

/** A command under way. */
class Running {
  /** Where it puts files that nobody keeps. */
  readonly #temporary: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<readonly [number | null, NodeJS.Signals | null]>;
  stdout = '';
  stderr = '';

  constructor([program, ...args]: readonly [string, ...string[]], path = process.env.PATH) {
    this.#temporary = mkdtempSync(join(folder, 'tmp-'));
    this.#child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, PATH: path, TMPDIR: this.#temporary, XDG_DATA_HOME: dataHome },
    });
    for (const name of ['stdout', 'stderr'] as const)
      this.#child[name]?.setEncoding('utf8').on('data', (text: string) => {
        this[name] += text;
      });
    underWay.add(this);
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        underWay.delete(this);
        resolve([code, signal]);
      });
    });
  }

  /** What Hotrow keeps for the while; what runs the sources has a folder there too. */
  files(): string[] {
    return readdirSync(this.#temporary).filter((name) => name.startsWith('hotrow-'));
  }

  /** Resolves once `seen`; the command must not end before. */
  async until(seen: () => boolean): Promise<void> {
    while (!seen()) {
      assert.equal(this.#child.exitCode ?? this.#child.signalCode, null, this.stderr);
      await setTimeout(5);
    }
  }

  /** Until its first line of progress: then it works. */
  progress(): Promise<void> {
    return this.until(() => / \(\d+ s\)\n/.test(this.stderr));
  }

  say(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** How it ends by `signal`: its exit code or the signal, and what it said besides progress. */
  async end(signal: NodeJS.Signals) {
    this.#child.kill(signal);
    const [code, by] = await this.#ended;
    assert.deepEqual(this.files(), [], 'nothing is left');
    return { end: code ?? by, said: this.stderr.replace(/^.* \(\d+ s\)\n/gm, ''), printed: this.stdout };
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

const hotrow = (...args: string[]) => new Running([...COMMAND, ...args]);
const ABORTED = { said: 'aborted\n', printed: '' };

/** A file whose values are all 0, and that takes no room: a DLRM with a table of `rows` rows of 64. */
function sparseModel(rows: number): string {
  const shapes = {
    'bot_l.0.bias': [64],
    'bot_l.0.weight': [64, 3],
    'emb_l.0.weight': [rows, 64],
    'top_l.0.bias': [1],
    'top_l.0.weight': [1, 65],
  };
  let end = 0;
  const entries = Object.entries(shapes).map(([name, shape]) => {
    const begin = end;
    end += 4 * shape.reduce((product, extent) => product * extent, 1);
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = join(folder, 'sparse.safetensors');
  writeFileSync(file, Buffer.concat([length, header]));
  truncateSync(file, 8 + header.length + end);
  return file;
}

/** Whether a process is there and no zombie. */
function isAlive(pid: number): boolean {
  const status = `/proc/${pid}/stat`;
  try {
    return !/\) Z /.test(readFileSync(status, 'utf8'));
  } catch {
    return false;
  }
}

// The limit is for commands that do not end at all.
describe('a command that is interrupted', { concurrency: true, timeout: 240_000 }, () => {
  after(() => {
    for (const command of underWay) command.signal('SIGKILL');
  });

  test('bench', async () => {
    const bench = hotrow(
      'bench',
      '--device',
      'cpu',
      '--threads',
      '1',
      '--tables',
      '2',
      '--rounds',
      '1000000',
      '--no-peers',
    );
    await bench.progress();
    assert.deepEqual(await bench.end('SIGINT'), { end: 130, ...ABORTED });
  });

  test('tune: no plan is saved', async () => {
    const out = join(folder, 'plan.json');
    const tune = hotrow(
      'tune',
      '--device',
      'cpu',
      '--threads',
      '1',
      '--tables',
      '2',
      '--budget',
      '10m',
      '--out',
      out,
    );
    await tune.progress();
    assert.deepEqual(await tune.end('SIGTERM'), { end: 143, ...ABORTED });
    assert.ok(!existsSync(out));
  });

  test('quantize: what it has written is removed', async () => {
    const own = mkdtempSync(join(folder, 'out-'));
    const file = sparseModel(1 << 23);
    const quantize = hotrow('quantize', file, '--rows', 'int8', '--out', join(own, 'out.safetensors'));
    const isWriting = () => readdirSync(own).some((name) => sizeOf(join(own, name)) > 1 << 20);
    await quantize.until(isWriting);
    assert.deepEqual(await quantize.end('SIGINT'), { end: 130, ...ABORTED });
    assert.deepEqual(readdirSync(own), []);
  });

  test('characterize --static: compilers are ended', async () => {
    const tools = join(folder, 'tools');
    mkdirSync(tools);
    const started = join(folder, 'compilers');
    writeFileSync(started, '');
    const nvcc = `#!/bin/sh\n[ "$1" = --version ] && { echo 'release 13.0'; exit; }\necho $$ >> ${started}\nsleep 1000\n`;
    writeFileSync(join(tools, 'nvcc'), nvcc);
    chmodSync(join(tools, 'nvcc'), 0o755);
    const path = `${tools}${delimiter}${process.env.PATH}`;
    const compiling = new Running(
      [...COMMAND, 'characterize', '--static', '--gpu', 'H100', '--tables', '2'],
      path,
    );
    const pids = () =>
      readFileSync(started, 'utf8')
        .trim()
        .split('\n')
        .filter((line) => line !== '')
        .map(Number);
    await compiling.until(() => pids().length > 0);
    assert.deepEqual(await compiling.end('SIGTERM'), { end: 143, ...ABORTED });
    assert.deepEqual(pids().filter(isAlive), []);
  });

  test('predict, which waits for its request and does not look: it is not waited for', async () => {
    const predict = hotrow('predict', model, '-');
    // More than what tells that it is JSON.
    predict.say(`{"dense": [[1, 2, 3]], ${' '.repeat(100_000)}`);
    await predict.progress();
    assert.deepEqual(await predict.end('SIGINT'), { end: 130, ...ABORTED });
  });

  test('a second interrupt ends it at once', async () => {
    const program = fileURLToPath(new URL('interruptible-program.ts', import.meta.url));
    const running = new Running([process.execPath, '--import', 'tsx', program]);
    await running.until(() => running.stdout === 'waiting\n');
    assert.equal(running.files().length, 1);
    running.signal('SIGINT');
    await running.until(() => running.stdout === 'waiting\ninterrupted\n');
    const { end, said } = await running.end('SIGTERM');
    assert.deepEqual([end, said], ['SIGTERM', '']);
  });
});

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
