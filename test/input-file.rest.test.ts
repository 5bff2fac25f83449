/** What is opened: files. Pipes, sockets and devices named by path are refused; standard input gives streams. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { HotrowError } from '../src/errors.ts';
import { writeSafetensors } from '../src/formats/safetensors.ts';
import { openFile, statFile } from '../src/input-file.ts';
import { loadCheckpoint } from '../src/model/checkpoint/checkpoint.ts';
import { loadArchitecture } from '../src/model/load-model.ts';
import { readRequest } from '../src/model/request/safetensors-request.ts';
import { plainPlan, readPlan } from '../src/plan/plan.ts';
import { readResults } from '../src/report/read-results.ts';
import { readCriteo } from '../src/workload/criteo.ts';
import { readTrace } from '../src/workload/trace.ts';
import { trafficSources } from '../src/workload/traffic/sources.ts';
import { facebookTensors } from './support/checkpoints.ts';
import { MAIN } from './support/cli.ts';
import { i64, plainRequest } from './support/request-tensors.ts';
import { leavesNoFilesOpen } from './support/resources.ts';

const FIXTURES = fileURLToPath(new URL('fixtures', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'hotrow-inputs-'));
const at = (name: string) => join(root, name);
let server: Server;
before(async () => {
  execFileSync('mkfifo', [at('pipe')]);
  symlinkSync(at('pipe'), at('link'));
  server = createServer().listen(at('socket'));
});
after(() => {
  server.close();
  rmSync(root, { recursive: true });
});

/** Nothing that is waited for: who never writes to a pipe is never heard of. */
const refused = (reading: Promise<unknown>, what: RegExp) =>
  assert.rejects(reading, (error: unknown) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, 'FILE_UNREADABLE', error.message);
    assert.match(error.message, what);
    return true;
  });

const SPECIAL: readonly (readonly [name: string, path: () => string, what: RegExp])[] = [
  ['a pipe', () => at('pipe'), /is a pipe, not a file/],
  ['a link to a pipe', () => at('link'), /is a pipe, not a file/],
  ['a socket', () => at('socket'), /is a socket, not a file/],
  ['/dev/zero', () => '/dev/zero', /is a device, not a file/],
  ['/dev/null', () => '/dev/null', /is a device, not a file/],
  ['/dev/random', () => '/dev/random', /is a device, not a file/],
];

describe('what is no file', () => {
  const readers: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
    openFile,
    statFile,
    loadCheckpoint,
    loadArchitecture,
    readPlan,
    readRequest,
    readResults,
    readTrace,
    trafficSources: (path) => trafficSources([path]),
    'a named trace': (path) => trafficSources([`ads=${path}`]),
    'Criteo rows': (path) => readCriteo(path, { vocabulary: path, preprocessing: 'none' }),
  };
  for (const [name, path, what] of SPECIAL)
    for (const [reader, read] of Object.entries(readers))
      test(`${name}: ${reader}`, () => refused(read(path()), what));

  test('folders are no files', () => refused(openFile(root), /is a folder, not a file/));
  test('a path that no file can have', () => refused(openFile('a\0b'), /cannot read/));
});

describe('pipes inside of a folder', () => {
  const folder = (name: string) => {
    mkdirSync(at(name));
    return at(name);
  };
  const fifo = (path: string) => execFileSync('mkfifo', [path]);

  test('the only checkpoint', async () => {
    const own = folder('sole');
    fifo(join(own, 'm.safetensors'));
    await refused(loadArchitecture(own), /m\.safetensors is a pipe/);
  });
  test('a shard of an index', async () => {
    const own = folder('index');
    fifo(join(own, 's.safetensors'));
    const index = join(own, 'm.safetensors.index.json');
    writeFileSync(index, JSON.stringify({ weight_map: { 'emb_l.0.weight': 's.safetensors' } }));
    await refused(loadCheckpoint(index), /s\.safetensors is a pipe/);
  });
  test('.metadata, and a file that it names', async () => {
    const own = folder('dcp');
    cpSync(join(FIXTURES, 'dcp/one'), own, { recursive: true });
    rmSync(join(own, '__0_0.distcp'));
    fifo(join(own, '__0_0.distcp'));
    await refused(loadCheckpoint(own), /__0_0\.distcp is a pipe/);
    rmSync(join(own, '.metadata'));
    fifo(join(own, '.metadata'));
    await refused(loadCheckpoint(own), /\.metadata is a pipe/);
  });
  test('the checkpoint of a description, and its vocabulary', async () => {
    const own = folder('described');
    fifo(join(own, 'm.safetensors'));
    const description = join(own, 'd.hotrow.json');
    const write = (more: object) =>
      writeFileSync(
        description,
        JSON.stringify({ kind: 'model', version: 1, checkpoint: 'm.safetensors', ...more }),
      );
    write({});
    await refused(loadArchitecture(description), /m\.safetensors is a pipe/);
    write({ features: [{ name: 'a', table: '0', ids: { vocabulary: 'm.safetensors' } }] });
    await refused(loadArchitecture(description), /m\.safetensors is a pipe/);
  });
  test('traffic', async () => {
    const own = folder('traffic');
    fifo(join(own, '1.txt'));
    await refused(trafficSources([own]), /1\.txt is a pipe/);
  });
});

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `hotrow …args` with `input` coming by a pipe. */
function piped(input: Uint8Array | string, ...args: string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...MAIN, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    const ended = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => {
      ended.stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      ended.stderr += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, ...ended }));
    // Who refuses it reads no further.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

