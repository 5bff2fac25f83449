/** Builds the fake driver and the fake compiler, and steers them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import type { SearchPlaces } from '../../src/ffi/find-libraries.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-fake-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

let built = 0;

/** Compiles a library; every call makes one with counters of its own. `file`: its name. */
export function buildFake(
  source: 'fake_cuda' | 'fake_nvrtc',
  defines: readonly string[] = [],
  file?: string,
) {
  built += 1;
  const path = file ?? join(folder, `${source}-${built}.so`);
  const input = fileURLToPath(new URL(`${source}.c`, import.meta.url));
  const flags = ['-Wall', '-Wextra', '-Werror', '-O1', '-std=gnu11', '-fPIC', '-shared'];
  const arguments_ = [...flags, ...defines.map((define) => `-D${define}`), '-o', path, input];
  const { status, stderr } = spawnSync('cc', arguments_, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cc failed: ${stderr}`);
  return path;
}

export const LIVE_KINDS = [
  'memory',
  'pinned',
  'stream',
  'event',
  'module',
  'graph',
  'graphExec',
  'context',
] as const;

export interface FakeDriver {
  readonly path: string;
  /** What was made and not given back, by kind; kinds with nothing are left out. */
  live(): Partial<Record<(typeof LIVE_KINDS)[number], number>>;
  liveBytes(): number;
  calls(): number;
  /** The nth call of a function from now on (1: the next) returns `status`. */
  fail(call: string, nth: number, status: number): void;
  /** Ends a fault, as only a new process does. */
  forgetFault(): void;
  /** How long each piece of work takes. */
  setWorkMs(ms: number): void;
  /** What an emulated kernel did that it must not; empty: nothing. */
  error(): string;
  /** The CUstreamAttrValue that was set last. */
  window(): DataView;
}

export function buildFakeDriver(defines: readonly string[] = []): FakeDriver {
  const path = buildFake('fake_cuda', defines);
  const library = koffi.load(path);
  const live = library.func('int64_t fake_live(int kind)');
  const liveBytes = library.func('int64_t fake_live_bytes(void)');
  const calls = library.func('int64_t fake_calls(void)');
  const fail = library.func('void fake_fail(const char *call, int nth, int status)');
  const forgetFault = library.func('void fake_forget_fault(void)');
  const setWorkSeconds = library.func('void fake_set_work_seconds(double seconds)');
  const error = library.func('const char *fake_error(void)');
  const window = library.func('void fake_window(void *bytes)');
  return {
    path,
    live: () => {
      const counts = LIVE_KINDS.map((kind, i) => [kind, Number(live(i))] as const);
      return Object.fromEntries(counts.filter(([, count]) => count !== 0));
    },
    liveBytes: () => Number(liveBytes()),
    calls: () => Number(calls()),
    fail: (call, nth, status) => fail(call, nth, status),
    forgetFault: () => forgetFault(),
    setWorkMs: (ms) => setWorkSeconds(ms / 1000),
    error: () => error(),
    window: () => {
      const bytes = new Uint8Array(64);
      window(bytes);
      return new DataView(bytes.buffer);
    },
  };
}

/** A machine with nothing in the usual places but what `places` puts there. */
export function emptyPlaces(places: Partial<SearchPlaces> = {}): SearchPlaces {
  return {
    environment: {},
    linker: false,
    toolkitPrefix: '/nonexistent',
    driverFolders: [],
    pythonSitePackages: () => [],
    ...places,
  };
}

/** An image that the fake driver loads. */
export function fakeCubin(...kernels: readonly string[]): Uint8Array {
  return new TextEncoder().encode(`FAKECUBIN ${kernels.join(' ')}\0`);
}
