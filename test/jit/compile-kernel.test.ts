/** Compiling kernels through the cache: hits, what makes a new entry, damage, several processes, no cache at all. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import koffi from 'koffi';
import type { CudaError } from '../../src/errors.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { type CompiledKernel, compileKernel, type KernelRequest } from '../../src/jit/compile-kernel.ts';
import { defaultCacheFolder, KernelCache, prune } from '../../src/jit/kernel-cache.ts';
import { buildFake } from '../fake-driver/fake-driver.ts';
import { bundledProgram } from '../support/bundled-program.ts';

const root = mkdtempSync(join(tmpdir(), 'hotrow-jit-'));
after(() => rmSync(root, { recursive: true, force: true }));
const nvrtcPath = buildFake('fake_nvrtc');
const compiler = new Nvrtc({ path: nvrtcPath });
const livePrograms = koffi.load(nvrtcPath).func('int64_t fake_live_programs(void)');

let folders = 0;
/** A new folder; `files` go into it. */
function folder(files: Readonly<Record<string, string>> = {}): string {
  folders += 1;
  const path = join(root, String(folders));
  mkdirSync(path);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}

const HEADERS = {
  'outer.cuh': '#include "inner.cuh"\n',
  'inner.cuh': 'struct Words {};\n',
  'unused.cuh': '',
};
const SOURCE = '#include "outer.cuh"\nextern "C" __global__ void add(Words) {}\n';

function requestFor(includeFolder: string, change: Partial<KernelRequest> = {}): KernelRequest {
  const request = { id: 'a.variant', kernel: 'add', source: SOURCE, options: [] };
  return { ...request, includeFolder, architecture: 'sm_90', ...change };
}

/** Compiles as a new process would. */
function compile(
  cacheFolder: string,
  request: KernelRequest,
  warnings: string[] = [],
): Promise<CompiledKernel> {
  const cache = new KernelCache({ folder: cacheFolder, onWarning: (message) => warnings.push(message) });
  return compileKernel(request, { compiler, cache });
}

const entriesOf = (cacheFolder: string) => readdirSync(cacheFolder).filter((name) => !name.startsWith('.'));

test('the second time it comes from the cache, with log and resources', async () => {
  const cacheFolder = join(folder(), 'made', 'when-needed');
  const request = requestFor(folder(HEADERS));
  const first = await compile(cacheFolder, request);
  const second = await compile(cacheFolder, request);
  assert.deepEqual([first.cached, second.cached], [false, true]);
  assert.deepEqual({ ...first, cached: true }, second);
  assert.deepEqual(first.resources, {
    registers: 40,
    stackBytes: 16,
    spillStoreBytes: 8,
    spillLoadBytes: 4,
    sharedBytes: 512,
  });
  const path = first.cachePath as string;
  assert.match(path, /\/a\.variant-[0-9a-f]{32}$/);
  assert.equal(readFileSync(join(path, 'source.cu'), 'utf8'), SOURCE);
  assert.equal(readFileSync(join(path, 'log.txt'), 'utf8'), first.log);
  const entry = JSON.parse(readFileSync(join(path, 'entry.json'), 'utf8'));
  assert.deepEqual(Object.keys(entry.headers), ['inner.cuh', 'outer.cuh'], 'what is included, and no more');
  assert.ok(entry.options.includes('--gpu-architecture=sm_90'));
  assert.match(entry.compiler, /^nvrtc 13\.0/);
  assert.deepEqual(readdirSync(cacheFolder).length, 1, 'nothing unfinished is left');
  assert.equal(Number(livePrograms()), 0);
});

test("a log every time, whatever the compiler's own cache holds; compilers before there was one", async () => {
  const program = { source: SOURCE, fileName: 'add.cu', headers: new Map(), options: ['--std=c++17'] };
  for (let i = 0; i < 2; i++) assert.match((await compiler.compile(program)).log, /Used 40 registers/);
  const old = new Nvrtc({ path: buildFake('fake_nvrtc', ['FAKE_MAJOR=12']) });
  assert.match((await old.compile(program)).log, /Used 40 registers/);
});

