/** Builds the fake driver, compiler and matrix products, and steers them. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import type { SearchPlaces } from '../../src/ffi/find-libraries.ts';
import type { Emulator } from '../emulation/emulator.ts';
import { compilerVersion, keepLibrary, keptLibrary } from '../support/compiled.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-fake-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

let built = 0;
let ccVersion: string | undefined;

/** Compiles a library; every call makes one with counters of its own. `file`: its name. */
export function buildFake(
  source: 'fake_cuda' | 'fake_nvrtc' | 'fake_cublaslt',
  defines: readonly string[] = [],
  file?: string,
) {
  built += 1;
  const path = file ?? join(folder, `${source}-${built}.so`);
  const input = fileURLToPath(new URL(`${source}.c`, import.meta.url));
  const flags = [
    ...['-Wall', '-Wextra', '-Werror', '-O1', '-std=gnu11', '-fPIC', '-shared'],
    ...defines.map((define) => `-D${define}`),
  ];
  ccVersion ??= compilerVersion('cc') ?? '';
  const inputs = [ccVersion, readFileSync(input, 'utf8'), ...flags];
  const kept = keptLibrary(inputs);
  if (kept !== undefined) {
    copyFileSync(kept, path);
    return path;
  }
  const { status, stderr } = spawnSync('cc', [...flags, '-o', path, input, '-lm', '-pthread'], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`cc failed: ${stderr}`);
  keepLibrary(inputs, path);
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
  /** From now on a function takes at least so long; an empty name: none does. */
  slow(call: string, ms: number): void;
  /** Calls of it that have begun. */
  slowCalls(): number;
  /** Ends a fault, as only a new process does. */
  forgetFault(): void;
  /** How long each piece of work takes. */
  setWorkMs(ms: number): void;
  /** Has the device's clock stand still, moves it on, and lets it go again: work under way ends when the test says so. */
  stopClock(): void;
  advanceClock(ms: number): void;
  startClock(): void;
  /** Threads that sleep in the driver. */
  waitingThreads(): number;
  /** The CUstreamAttrValue that was set last. */
  window(): DataView;
  /** Has the emulator run the kernels that are not the fake's own, on the memory that is allocated. */
  setEmulator(emulator: Pick<Emulator, 'entryPoints'>): void;
  /** What the emulator found wrong first; empty: nothing. */
  emulatorError(): string;
  /** The address of `fake_put`, by which other fakes put work into streams. */
  readonly put: bigint;
}

export function buildFakeDriver(defines: readonly string[] = []): FakeDriver {
  const path = buildFake('fake_cuda', defines);
  const library = koffi.load(path);
  const live = library.func('int64_t fake_live(int kind)');
  const liveBytes = library.func('int64_t fake_live_bytes(void)');
  const calls = library.func('int64_t fake_calls(void)');
  const fail = library.func('void fake_fail(const char *call, int nth, int status)');
  const slow = library.func('void fake_slow(const char *call, double seconds)');
  const slowCalls = library.func('int64_t fake_slow_calls(void)');
  const forgetFault = library.func('void fake_forget_fault(void)');
  const setWorkSeconds = library.func('void fake_set_work_seconds(double seconds)');
  const stopClock = library.func('void fake_stop_clock(void)');
  const advanceClock = library.func('void fake_advance_clock(double seconds)');
  const startClock = library.func('void fake_start_clock(void)');
  const waitingThreads = library.func('int fake_waiting_threads(void)');
  const window = library.func('void fake_window(void *bytes)');
  const setEmulator = library.func('void fake_set_emulator(uintptr_t params, uintptr_t launch)');
  const emulatorError = library.func('const char *fake_emulator_error(void)');
  // Its library is unloaded when nothing refers to it.
  let kept: object | undefined;
  return {
    path,
    live: () => {
      void kept;
      const counts = LIVE_KINDS.map((kind, i) => [kind, Number(live(i))] as const);
      return Object.fromEntries(counts.filter(([, count]) => count !== 0));
    },
    liveBytes: () => Number(liveBytes()),
    calls: () => Number(calls()),
    fail: (call, nth, status) => fail(call, nth, status),
    slow: (call, ms) => slow(call, ms / 1000),
    slowCalls: () => Number(slowCalls()),
    forgetFault: () => forgetFault(),
    setWorkMs: (ms) => setWorkSeconds(ms / 1000),
    stopClock: () => stopClock(),
    advanceClock: (ms) => advanceClock(ms / 1000),
    startClock: () => startClock(),
    waitingThreads: () => Number(waitingThreads()),
    window: () => {
      const bytes = new Uint8Array(64);
      window(bytes);
      return new DataView(bytes.buffer);
    },
    setEmulator: (emulator) => {
      kept = emulator;
      setEmulator(emulator.entryPoints.paramsBytes, emulator.entryPoints.launch);
    },
    emulatorError: () => emulatorError(),
    put: library.symbol('fake_put') as bigint,
  };
}

export interface FakeCublasLt {
  readonly path: string;
  /** Objects that were made and not given back. */
  live(): number;
  /** Products that ran. */
  products(): number;
  /** The nth call of a function from now on (1: the next) returns `status`. */
  fail(call: string, nth: number, status: number): void;
  /** Algorithms that a search proposes, and how many of them, from the first on, refuse to run. Default 3, 0. */
  setAlgorithms(count: number, refusing?: number): void;
  /** Whether searches propose something for epilogues other than none. Default true. */
  setEpilogues(known: boolean): void;
  /** Whether products of 8-bit factors are multiplied by vectors of scales. Default true. */
  setOuterVectors(known: boolean): void;
  /** Whether its ReLU makes NaN 0. Default false. */
  setReluLosesNaN(loses: boolean): void;
  /** How many of the algorithms, from the first on, round sums to 16 bits before they add a bias. Default 0. */
  setRoundingTwice(count: number): void;
}

/** A cuBLASLt whose products run in the fake driver's streams. */
export function buildFakeCublasLt(driver: FakeDriver, defines: readonly string[] = []): FakeCublasLt {
  const path = buildFake('fake_cublaslt', defines);
  const library = koffi.load(path);
  library.func('void fake_set_put(uintptr_t put)')(driver.put);
  const live = library.func('int64_t fake_live(void)');
  const products = library.func('int64_t fake_products(void)');
  const fail = library.func('void fake_fail(const char *call, int nth, int status)');
  const setAlgorithms = library.func('void fake_set_algorithms(int count, int refusing)');
  const setEpilogues = library.func('void fake_set_epilogues(int known)');
  const setOuterVectors = library.func('void fake_set_outer_vectors(int known)');
  const setReluLosesNaN = library.func('void fake_set_relu_loses_nan(int loses)');
  const setRoundingTwice = library.func('void fake_set_rounding_twice(int count)');
  return {
    path,
    live: () => Number(live()),
    products: () => Number(products()),
    fail: (call, nth, status) => fail(call, nth, status),
    setAlgorithms: (count, refusing = 0) => setAlgorithms(count, refusing),
    setEpilogues: (known) => setEpilogues(known ? 1 : 0),
    setOuterVectors: (known) => setOuterVectors(known ? 1 : 0),
    setReluLosesNaN: (loses) => setReluLosesNaN(loses ? 1 : 0),
    setRoundingTwice: (count) => setRoundingTwice(count),
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
