/** What scripts of endurance share: a server as a process, good and bad clients of it, and what its process holds. Linux. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

export interface RunningServer {
  readonly child: ChildProcess;
  readonly port: number;
  readonly grpcPort: number;
}

/** Starts `hotrow serve` with these options, on ports that are free. */
export async function startServer(options: readonly string[]): Promise<RunningServer> {
  const args = ['serve', '--port', '0', '--grpc-port', '0', '--sla', '2s', '--max-body', '8', ...options];
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // Else it would outlive a script that fails.
  process.once('exit', () => child.kill('SIGKILL'));
  const ports = await new Promise<{ port: number; grpcPort: number }>((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (chunk) => {
      process.stderr.write(chunk);
      text += chunk;
      const [, port, grpcPort] = /listening on \S+:(\d+), gRPC on \S+:(\d+)/.exec(text) ?? [];
      if (grpcPort !== undefined) resolve({ port: Number(port), grpcPort: Number(grpcPort) });
    });
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, ...ports };
}

/** Ends it as systems do; gives back its exit code. */
export async function stopServer({ child }: RunningServer): Promise<number | null> {
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  return exited;
}

export interface Held {
  readonly descriptors: number;
  readonly threads: number;
  /** By file; of checkpoints, which are mapped piece by piece once rows were written to, the beginnings alone. */
  readonly fileMappings: Readonly<Record<string, number>>;
}

/** A line of /proc/PID/maps: its third field is the place in the file. */
const CHECKPOINT_PIECE = /^\S+ \S+ (?!0+ )\S+ .*\.safetensors$/;

export function held({ child: { pid } }: RunningServer): Held {
  const fileMappings: Record<string, number> = {};
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const file = / (\/.*)$/.exec(line)?.[1];
    if (file !== undefined && !CHECKPOINT_PIECE.test(line))
      fileMappings[file] = (fileMappings[file] ?? 0) + 1;
  }
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
    fileMappings,
  };
}

/** What there is more of now: mappings altogether, and then of which files. */
export function grown(before: Held, after: Held): string[] {
  const counts = (['descriptors', 'threads'] as const).filter((name) => after[name] > before[name]);
  const total = ({ fileMappings }: Held) =>
    Object.values(fileMappings).reduce((sum, count) => sum + count, 0);
  if (total(after) <= total(before)) return counts;
  const files = Object.entries(after.fileMappings)
    .map(([file, count]) => ({ file, more: count - (before.fileMappings[file] ?? 0) }))
    .filter(({ more }) => more > 0);
  return [...counts, `fileMappings: ${files.map(({ file, more }) => `${more} of ${file}`).join(', ')}`];
}

export interface Load {
  readonly runs: readonly {
    readonly scheduled: number;
    readonly inTime: number;
    readonly failed: number;
    readonly unanswered: number;
  }[];
}

export interface LoadOptions {
  readonly rate: string;
  readonly samples: string;
  readonly seconds: number;
  /** Where its results are written. */
  readonly folder: string;
}

/** Good requests for so many seconds. */
export function load(server: RunningServer, { rate, samples, seconds, folder }: LoadOptions): Promise<Load> {
  return generate(
    server,
    ['--rate', rate, '--samples', samples, '--duration', `${seconds}s`],
    join(folder, `load-${seconds}.json`),
  );
}

/** Requests per second: `rate` itself, or where it is a share of the highest that keeps p99 at 10 ms, so much of that. */
export async function rateOf(
  server: RunningServer,
  { rate, samples, folder }: Omit<LoadOptions, 'seconds'>,
): Promise<string> {
  if (!rate.endsWith('%')) return rate;
  const { search } = await generate<{ readonly search: { readonly rate: number } }>(
    server,
    ['--search', 'p99=10ms', '--samples', samples, '--duration', '1s', '--warmup', '0.5s'],
    join(folder, 'search.json'),
  );
  const own = Math.round((search.rate * Number.parseFloat(rate)) / 100);
  if (own < 1)
    throw new Error('no rate keeps p99 at 10 ms here: say a rate, or leave the machine to it alone');
  return String(own);
}

/** Runs the load generator; what it found. */
async function generate<Found = Load>(
  { port }: RunningServer,
  options: readonly string[],
  file: string,
): Promise<Found> {
  const args = [
    'load',
    `http://127.0.0.1:${port}`,
    ...options,
    '--processes',
    '1',
    '--sleep',
    '--json',
    file,
  ];
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'ignore'],
  });
  await new Promise((resolve) => child.once('exit', resolve));
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Good requests that were not answered. */
export function failedIn({ runs }: Load): number {
  return runs.reduce((sum, { failed, unanswered }) => sum + failed + unanswered, 0);
}

/** How many bad clients come, and in which time. */
export interface BadClients {
  readonly cancels: number;
  readonly ms: number;
}

/** A client that sends `text` and, after some time, goes away. */
async function badClient(port: number, text: string, ms: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  socket.write(text);
  await sleep(ms);
  socket.destroy();
}

/** Clients that do wrong, spread over `ms`: they go away, send headers without end, and bodies over the limit. */
export async function badClients(
  { port }: RunningServer,
  { model, cancels, ms }: BadClients & { readonly model: string },
): Promise<void> {
  const head = `POST /v2/models/${model}/infer HTTP/1.1\r\nhost: a\r\n`;
  const body = JSON.stringify({ samples: [] });
  const sent: Promise<void>[] = [];
  for (let i = 0; i < cancels; i++) {
    sent.push(badClient(port, `${head}content-length: 100000\r\n\r\n${body}`, 20));
    if (i % 10 === 0) sent.push(badClient(port, `${head}x-slow: `, 15_000));
    if (i % 10 === 5) sent.push(badClient(port, `${head}content-length: 99999999\r\n\r\n`, 1000));
    await sleep(ms / cancels);
  }
  await Promise.all(sent);
}
