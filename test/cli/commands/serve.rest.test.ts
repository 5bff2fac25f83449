/** `hotrow serve` as a process: signals, exit codes, what it prints, and `hotrow load` against it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { after, describe, test } from 'node:test';
import { dataHome } from '../../support/cli.ts';
import { Client, outputsIn, RawConnection, requestText } from '../../support/http-client.ts';
import { protocolBody } from '../../support/infer-bodies.ts';
import { Random } from '../../support/random.ts';
import { lengthsOf, NAMES } from '../../support/request-forms.ts';
import { f32, i32 } from '../../support/request-tensors.ts';
import { SEED } from '../../support/seed.ts';
import { rowsModel, SERVING_COMMAND, saidBy } from '../../support/served.ts';

const underWay = new Set<ChildProcess>();
after(() => {
  for (const child of underWay) child.kill('SIGKILL');
});

/** A command under way. */
class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<readonly [code: number | null, signal: NodeJS.Signals | null]>;
  stderr = '';
  stdout = '';
  #heard: () => void = () => {};

  constructor(...args: string[]) {
    const [program, main] = SERVING_COMMAND;
    this.child = spawn(program, [main, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, XDG_DATA_HOME: dataHome },
    });
    underWay.add(this.child);
    for (const name of ['stdout', 'stderr'] as const)
      this.child[name]?.setEncoding('utf8').on('data', (text: string) => {
        this[name] += text;
        this.#heard();
      });
    this.ended = new Promise((resolve) =>
      this.child.once('close', (code, signal) => {
        underWay.delete(this.child);
        this.#heard();
        resolve([code, signal]);
      }),
    );
  }

  /** Resolves once it has printed that; it must not end before. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.stderr);
      if (found !== null) return found;
      assert.equal(this.child.exitCode ?? this.child.signalCode, null, this.stderr);
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
  }
}

async function freePort(): Promise<number> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as { port: number };
  await new Promise((resolve) => other.close(resolve));
  return port;
}

async function serving(...args: string[]) {
  const own = ['--port', '0', '--device', 'cpu', '--threads', '1'];
  const running = new Running('serve', ...own, ...args);
  const [, port] = await running.until(/listening on http:\/\/127\.0\.0\.1:(\d+)\n/);
  return { running, port: Number(port) };
}

const { dense, bags } = saidBy(new Random(SEED), 3);
const sent = protocolBody({
  dense: f32([3, 2], dense.flat()),
  values: i32([bags.flat(2).length], bags.flat(2)),
  lengths: i32([NAMES.length, 3], bags.flatMap(lengthsOf)),
});
const bytes = requestText('/v2/models/rows/infer', sent);

describe('SIGTERM', () => {
  test('under load: all that was accepted is answered, one line an event, exit 0', async () => {
    const { running, port } = await serving(`rows=${rowsModel}`);
    const answered = { count: 0, refused: 0 };
    let first: () => void = () => {};
    const began = new Promise<void>((resolve) => {
      first = resolve;
    });
    const users = Array.from({ length: 32 }, async () => {
      for (;;) {
        let connection: RawConnection;
        try {
          connection = await RawConnection.open(port);
        } catch {
          answered.refused += 1;
          return;
        }
        using _connection = connection;
        // Several on one connection: each that was answered with `close` is the last that was accepted.
        let replies = 0;
        for (let closes = false; !closes; ) {
          connection.send(bytes);
          let reply: Awaited<ReturnType<RawConnection['reply']>>;
          try {
            reply = await connection.reply();
          } catch {
            // It was accepted by the system alone: not a byte of it was read.
            assert.equal(replies, 0, 'an open connection was cut');
            break;
          }
          outputsIn(reply);
          replies += 1;
          answered.count += 1;
          if (answered.count === 500) first();
          closes = reply.headers.connection === 'close';
        }
      }
    });
    await began;
    running.child.kill('SIGTERM');
    assert.deepEqual(await running.ended, [0, null], running.stderr);
    await Promise.all(users);
    assert.equal(answered.refused, 32);
    assert.match(
      running.stderr,
      /^loaded rows, version 1, on cpu: .*\nlistening on http:\/\/127\.0\.0\.1:\d+\ndraining: .*\nclosed\n$/,
    );
    assert.equal(running.stdout, '');
  });

  test('twice ends at once', async () => {
    const { running, port } = await serving(`rows=${rowsModel}`);
    using stuck = await RawConnection.open(port);
    stuck.send(bytes.subarray(0, -1));
    using client = new Client(port);
    outputsIn(await client.infer('rows', sent));
    running.child.kill('SIGTERM');
    await running.until(/draining/);
    running.child.kill('SIGTERM');
    assert.deepEqual(await running.ended, [null, 'SIGTERM']);
  });

  test('while it loads ends it', async () => {
    const port = await freePort();
    const running = new Running('serve', '--preset', 'quick', '--port', String(port), '--device', 'cpu');
    // The address is taken before the model is loaded.
    for (let isThere = false; !isThere; )
      isThere = await RawConnection.open(port).then(
        (connection) => {
          connection[Symbol.dispose]();
          return true;
        },
        () => false,
      );
    running.child.kill('SIGTERM');
    const [code] = await running.ended;
    assert.equal(code, 0, running.stderr);
    assert.doesNotMatch(running.stderr, /error/);
  });
});

describe('is refused', () => {
  const fails = async (args: string[], code: number, pattern: RegExp) => {
    const running = new Running('serve', '--device', 'cpu', ...args);
    assert.deepEqual(
      [await running.ended, pattern.test(running.stderr)],
      [[code, null], true],
      running.stderr,
    );
    assert.doesNotMatch(running.stderr, /INTERNAL|listening|loaded/);
  };

  test('an address that others reach, or that is taken', async () => {
    await fails(
      [rowsModel, '--host', '0.0.0.0'],
      2,
      /error\[USAGE\]: --host 0\.0\.0\.0.*\nhint: .*--insecure/,
    );
    await fails([rowsModel, '--host', '::'], 2, /--insecure/);
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    await fails([rowsModel, '--port', String(port)], 2, /EADDRINUSE.*\nhint: choose another --port/);
    other.close();
  });

  test('a model that does not load, none, or two of one name', async () => {
    await fails(['/nothing/there.pt', '--port', '0'], 1, /error\[FILE_NOT_FOUND\]/);
    await fails(['--port', '0'], 2, /there is no model to serve/);
    await fails([rowsModel, rowsModel], 2, /two models are named rows/);
  });

  test('memory that the largest body finds no room in', async () => {
    await fails(
      [rowsModel, '--max-body', '64', '--request-memory', '100', '--io-threads', '1'],
      2,
      /need 192/,
    );
    await fails([rowsModel, '--max-body', '1000'], 2, /a body has 341 MiB at most/);
  });
});

test('hotrow load measures it', async () => {
  const { running, port } = await serving(`rows=${rowsModel}`, '--io-threads', '2');
  const load = async (...args: string[]) => {
    const own = [
      '--rate',
      '200',
      '--count',
      '60',
      '--warmup',
      '0',
      '--samples',
      '3',
      '--processes',
      '1',
      '--sleep',
    ];
    const loading = new Running('load', `http://127.0.0.1:${port}`, ...own, ...args);
    return { ended: await loading.ended, text: loading.stdout + loading.stderr };
  };
  const plain = await load('--bag-lengths', '2');
  assert.deepEqual(plain.ended, [0, null], plain.text);
  const late = await load('--deadline', '60s', '--priority', '1', '--user-features', 'ads');
  assert.deepEqual(late.ended, [0, null], late.text);
  assert.match(late.text, /100(\.0)? %/);
  const hurried = await load('--deadline', '0.01ms');
  assert.deepEqual(hurried.ended, [0, null], hurried.text);
  running.child.kill('SIGINT');
  assert.deepEqual(await running.ended, [0, null], running.stderr);
});
