/**
 * The package as users get it: packed from this checkout, installed into projects of their own, and run there. Needs the npm
 * registry, or what `npm ci` left in npm's cache.
 */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { keepLibrary } from '../../src/ffi/native/library-file.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FIXTURES = join(ROOT, 'test/fixtures/golden');
const MODEL = join(FIXTURES, 'dlrm_dcnv2.model.safetensors');
const REQUEST = join(FIXTURES, 'dlrm_dcnv2.request.safetensors');
const TARGET = `${process.platform}-${process.arch}`;
const NATIVE = join('dist/native', TARGET, 'libhotrow_cpu.so');
/** With kernels for arm64 and what is bundled of packages of many small files. */
const MOST_BYTES = 1_400_000;

/** A path with a space. */
const work = mkdtempSync(join(tmpdir(), 'hotrow package '));
after(() => rmSync(work, { recursive: true, force: true }));
const installed = join(work, 'a project');
/** A copy of this checkout, to be packed: other tests run from this one's dist/ meanwhile. */
const checkout = join(work, 'a checkout');
let tarball = '';

const skip =
  process.platform === 'linux' && process.arch === 'x64' ? false : 'the package is made on Linux, x64';

function command(
  program: string,
  args: readonly string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
) {
  const result = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  assert.equal(result.error, undefined);
  return result;
}

function succeeds(result: SpawnSyncReturns<string>): string {
  assert.equal(result.status, 0, `${result.stdout}\n${result.stderr}`);
  return result.stdout;
}

function install(project: string, ...options: string[]): void {
  mkdirSync(project, { recursive: true });
  writeFileSync(join(project, 'package.json'), '{ "private": true }');
  const args = ['install', tarball, '--prefer-offline', '--no-audit', '--no-fund', ...options];
  succeeds(command('npm', args, { cwd: project }));
}

/** A project that has its own copy of the package, and shares the packages that it needs. */
function variant(name: string, change: (hotrow: string) => void): string {
  const project = join(work, name);
  const modules = join(installed, 'node_modules');
  mkdirSync(join(project, 'node_modules'), { recursive: true });
  writeFileSync(join(project, 'package.json'), '{ "private": true }');
  for (const entry of readdirSync(modules).filter((entry) => entry !== 'hotrow'))
    symlinkSync(join(modules, entry), join(project, 'node_modules', entry));
  const hotrow = join(project, 'node_modules/hotrow');
  cpSync(join(modules, 'hotrow'), hotrow, { recursive: true });
  change(hotrow);
  return project;
}

/** Nothing of the user's is read or written, but in the project's own folder. */
function environment(project: string, more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { HOTROW_CPU_LIBRARY: _, CI: __, ...own } = process.env;
  const folders = { XDG_CACHE_HOME: join(project, 'cache'), XDG_DATA_HOME: join(project, 'data') };
  return { ...own, CC: '', ...folders, ...more };
}

/**
 * Stands for a C compiler where only what is done with its results matters: what it links is the library of this checkout, which was
 * compiled from the same sources. What packages' flags leave out of it is left out of the one for arm64.
 */
const quick = join(work, 'cc');
writeFileSync(
  quick,
  `#!/bin/sh
case "$*" in *--version*) exit 0 ;; esac
while [ "$1" != -o ]; do [ "$1" = -shared ] && links=1; shift; done
[ -n "$links" ] && exec cp "${join(ROOT, NATIVE)}" "$2"
: >"$2"
`,
  { mode: 0o755 },
);

/** The C compiler as users have it, but for its optimisation and for what is always inlined: the same sources, in a quarter of the time. */
const hasty = join(work, 'hasty-cc');
writeFileSync(
  hasty,
  `#!/bin/sh
case "$*" in *-D_FORTIFY_SOURCE=2*) exec cc "$@" -O0 -U_FORTIFY_SOURCE -Dalways_inline=unused ;; esac
exec cc "$@"
`,
  { mode: 0o755 },
);

/** An environment without a C compiler. */
const NO_COMPILER = { PATH: '/nonexistent' };

const SCORES = `
const model = await loadModel(${JSON.stringify(MODEL)}, { device: 'cpu' });
const { probabilities } = await model.predict(await readRequest(${JSON.stringify(REQUEST)}));
console.log(probabilities.length, Number.isFinite(probabilities[0]));
await model.close();
`;
const ESM = `import { loadModel, readRequest } from 'hotrow';\n${SCORES}`;
const REQUIRE = `const { loadModel, readRequest } = require('hotrow');\n(async () => {${SCORES}})();`;
const SCORED = /^\d+ true\n$/;

