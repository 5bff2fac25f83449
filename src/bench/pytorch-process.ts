/** A Python process with PyTorch, asked one JSON line at a time. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { isAborted, onAbort, throwIfAborted } from '../checks/abort.ts';
import type { DeviceKind } from '../device.ts';
import type { Bags, IndexArray } from '../embedding/bag.ts';
import { writeWhole } from '../opened-file.ts';
import { packageFile } from '../package-file.ts';
import { temporaryFolder } from '../temporary-folder.ts';
import { endProgram, endWithProcess } from '../unfinished.ts';

/** Where a Python with PyTorch is looked for: what the shell finds first, then the system's own. */
const PYTHONS = ['python3', '/usr/bin/python3'];

export interface StartOptions {
  /** The library that is measured. Default: PyTorch. */
  readonly name?: string;
  /** Ends the process at once. */
  readonly signal?: AbortSignal | undefined;
}

const LIBRARY = 'PyTorch';

export type Answer = Readonly<Record<string, unknown>>;

export class PytorchProcess implements AsyncDisposable {
  readonly version: string;
  readonly device: DeviceKind;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #name: string;
  readonly #signal: AbortSignal | undefined;
  readonly #watching: Disposable | undefined;

  private constructor(
    child: ChildProcessWithoutNullStreams,
    lines: AsyncIterator<string>,
    version: string,
    device: DeviceKind,
    { name = LIBRARY, signal }: StartOptions,
    watching: Disposable | undefined,
  ) {
    this.device = device;
    this.#child = child;
    this.#lines = lines;
    this.version = version;
    this.#name = name;
    this.#signal = signal;
    this.#watching = watching;
  }

  /**
   * Starts a script of bench/peers in the first Python that can import what it needs for this kind of device; else says
   * why not.
   * @throws AbortError.
   */
  static async start(
    script: string,
    device: DeviceKind,
    options: StartOptions = {},
  ): Promise<PytorchProcess | string> {
    const { name = LIBRARY, signal } = options;
    const reasons = new Map<string, string[]>();
    const because = (reason: string, python: string) =>
      reasons.set(reason, [...(reasons.get(reason) ?? []), python]);
    for (const python of PYTHONS) {
      throwIfAborted(signal, name);
      const file = packageFile(join('bench', 'peers', script));
      // -B: no __pycache__ beside what is installed.
      const child = spawn(python, ['-B', file], { stdio: ['pipe', 'pipe', 'pipe'] });
      endWithProcess(child, { group: false });
      const watching = signal && onAbort(signal, () => endProgram(child, { group: false }));
      // Nobody reads what libraries print, so that they never wait for a reader; that a process is gone, asking shows.
      child.stderr.resume();
      child.stdin.on('error', () => {});
      const failed = new Promise<string>((resolve) => child.once('error', (error) => resolve(error.message)));
      const reader: Interface = createInterface({ input: child.stdout });
      const lines = reader[Symbol.asyncIterator]();
      const first = await Promise.race([lines.next(), failed]);
      if (typeof first === 'string' || first.done) {
        watching?.[Symbol.dispose]();
        throwIfAborted(signal, name);
        because(typeof first === 'string' ? first : 'no answer', python);
        continue;
      }
      const { version, cuda, unavailable } = JSON.parse(first.value) as Answer;
      if (typeof version === 'string' && (device === 'cpu' || cuda === true)) {
        return new PytorchProcess(child, lines, version, device, options, watching);
      }
      watching?.[Symbol.dispose]();
      child.kill();
      because(typeof unavailable === 'string' ? unavailable : `PyTorch ${version} sees no GPU`, python);
    }
    const said = [...reasons].map(([reason, pythons]) => `${pythons.join(', ')}: ${reason}`);
    return `${name} was not measured: ${said.join('; ')}`;
  }

  /** @throws Error when the process ended, or says that it failed; AbortError once the signal is aborted. */
  async ask(command: object): Promise<Answer> {
    const answer = await this.tryToAsk(command);
    if (typeof answer === 'string') throw new Error(answer);
    return answer;
  }

  /** The answer; or why the command failed. @throws Error when the process ended; AbortError once the signal is aborted. */
  async tryToAsk(command: object): Promise<Answer | string> {
    throwIfAborted(this.#signal, this.#name);
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#lines.next();
    throwIfAborted(this.#signal, this.#name);
    if (done) throw new Error(`the ${this.#name} process ended`);
    const answer = JSON.parse(value) as Answer;
    return typeof answer.failed === 'string' ? answer.failed : answer;
  }

  /** Hands over the lookups of every batch, table by table, as files of int64; `use` has their names. */
  async withLookups(
    batches: readonly (readonly Bags[])[],
    use: (files: readonly (readonly [string, string])[][]) => Promise<unknown>,
  ): Promise<void> {
    await using folder = await temporaryFolder();
    const written = new Map<Bags, readonly [string, string]>();
    for (const bags of new Set(batches.flat())) {
      const pair = [
        join(folder.path, `${written.size}.indices`),
        join(folder.path, `${written.size}.offsets`),
      ] as const;
      throwIfAborted(this.#signal, this.#name);
      await folder.fill(async () => {
        await writeWhole(pair[0], int64Bytes(bags.indices));
        await writeWhole(pair[1], int64Bytes(bags.offsets));
      });
      written.set(bags, pair);
    }
    await use(batches.map((batch) => batch.map((bags) => written.get(bags) as readonly [string, string])));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child;
    this.#watching?.[Symbol.dispose]();
    child.stdin.end();
    const isGone = child.exitCode !== null || child.signalCode !== null;
    const gone = isGone ? undefined : once(child, 'exit');
    child.kill(isAborted(this.#signal) ? 'SIGKILL' : 'SIGTERM');
    // Its memory is free for whoever comes next.
    await gone;
  }
}

function int64Bytes(values: IndexArray): Uint8Array {
  if (values instanceof BigInt64Array)
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  // In halves: by way of BigInt it would take many times as long.
  const halves = new Int32Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    halves[2 * i] = value;
    halves[2 * i + 1] = value >> 31;
  }
  return new Uint8Array(halves.buffer);
}