test('source, headers of headers, options, architecture, compiler and id make a new entry', async () => {
  const cacheFolder = folder();
  const includeFolder = folder(HEADERS);
  const request = requestFor(includeFolder);
  await compile(cacheFolder, request);
  const changes: readonly (() => Promise<CompiledKernel>)[] = [
    () => compile(cacheFolder, { ...request, source: `${SOURCE}\n` }),
    () => compile(cacheFolder, { ...request, options: ['--maxrregcount=32'] }),
    () => compile(cacheFolder, { ...request, architecture: 'sm_100' }),
    () => compile(cacheFolder, { ...request, id: 'another.variant' }),
    () => {
      const other = { identity: 'nvrtc 13.1', compile: compiler.compile.bind(compiler) };
      return compileKernel(request, { compiler: other, cache: new KernelCache({ folder: cacheFolder }) });
    },
    () => {
      writeFileSync(join(includeFolder, 'inner.cuh'), 'struct Words { int a; };\n');
      return compile(cacheFolder, request);
    },
  ];
  for (const [i, change] of changes.entries()) {
    assert.equal((await change()).cached, false);
    assert.equal(entriesOf(cacheFolder).length, i + 2);
  }
  writeFileSync(join(includeFolder, 'unused.cuh'), 'changed');
  writeFileSync(join(includeFolder, 'inner.cuh'), HEADERS['inner.cuh']);
  assert.equal((await compile(cacheFolder, request)).cached, true);
});

test('a damaged entry is made anew', async () => {
  const cacheFolder = folder();
  const request = requestFor(folder(HEADERS));
  const { cachePath, cubin } = await compile(cacheFolder, request);
  const path = cachePath as string;
  const damages = [
    () => truncateSync(join(path, 'kernel.cubin'), 5),
    () => writeFileSync(join(path, 'kernel.cubin'), 'FAKECUBIN wrong'),
    () => writeFileSync(join(path, 'log.txt'), ''),
    () => writeFileSync(join(path, 'entry.json'), '{"key": '),
    () => writeFileSync(join(path, 'entry.json'), 'null'),
    () => rmSync(join(path, 'entry.json')),
    () => rmSync(join(path, 'kernel.cubin')),
    () => {
      rmSync(path, { recursive: true });
      writeFileSync(path, 'a file where the folder was');
    },
  ];
  for (const damage of damages) {
    damage();
    const rebuilt = await compile(cacheFolder, request);
    assert.equal(rebuilt.cached, false);
    assert.equal(rebuilt.cachePath, path);
    assert.deepEqual(rebuilt.cubin, cubin);
    assert.equal((await compile(cacheFolder, request)).cached, true, 'it is whole again');
  }
  assert.equal(readdirSync(cacheFolder).length, 1);
});

test('a kernel that does not compile is an error with the log, and is not cached', async () => {
  const cacheFolder = folder();
  const request = requestFor(folder(HEADERS), { source: 'syntax error' });
  for (let i = 0; i < 2; i++) {
    await assert.rejects(compile(cacheFolder, request), (error: CudaError) => {
      assert.equal(error.code, 'KERNEL_COMPILE_FAILED');
      assert.equal(error.call, 'nvrtcCompileProgram');
      assert.match(error.message, /a\.variant\.cu.*fake\.cu\(1\): error: a syntax error/s);
      return true;
    });
  }
  assert.deepEqual(readdirSync(cacheFolder), []);
  assert.equal(Number(livePrograms()), 0);
});

test('calls at once in one process compile once', async () => {
  const request = requestFor(folder(HEADERS));
  const cache = new KernelCache({ folder: folder() });
  let compilations = 0;
  const counting = {
    identity: compiler.identity,
    compile: (program: Parameters<Nvrtc['compile']>[0]) => {
      compilations += 1;
      return compiler.compile(program);
    },
  };
  await Promise.all(Array.from({ length: 8 }, () => compileKernel(request, { compiler: counting, cache })));
  assert.equal(compilations, 1);
});

test('several processes at once: each gets the kernel, one entry is left', async () => {
  const slow = buildFake('fake_nvrtc', ['FAKE_SECONDS=0.5']);
  const cacheFolder = folder();
  const includeFolder = folder(HEADERS);
  const log = join(root, 'compilations.log');
  const worker = await bundledProgram(new URL('compile-worker.ts', import.meta.url));
  const run = async () => {
    const arguments_ = [worker, slow, cacheFolder, includeFolder];
    const { stdout } = await promisify(execFile)(process.execPath, arguments_, {
      env: { ...process.env, FAKE_NVRTC_LOG: log },
    });
    return JSON.parse(stdout) as { cubin: string; cached: boolean; cachePath: string };
  };
  const results = await Promise.all([run(), run(), run()]);
  assert.equal(new Set(results.map(({ cubin, cachePath }) => cubin + cachePath)).size, 1);
  assert.equal(readdirSync(cacheFolder).length, 1, 'one entry, nothing unfinished');
  const compilations = () => readFileSync(log, 'utf8').split('\n').length - 1;
  const before = compilations();
  assert.ok(before >= 1 && before <= 3);
  assert.equal((await run()).cached, true);
  assert.equal(compilations(), before);
});