function run(project: string, file: string, text: string, env?: NodeJS.ProcessEnv): SpawnSyncReturns<string> {
  writeFileSync(join(project, file), text);
  const args = file.endsWith('ts') ? ['--import', 'tsx', file] : [file];
  return command(process.execPath, args, { cwd: project, env: environment(project, env) });
}

/** Every file below a folder, by path from it. */
function filesIn(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[]).filter((file) =>
    statSync(join(folder, file)).isFile(),
  );
}

describe('the package', { skip }, () => {
  before(() => {
    const left = new Set(
      ['node_modules', 'dist', '.git', '.tests', '.gpu', 'test'].map((name) => join(ROOT, name)),
    );
    cpSync(ROOT, checkout, { recursive: true, filter: (source) => !left.has(source) });
    symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'));
    const args = ['pack', '--json', '--pack-destination', work];
    const env = { ...process.env, CC: quick };
    const result = command('npm', args, { cwd: checkout, env });
    const [packed] = JSON.parse(succeeds(result)) as { filename: string }[];
    tarball = join(work, packed?.filename ?? '');
    install(installed);
    // What users of TypeScript have beside it.
    for (const name of ['tsx', 'get-tsconfig', 'esbuild', '@types', 'undici-types'])
      if (existsSync(join(ROOT, 'node_modules', name)))
        symlinkSync(join(ROOT, 'node_modules', name), join(installed, 'node_modules', name));
  });

  test('is small, and has neither pictures nor what needs the repository', () => {
    assert.ok(statSync(tarball).size < MOST_BYTES, `${statSync(tarball).size} bytes`);
    const files = filesIn(join(installed, 'node_modules/hotrow'));
    const unwanted = files.filter(
      (file) => /\.(?:png|svg|test\.\w+|map|tsx?|mjs)$/.test(file) && !/\.d\.c?ts$/.test(file),
    );
    assert.deepEqual(unwanted, []);
    for (const needed of [NATIVE, 'dist/index.js', 'dist/cli/main.js', 'kernels/cpu/hotrow_cpu.h', 'LICENSE'])
      assert.ok(files.includes(needed), needed);
  });

  test('has every file that its documents link to', () => {
    const root = join(installed, 'node_modules/hotrow');
    const broken = filesIn(root)
      .filter((file) => file.endsWith('.md'))
      .flatMap((file) =>
        [...readFileSync(join(root, file), 'utf8').matchAll(/\]\(([^)#\s]+)[^)]*\)/g)]
          .map(([, target]) => target as string)
          .filter((target) => !/^(?:https?|mailto):/.test(target))
          .filter((target) => !existsSync(join(root, dirname(file), target)))
          .map((target) => `${file}: ${target}`),
      );
    assert.deepEqual(broken, []);
  });

  test('import, require and tsx score a request', () => {
    assert.match(succeeds(run(installed, 'esm.mjs', ESM)), SCORED);
    assert.match(succeeds(run(installed, 'require.cjs', REQUIRE)), SCORED);
    assert.match(succeeds(run(installed, 'typed.mts', ESM)), SCORED);
  });

  test('the first and the last of the README’s examples run as they stand', () => {
    const readme = readFileSync(join(installed, 'node_modules/hotrow/README.md'), 'utf8');
    const examples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code as string);
    copyFileSync(MODEL, join(installed, 'dlrm.pt'));
    copyFileSync(REQUEST, join(installed, 'request.safetensors'));
    const first = succeeds(run(installed, 'first.mts', examples[0] as string));
    assert.match(first, /^Float32Array\(\d+\).* ms, .* ms of it in the embedding stage\n$/s);
    const last = succeeds(run(installed, 'last.mts', examples.at(-1) as string));
    assert.match(last, /\[ 20, 22, 10, 11 \]/);
  });

  test('the client is one for import and for require, beside what it shares with the rest', () => {
    const same = 'console.log(typeof Client, new Client("http://h").ready.length >= 0, HotrowError === Own)';
    const esm = `import { Client, HotrowError } from 'hotrow/client';\nimport { HotrowError as Own } from 'hotrow';\n${same}`;
    assert.equal(succeeds(run(installed, 'client.mjs', esm)), 'function true true\n');
    const cjs = `const { Client, HotrowError } = require('hotrow/client');\nconst { HotrowError: Own } = require('hotrow');\n${same}`;
    assert.equal(succeeds(run(installed, 'client.cjs', cjs)), 'function true true\n');
  });

  test('the command runs: devices, predict, bench, report', () => {
    const env = environment(installed);
    assert.match(succeeds(command('npx', ['hotrow', 'devices'], { cwd: installed, env })), /^cpu /m);
    // What npx runs, without the second that it takes.
    const program = join(installed, 'node_modules/.bin/hotrow');
    const hotrow = (...args: string[]) => succeeds(command(program, args, { cwd: installed, env }));
    assert.equal(
      hotrow('--version').trim(),
      JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version,
    );
    assert.match(hotrow('predict', MODEL, REQUEST, '--device', 'cpu', '--format', 'json'), /"probabilities"/);
    const small = ['--tables', '1', '--rows', '100', '--dim', '8', '--batch', '4', '--bag-lengths', '2'];
    hotrow('bench', '--device', 'cpu', ...small, '--patterns', 'random', '--json', 'out.json');
    hotrow('report', 'out.json', '--out', 'report.html');
    assert.match(readFileSync(join(installed, 'report.html'), 'utf8'), /<html/);
  });

  test('types resolve for import and require, whatever resolves them', () => {
    const text = `
import { DlrmModel, loadModel, HotrowError, type Prediction } from 'hotrow';
import { Client, ServerError } from 'hotrow/client';
export async function score(path: string): Promise<Prediction> {
  await using model: DlrmModel = await loadModel(path, { device: 'cpu', limits: { programs: 2 } });
  // @ts-expect-error There is no such option.
  await loadModel(path, { devices: 'cpu' });
  return model.predict(await model.request({ batchSize: 1 } as never), { signal: AbortSignal.timeout(5) });
}
export const isOurs = (error: unknown): boolean => error instanceof HotrowError && error.code === 'OVERLOADED';
export async function ask(client: Client): Promise<Float32Array> {
  // @ts-expect-error There is no such option.
  await client.predict('dlrm', { samples: [] }, { timeout: 5 });
  return (await client.predict('dlrm', { features: { ads: [[1], [2n]] } }, { timeoutMs: 5 })).scores;
}
export const isBad = (error: unknown): boolean => error instanceof ServerError && error.status < 500;
`;
    for (const [module, moduleResolution, ...files] of [
      ['node16', 'node16', 'types.mts', 'types.cts'],
      ['nodenext', 'nodenext', 'types.mts', 'types.cts'],
      ['esnext', 'bundler', 'types.ts'],
    ] as const) {
      for (const file of files) writeFileSync(join(installed, file), text);
      const config = {
        compilerOptions: {
          module,
          moduleResolution,
          target: 'ES2022',
          lib: ['ES2022', 'ESNext.Disposable'],
          types: ['node'],
          strict: true,
          // Which nodenext resolves as node16 does.
          skipLibCheck: module === 'nodenext',
          noEmit: true,
        },
        files,
      };
      writeFileSync(join(installed, 'tsconfig.json'), JSON.stringify(config));
      const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
      const result = command(process.execPath, [tsc, '-p', '.'], { cwd: installed });
      assert.equal(result.status, 0, `${module}, ${moduleResolution}\n${result.stdout}`);
    }
  });

  test('installed without scripts, on a machine without a compiler, it scores', () => {
    const project = join(work, 'no scripts');
    install(project, '--ignore-scripts');
    assert.match(succeeds(run(project, 'esm.mjs', ESM, NO_COMPILER)), SCORED);
    assert.equal(existsSync(join(project, 'cache/hotrow/native')), false, 'nothing was built');
  });

  describe('without a library that fits', () => {
    /** What the first of these tests builds serves the others. */
    const built = join(work, 'to build/cache');
    const remove = (hotrow: string) => rmSync(join(hotrow, 'dist/native'), { recursive: true });

    test('it is built once, with progress, and nothing is written into the package', () => {
      const project = variant('to build', remove);
      const hotrow = join(project, 'node_modules/hotrow');
      const before = filesIn(hotrow);
      const first = run(project, 'esm.mjs', ESM, { CC: hasty });
      assert.match(succeeds(first), SCORED);
      assert.match(first.stderr, /builds its CPU kernels .* once/);
      assert.match(first.stderr, /\d+ of \d+ files/);
      assert.deepEqual(filesIn(hotrow), before);
      const second = run(project, 'esm.mjs', ESM, NO_COMPILER);
      assert.match(succeeds(second), SCORED);
      assert.equal(second.stderr, '');
    });

    test('and without a compiler the error names the command that installs one', () => {
      const project = variant('nothing there', remove);
      const { status, stderr } = run(project, 'esm.mjs', ESM, NO_COMPILER);
      assert.equal(status, 1);
      assert.match(stderr, /NATIVE_LIBRARY_MISSING/);
      assert.match(stderr, /no C compiler \(tried cc, gcc, clang\)/);
      assert.match(stderr, /apt-get install gcc|package of gcc|dnf|apk|pacman|zypper/);
      cpSync(built, join(project, 'cache'), { recursive: true });
      assert.match(succeeds(run(project, 'esm.mjs', ESM, NO_COMPILER)), SCORED, 'the next try works');
    });

    test('a cache folder that cannot be written is named, and another one works', () => {
      const project = variant('no cache', remove);
      writeFileSync(join(project, 'a file'), '');
      const { status, stderr } = run(project, 'esm.mjs', ESM, { XDG_CACHE_HOME: join(project, 'a file') });
      assert.equal(status, 1);
      assert.match(stderr, /NATIVE_LIBRARY_MISSING/);
      assert.match(stderr, /cannot write .*a file.*XDG_CACHE_HOME/s);
      cpSync(built, join(project, 'cache'), { recursive: true });
      assert.match(succeeds(run(project, 'esm.mjs', ESM)), SCORED, 'the next try works');
    });

    test('two processes that build at once both score', async () => {
      const project = variant('two at once', remove);
      writeFileSync(join(project, 'esm.mjs'), ESM);
      const runs = [0, 1].map(
        () =>
          new Promise<string>((resolve, reject) => {
            const child = spawn(process.execPath, ['esm.mjs'], {
              cwd: project,
              env: environment(project, { CC: quick }),
              stdio: ['ignore', 'pipe', 'pipe'],
            });
            let output = '';
            let log = '';
            child.stdout.on('data', (chunk) => (output += chunk));
            child.stderr.on('data', (chunk) => (log += chunk));
            child.on('close', (code) => (code === 0 ? resolve(output) : reject(new Error(log))));
          }),
      );
      for (const output of await Promise.all(runs)) assert.match(output, SCORED);
      const made = filesIn(join(project, 'cache/hotrow/native'));
      assert.equal(made.length, 1, made.join(', '));
    });

    test('one that is cut, of another machine or for another C library is named, and another one is built', () => {
      // As one that needs a newer C library, it has a symbol that nothing here gives.
      const source = join(work, 'foreign.c');
      const foreign = join(work, 'foreign.so');
      writeFileSync(
        source,
        'long a_newer_libc(void);\nlong hr_abi_version(void) { return a_newer_libc(); }\n',
      );
      const link = ['-shared', '-fPIC', '-Wl,-z,now', '-o', foreign, source];
      succeeds(command('cc', link, { cwd: work }));
      const elf = readFileSync(join(installed, 'node_modules/hotrow', NATIVE));
      const cases: readonly (readonly [string, RegExp, (library: string) => void])[] = [
        ['cut', /is cut or damaged/, (library) => truncateSync(library, Math.floor(elf.length / 2))],
        ['empty', /is cut or damaged/, (library) => truncateSync(library, 0)],
        ['damaged', /is cut or damaged/, (library) => writeFileSync(library, elf.fill(0, 4096, 8192))],
        [
          'for another C library',
          /cannot be loaded: .*undefined symbol: a_newer_libc/,
          (library) => keepLibrary(foreign, library, { platform: 'linux', arch: 'x64' }),
        ],
        [
          'of another machine',
          /was built for arm64, and this machine is x64/,
          (library) => copyFileSync(join(checkout, 'dist/native/linux-arm64/libhotrow_cpu.so'), library),
        ],
      ];
      for (const [name, message, damage] of cases) {
        if (name === 'of another machine' && !existsSync(join(checkout, 'dist/native/linux-arm64'))) continue;
        const project = variant(name, (hotrow) => damage(join(hotrow, NATIVE)));
        const refused = run(project, 'esm.mjs', ESM, NO_COMPILER);
        assert.equal(refused.status, 1, name);
        assert.match(refused.stderr, message, name);
        // What was built for the same sources serves.
        cpSync(built, join(project, 'cache'), { recursive: true });
        const next = run(project, 'esm.mjs', ESM, NO_COMPILER);
        assert.match(succeeds(next), SCORED);
      }
    });
  });
});
