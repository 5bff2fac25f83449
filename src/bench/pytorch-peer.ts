/** PyTorch as a peer in the same run: a Python process that runs one batch whenever it is asked to. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { DeviceKind } from '../device.ts';
import type { Bags, EmbeddingTable, IndexArray } from '../embedding/bag.ts';

const SCRIPT = fileURLToPath(new URL('../../bench/peers/pytorch_embedding_bag.py', import.meta.url));

/** Where a Python with PyTorch is looked for: what the shell finds first, then the system's own. */
const PYTHONS = ['python3', '/usr/bin/python3'];

/** PyTorch's OpenMP threads go on spinning for some milliseconds after a call, on cores that the next variant needs. */
const SPIN_DOWN_MS = 20;

/** What one batch took. */
export interface PeerTimes {
  /** All calls, back to back. */
  readonly seconds: number;
  /** Every call by itself, on a GPU. */
  readonly launches: readonly number[];
}

type Answer = Readonly<Record<string, unknown>>;

export class PytorchPeer implements AsyncDisposable {
  readonly version: string;
  readonly #device: DeviceKind;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #folders: string[] = [];

  private constructor(
    child: ChildProcessWithoutNullStreams,
    lines: AsyncIterator<string>,
    version: string,
    device: DeviceKind,
  ) {
    this.#device = device;
    this.#child = child;
    this.#lines = lines;
    this.version = version;
  }

  /** Starts the first Python that can import torch for this kind of device; otherwise says why there is none. */
  static async start(device: DeviceKind): Promise<PytorchPeer | string> {
    const reasons: string[] = [];
    for (const python of PYTHONS) {
      const child = spawn(python, [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
      const failed = new Promise<string>((resolve) => child.once('error', (error) => resolve(error.message)));
      const reader: Interface = createInterface({ input: child.stdout });
      const lines = reader[Symbol.asyncIterator]();
      const first = await Promise.race([lines.next(), failed]);
      if (typeof first === 'string' || first.done) {
        reasons.push(`${python}: ${typeof first === 'string' ? first : 'no answer'}`);
        continue;
      }
      const { version, cuda, unavailable } = JSON.parse(first.value) as Answer;
      if (typeof version === 'string' && (device === 'cpu' || cuda === true)) {
        return new PytorchPeer(child, lines, version, device);
      }
      child.kill();
      reasons.push(`${python}: ${unavailable ?? `PyTorch ${version} sees no GPU`}`);
    }
    return `PyTorch was not measured: ${reasons.join('; ')}`;
  }

  /** Makes tables of the same shapes, with random rows. */
  async setUp(tables: readonly EmbeddingTable[], threads: number): Promise<void> {
    const shapes = tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]);
    const mode = tables[0]?.mode ?? 'sum';
    await this.#ask({ setup: { tables: shapes, mode, threads, device: this.#device } });
  }

  /** Hands over the lookups of every batch, table by table. */
  async load(batches: readonly (readonly Bags[])[]): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'hotrow-peer-'));
    this.#folders.push(folder);
    const files: string[][][] = [];
    for (const [b, bags] of batches.entries()) {
      files.push([]);
      for (const [t, { indices, offsets }] of bags.entries()) {
        const pair = [join(folder, `${b}.${t}.indices`), join(folder, `${b}.${t}.offsets`)] as const;
        await writeFile(pair[0], int64Bytes(indices));
        await writeFile(pair[1], int64Bytes(offsets));
        files[b]?.push([...pair]);
      }
    }
    await this.#ask({ load: { batches: files } });
    await rm(folder, { recursive: true });
    this.#folders.pop();
  }

  /** Runs batches over all tables. */
  async run(batches: readonly number[]): Promise<readonly PeerTimes[]> {
    const answer = await this.#ask({ run: batches });
    if (this.#device === 'cpu') await setTimeout(SPIN_DOWN_MS);
    return answer.batches as PeerTimes[];
  }

  async #ask(command: object): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the PyTorch process ended');
    return JSON.parse(value) as Answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    this.#child.kill();
    for (const folder of this.#folders) await rm(folder, { recursive: true, force: true });
  }
}

function int64Bytes(values: IndexArray): Uint8Array {
  const wide = values instanceof BigInt64Array ? values : BigInt64Array.from(values, BigInt);
  return new Uint8Array(wide.buffer, wide.byteOffset, wide.byteLength);
}