test('a cache that cannot be written: kernels compile all the same, and it is said once', async () => {
  const blocked = join(folder({ file: '' }), 'file', 'cache');
  const warnings: string[] = [];
  const cache = new KernelCache({ folder: blocked, onWarning: (message) => warnings.push(message) });
  const includeFolder = folder(HEADERS);
  for (const id of ['one', 'two', 'one']) {
    const { cached, cachePath, cubin } = await compileKernel(requestFor(includeFolder, { id }), {
      compiler,
      cache,
    });
    assert.deepEqual([cached, cachePath, cubin.length > 0], [false, undefined, true]);
  }
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /cache .* cannot be written/);
});

test('a read-only cache is read', {
  skip: process.getuid?.() === 0 && 'root may write anywhere',
}, async () => {
  const cacheFolder = folder();
  const request = requestFor(folder(HEADERS));
  await compile(cacheFolder, request);
  chmodSync(cacheFolder, 0o555);
  const warnings: string[] = [];
  assert.equal((await compile(cacheFolder, request, warnings)).cached, true);
  assert.equal((await compile(cacheFolder, { ...request, id: 'new' }, warnings)).cachePath, undefined);
  assert.equal(warnings.length, 1);
  chmodSync(cacheFolder, 0o755);
});

test('idle entries and unfinished ones are deleted', async () => {
  const cacheFolder = folder();
  const includeFolder = folder(HEADERS);
  const [old, recent] = [
    await compile(cacheFolder, requestFor(includeFolder, { id: 'old' })),
    await compile(cacheFolder, requestFor(includeFolder, { id: 'recent' })),
  ];
  mkdirSync(join(cacheFolder, '.unfinished-1-dead'));
  mkdirSync(join(cacheFolder, '.unfinished-2-busy'));
  const daysAgo = (days: number) => Date.now() / 1000 - days * 24 * 3600;
  utimesSync(old.cachePath as string, daysAgo(91), daysAgo(91));
  utimesSync(recent.cachePath as string, daysAgo(89), daysAgo(89));
  utimesSync(join(cacheFolder, '.unfinished-1-dead'), daysAgo(2), daysAgo(2));
  await prune(cacheFolder);
  assert.deepEqual(readdirSync(cacheFolder).sort(), [
    '.unfinished-2-busy',
    (recent.cachePath as string).slice(cacheFolder.length + 1),
  ]);
  await compile(cacheFolder, requestFor(includeFolder, { id: 'recent' }));
  await prune(cacheFolder, Date.now() + 50 * 24 * 3600 * 1000);
  assert.equal(entriesOf(cacheFolder).length, 1, 'use makes it young again');
});

test('where the cache is', () => {
  assert.equal(defaultCacheFolder({ XDG_CACHE_HOME: '/c' }), '/c/hotrow/kernels');
  assert.match(defaultCacheFolder({ XDG_CACHE_HOME: 'relative' }), /\/\.cache\/hotrow\/kernels$/);
  assert.match(defaultCacheFolder({}), /\/\.cache\/hotrow\/kernels$/);
});

test('a kernel whose compilation failed is compiled again, and one that was deleted too', async () => {
  const cache = new KernelCache({ folder: folder() });
  const inputs = { id: 'a', source: '', headers: new Map(), options: [], compiler: 'c' };
  const built = { cubin: Uint8Array.of(1), log: '' };
  let builds = 0;
  const fetch = (fails = false) =>
    cache.fetch(inputs, 'key', async () => {
      builds++;
      if (fails) throw new Error('does not compile');
      return built;
    });
  await assert.rejects(fetch(true), /does not compile/);
  const [one, other] = await Promise.all([fetch(), fetch()]);
  assert.equal(builds, 2, 'calls at once share one');
  assert.equal(one, other);
  assert.equal((await fetch()).cached, true);
  rmSync(one.path as string, { recursive: true });
  assert.equal((await fetch()).cached, false);
  assert.equal(builds, 3);
});

test('of more entries than are kept those unused longest go', async () => {
  const own = folder();
  const most = 4096;
  const now = Date.now();
  // The higher its number, the longer it was not used.
  for (let i = 0; i < most + 3; i++) {
    const path = join(own, `entry-${i}`);
    mkdirSync(path);
    const used = now / 1000 - 60 * i;
    utimesSync(path, used, used);
  }
  await prune(own, now);
  const left = readdirSync(own);
  assert.equal(left.length, most);
  for (const i of [most, most + 1, most + 2]) assert.ok(!left.includes(`entry-${i}`));
});