describe('standard input', () => {
  let model = '';
  let request = '';
  before(async () => {
    model = at('m.safetensors');
    await writeSafetensors(model, facebookTensors());
    request = at('r.safetensors');
    const { dense: _, ...lookups } = plainRequest;
    const dense = { dtype: 'float32', shape: [3, 3], data: new Float32Array(9) } as const;
    await writeSafetensors(
      request,
      new Map(Object.entries({ ...lookups, dense, 'indices.2': i64([3], [1, 2, 3]) })),
    );
  });

  const lines = '1\n2\n2\n';
  for (const [name, input] of [
    ['text', lines],
    ['gzip', gzipSync(lines)],
  ] as const) {
    for (const path of ['-', '/dev/stdin', '/proc/self/fd/0']) {
      test(`a trace of ${name} by ${path}`, async () => {
        const { code, stdout, stderr } = await piped(input, 'trace', path, '--format', 'json');
        assert.equal(code, 0, stderr);
        assert.equal(JSON.parse(stdout).tables[0].lookups, 3);
      });
    }
  }
  test('a data set of dlrm_datasets, which is read at any place', async () => {
    const bytes = readFileSync(join(FIXTURES, 'torch/bags.zip.pt'));
    for (const input of [bytes, gzipSync(bytes)]) {
      const { code, stdout, stderr } = await piped(input, 'trace', '-', '--format', 'json');
      assert.equal(code, 0, stderr);
      assert.ok(JSON.parse(stdout).tables.length > 0);
    }
  });
  test('a request', async () => {
    const { code, stdout, stderr } = await piped(
      readFileSync(request),
      ...['predict', model, '-', '--device', 'cpu', '--format', 'json'],
    );
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).probabilities.length, 3);
  });
  test('nothing: an error, not a wait', async () => {
    const { code, stderr } = await piped('', 'trace', '-');
    assert.equal(code, 1);
    assert.match(stderr, /error\[TRACE_EMPTY\]: - holds no lookups/);
  });
  test('what is no stream is refused', async () => {
    writeFileSync(at('plan.json'), JSON.stringify(plainPlan('cpu')));
    for (const args of [
      ['inspect', '-'],
      ['predict', model, request, '--plan', '-'],
      ['report', '-', '--out', at('out.html')],
    ]) {
      const { code, stderr } = await piped('{}', ...args);
      assert.equal(code, 1, stderr);
      assert.match(stderr, /error\[FILE_UNREADABLE\]: - is standard input, which is no file/, args.join(' '));
    }
  });
  test('twice: an error', async () => {
    const { code, stderr } = await piped(lines, 'trace', '-', '-');
    assert.equal(code, 1);
    assert.match(stderr, /standard input can be read once only/);
  });
  // From source, the loader of TypeScript would make the folder.
  const skip = process.env.HOTROW_TEST_MAIN === undefined && 'needs the command as it is built';
  test('a temporary folder that cannot be written: typed, with its cause', { skip }, async () => {
    const before = process.env.TMPDIR;
    process.env.TMPDIR = at('nowhere');
    try {
      const { code, stderr } = await piped(readFileSync(join(FIXTURES, 'torch/bags.zip.pt')), 'trace', '-');
      assert.equal(code, 1);
      assert.match(stderr, /error\[FILE_UNWRITABLE\]: cannot write .*nowhere: ENOENT/);
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
  });
});

test('a folder is refused, and nothing stays open', async () => {
  await leavesNoFilesOpen(async () => {
    for (let i = 0; i < 3; i++) await assert.rejects(openFile(root), { code: 'FILE_UNREADABLE' });
    await (await openFile(fileURLToPath(import.meta.url))).close();
  });
});
