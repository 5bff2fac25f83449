/** A copy of the work tree, in which mutants are made and tested. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Mutant } from './mutant.ts';

/** The scripts of a copy. */
export interface Builders {
  readonly buildNative: (options: {
    readonly flags: readonly string[];
    readonly environment: NodeJS.ProcessEnv;
  }) => Promise<unknown>;
  readonly bundleTests: (
    files: readonly string[],
    root: string,
  ) => Promise<{ folder: string; paths: ReadonlyMap<string, string> }>;
}

export interface TestRun {
  readonly passed: boolean;
  readonly ms: number;
  readonly output: string;
}

/** Mutants run where loops may never end, so they get this and a multiple of what the test takes. */
const TIMEOUT_MS = 60_000;
const TIMES = 10;

const NODE_OPTIONS = ['--enable-source-maps', '--test-reporter=spec'];

export class WorkCopy implements Disposable {
  readonly root: string;
  readonly #builders: Builders;
  #child: ChildProcess | undefined;

  /** `root`: removed when the copy is disposed. */
  constructor(root: string, builders: Builders) {
    this.root = root;
    this.#builders = builders;
  }

  /** Files that git tracks or would, node_modules by a link, and the library of the CPU kernels. */
  static async of(source: string): Promise<WorkCopy> {
    const root = mkdtempSync(join(tmpdir(), 'hotrow-mutants-'));
    const { status, stdout, stderr } = spawnSync(
      'git',
      ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate'],
      { cwd: source, encoding: 'utf8', maxBuffer: 1 << 26 },
    );
    if (status !== 0) throw new Error(stderr);
    for (const file of stdout.split('\0').filter((name) => name !== '' && name !== 'node_modules')) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      copyFileSync(join(source, file), join(root, file));
    }
    symlinkSync(realpathSync(join(source, 'node_modules')), join(root, 'node_modules'));
    await cp(join(source, 'dist'), join(root, 'dist'), { recursive: true });
    const script = (name: string) => import(pathToFileURL(join(root, 'scripts', name)).href);
    const copy = new WorkCopy(root, {
      ...(await script('build-native.mjs')),
      ...(await script('bundle-tests.mjs')),
    });
    return copy;
  }

  /**
   * Builds the library, keeping objects: less optimised ones compile faster and compute the same. Copies build at once, so each
   * has an environment of its own.
   */
  async build(): Promise<void> {
    const keeping = join(this.root, 'scripts', 'mutants', 'kept-objects.mjs');
    const compiler = process.env.CC?.trim() || 'cc';
    const CC = [process.execPath, keeping, join(this.root, '.objects'), compiler].join(' ');
    await this.#builders.buildNative({ flags: ['-O1'], environment: { ...process.env, CC } });
  }

  /** Runs test files one after another until one fails. @returns each one's run. @throws Error for what cannot be bundled. */
  async test(files: readonly string[], usualMs: (file: string) => number): Promise<Map<string, TestRun>> {
    const { folder, paths } = await this.#builders.bundleTests(files, this.root);
    const runs = new Map<string, TestRun>();
    try {
      for (const file of files) {
        const run = await this.#run(paths.get(file) as string, TIMEOUT_MS + TIMES * usualMs(file));
        runs.set(file, run);
        if (!run.passed) break;
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return runs;
  }

  /** Has the mutant in the copy while `work` runs. */
  async with<T>({ file, find, replace }: Mutant, work: () => Promise<T>): Promise<T> {
    const path = join(this.root, file);
    const original = readFileSync(path, 'utf8');
    writeFileSync(
      path,
      original.replace(find, () => replace),
    );
    const isNative = file.startsWith('kernels/cpu/');
    try {
      if (isNative) await this.build();
      return await work();
    } finally {
      writeFileSync(path, original);
      if (isNative) await this.build();
    }
  }

  #run(path: string, timeoutMs: number): Promise<TestRun> {
    return new Promise((resolve) => {
      const began = performance.now();
      const env: NodeJS.ProcessEnv = { ...process.env };
      delete env.HOTROW_CPU_LIBRARY;
      // A group of its own: what a test started ends with it.
      const child = spawn(process.execPath, [...NODE_OPTIONS, path], {
        cwd: this.root,
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      });
      this.#child = child;
      let output = '';
      const timer = setTimeout(() => this.#kill(), timeoutMs);
      for (const stream of [child.stdout, child.stderr])
        stream?.setEncoding('utf8').on('data', (text: string) => {
          output += text;
        });
      child.on('close', (code) => {
        clearTimeout(timer);
        this.#child = undefined;
        const passed = code === 0 && /^ℹ tests \d+$/m.test(output);
        resolve({ passed, ms: performance.now() - began, output });
      });
    });
  }

  #kill(): void {
    const { pid } = this.#child ?? {};
    if (pid === undefined) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }

  [Symbol.dispose](): void {
    this.#kill();
    rmSync(this.root, { recursive: true, force: true });
  }
}
