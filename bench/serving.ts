/**
 * A server beside its engine: how much of what the engine does alone a server does over HTTP, and what a request costs that comes alone.
 *
 *   npx tsx bench/serving.ts --json FILE [--device cuda|cpu] [--rows N] [--row-format FORMAT] [--sla MS] [--io-threads N] [--seconds N]
 *     [--busy-poll TIME] [--single]
 *
 * MLPerf's DLRM-DCNv2 with seeded rows; a request is one user with MLPerf's sizes of candidates (mean 270). The tables with 10 lookups
 * and more, and the dense features, are the user's. The engine alone runs the same requests, merged beforehand, from its own host
 * memory, so many batches at a time as the server has under way. Then `hotrow serve` and `hotrow load` run as processes of their own on
 * this machine: single samples, by where their time goes, the search for the highest rate, and 130 % of it. `--single`: the former alone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request as httpRequest } from 'node:http';
import { cpus, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { at } from '../src/at.ts';
import { mlperfBagLengths } from '../src/bench/synthetic-model.ts';
import type { RowFormat } from '../src/embedding/bag.ts';
import { encodeRequest } from '../src/load/encode-request.ts';
import { MLPERF, requestSizes } from '../src/load/sizes.ts';
import type { DlrmRequest } from '../src/model/request/request.ts';
import { SlotArena } from '../src/serve/engine/arena.ts';
import { nowMs } from '../src/serve/engine/clock.ts';
import { type PlacedModel, placeModel } from '../src/serve/engine/model-source.ts';
import { appendedBytes, appendRequest } from '../src/serve/records/append-request.ts';
import { BatchMemory } from '../src/serve/records/batch-memory.ts';
import { checkRecord } from '../src/serve/records/check-record.ts';
import { mergeRecords } from '../src/serve/records/merge.ts';
import { RecordModel, recordShape } from '../src/serve/records/record-model.ts';
import { median } from '../src/tuner/quantile.ts';
import { syntheticRequest } from '../src/workload/synthetic.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    rows: { type: 'string' },
    'row-format': { type: 'string', default: 'float16' },
    sla: { type: 'string', default: '10' },
    'io-threads': { type: 'string' },
    seconds: { type: 'string', default: '5' },
    processes: { type: 'string' },
    'busy-poll': { type: 'string' },
    single: { type: 'boolean', default: false },
  },
});
const { json: out, device } = values;
if (out === undefined) throw new Error('--json names a file for the results');
const slaMs = Number(values.sla);
const root = fileURLToPath(new URL('..', import.meta.url));
const rowFormat = values['row-format'] as RowFormat;
const shape = { rowFormat, ...(values.rows === undefined ? {} : { rows: Number(values.rows) }) };

/** Bags of so many lookups are the user's. */
const USER_LOOKUPS = 10;
const BATCH_REQUESTS = [1, 2, 4, 8, 16, 24, 32, 48, 64];
/** Merged batches in rotation. */
const BATCHES = 4;
/** ms between single samples, and how many. */
const SINGLES: readonly (readonly [idleMs: number, rounds: number])[] = [
  [0, 3000],
  [20, 90],
];
const MLPERF_DENSE = 13;

/** A user's request: bags of users' tables once. */
function userRequest(
  {
    tables,
    denseFeatures,
  }: { readonly tables: readonly { readonly rows: number }[]; readonly denseFeatures: number },
  samples: number,
  seed: number,
): DlrmRequest {
  const draw = (batchSize: number) =>
    syntheticRequest({
      tables,
      batchSize,
      pattern: 'random',
      bagLengths: mlperfBagLengths(tables.length),
      seed,
      denseFeatures,
    });
  const [candidates, user] = [draw(samples), draw(1)];
  const lengths = mlperfBagLengths(tables.length).split('/').map(Number);
  const bags = candidates.bags.map((own, t) => {
    const isUsers = at(lengths, t) >= USER_LOOKUPS;
    const { indices, offsets } = isUsers ? at(user.bags, t) : own;
    const narrow = { indices: Int32Array.from(indices, Number), offsets: Int32Array.from(offsets, Number) };
    return isUsers ? { ...narrow, perUser: true } : narrow;
  });
  return { ...candidates, bags, users: Int32Array.of(0, samples) };
}

/** Requests per second of merged batches of so many requests, and ms of a batch. */
async function engineAlone({ model, backend }: PlacedModel) {
  const records = new RecordModel(recordShape(model.architecture));
  using arena = new SlotArena(2 ** 29);
  const sizes = requestSizes(MLPERF, 64, 1);
  const slots = sizes.map((samples, i) => {
    const request = userRequest(model.architecture, samples, i + 1);
    const slot = arena.take(records.headerBytes + appendedBytes(request));
    if (slot === undefined) throw new Error('the arena is too small');
    appendRequest(records, slot, request);
    const error = checkRecord(records, slot.address, slot.bytes.length);
    if (error !== undefined) throw error;
    return slot.address;
  });
  const depth = model.device.capabilities.runsBesideHost ? 2 : 1;
  const results = [];
  for (const count of BATCH_REQUESTS) {
    const memories = Array.from({ length: BATCHES }, () => new BatchMemory(backend));
    const merges: number[] = [];
    const batches = memories.map((memory, b) => {
      const own = Array.from({ length: count }, (_, i) => at(slots, (b * count + i) % slots.length));
      mergeRecords(records, own, memory);
      const began = nowMs();
      const merged = mergeRecords(records, own, memory);
      merges.push(nowMs() - began);
      return merged.request;
    });
    for (const batch of [...batches, ...batches]) await model.predict(batch);
    let [samples, requests, next] = [0, 0, 0];
    const began = nowMs();
    const times: number[] = [];
    const lane = async () => {
      while (nowMs() - began < (1000 * Number(values.seconds)) / 4) {
        const batch = at(batches, next++ % BATCHES);
        const from = nowMs();
        await model.predict(batch);
        times.push(nowMs() - from);
        samples += batch.batchSize;
        requests += count;
      }
    };
    await Promise.all(Array.from({ length: depth }, lane));
    const seconds = (nowMs() - began) / 1000;
    const result = {
      requests: count,
      samples: Math.round((samples / requests) * count),
      depth,
      requestsPerSecond: requests / seconds,
      samplesPerSecond: samples / seconds,
      batchMs: median(times),
      mergeMs: median(merges),
    };
    console.error(JSON.stringify(result));
    results.push(result);
    for (const memory of memories) memory[Symbol.dispose]();
    if (result.batchMs > slaMs) break;
  }
  return results;
}

/** ms of single samples, one after the other: at once, and after some idle time, when processor and GPU have slowed down. */
async function singles<More extends object>(
  score: () => Promise<unknown>,
  around: (work: () => Promise<void>) => Promise<More>,
) {
  const figures = [];
  for (const [idleMs, rounds] of SINGLES) {
    const times: number[] = [];
    const more = await around(async () => {
      for (let round = 0; round < rounds; round++) {
        if (idleMs > 0) await new Promise((resolve) => setTimeout(resolve, idleMs));
        const began = nowMs();
        await score();
        times.push(nowMs() - began);
      }
    });
    const counted = times.slice(Math.floor(rounds / 3));
    figures.push({ idleMs, rounds: counted.length, p50Ms: median(counted), ...more });
  }
  return figures;
}

/** Mean ms of a request in each phase, and from its arrival at the server to its answer, while `work` runs. */
function phasesDuring(url: string) {
  const sums = async () => {
    const text = await (await fetch(`${url}/metrics`)).text();
    const all = new Map<string, number>();
    for (const [, name, what, value] of text.matchAll(
      /^hotrow_request_(phase|duration)_seconds_(?:sum|count)\{model="mlperf",(?:phase|result)="(\w+)"\} (\S+)$/gm,
    )) {
      const key = name === 'phase' ? (what as string) : `duration ${what}`;
      all.set(all.has(key) ? `${key} count` : key, Number(value));
    }
    return all;
  };
  return async (work: () => Promise<void>) => {
    const before = await sums();
    await work();
    const after = await sums();
    const grown = (key: string) => (after.get(key) ?? 0) - (before.get(key) ?? 0);
    const meanMs = Object.fromEntries(
      ['queue', 'merge', 'compute', 'copy', 'answer', 'duration ok'].map((key) => [
        key === 'duration ok' ? 'server' : key,
        (1000 * grown(key)) / grown(`${key} count`),
      ]),
    );
    return { meanMs };
  };
}

const byItself = async (work: () => Promise<void>) => {
  await work();
  return {};
};

/** The same over one connection, by Node's own client. */
async function singlesOverHttp(url: string) {
  const lengths = mlperfBagLengths();
  const features = lengths.split('/').map((_, t) => `table_${t}`);
  const request = userRequest(
    { tables: features.map(() => ({ rows: 3 })), denseFeatures: MLPERF_DENSE },
    1,
    1,
  );
  const { body, jsonBytes } = encodeRequest(request, {
    features,
    indexType: 'int32',
    userDense: MLPERF_DENSE,
  });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const options = {
    method: 'POST',
    agent,
    headers: { 'content-length': body.length, 'inference-header-content-length': jsonBytes },
  };
  const figures = await singles(
    () =>
      new Promise<void>((resolve, reject) => {
        const sent = httpRequest(`${url}/v2/models/mlperf/infer`, options, (response) => {
          if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
          response.resume();
          response.once('end', resolve);
        });
        sent.once('error', reject);
        sent.end(body);
      }),
    phasesDuring(url),
  );
  agent.destroy();
  return figures;
}

/** A round trip of HTTP that asks for nothing, on this machine: what a server's answer cannot be without. */
async function httpAlone() {
  const server = createServer((_, response) => response.end()).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { readonly port: number };
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const figures = await singles(
    () =>
      new Promise<void>((resolve) => {
        httpRequest({ port, agent }, (response) => {
          response.resume();
          response.once('end', resolve);
        }).end();
      }),
    byItself,
  );
  agent.destroy();
  server.close();
  return figures;
}

async function alone() {
  const placed = await placeModel({ kind: 'preset', preset: 'mlperf', shape }, { device }, () => {});
  await using _model = placed.model;
  const { model } = placed;
  const request = userRequest(model.architecture, 1, 1);
  const single = await singles(() => model.predict(request), byItself);
  const batches = values.single ? [] : await engineAlone(placed);
  return { device: model.device, precision: model.precision, plan: model.plan, single, batches };
}

/** Runs a command of Hotrow to its end; what it wrote as JSON. */
async function hotrow(args: readonly string[], file: string): Promise<unknown> {
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args, '--json', file], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const code = await new Promise((resolve) => child.once('exit', resolve));
  console.error(`hotrow ${args.join(' ')}: ${code}`);
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Starts a server; resolves when it listens, to its URL. */
async function startServer(): Promise<{ readonly child: ChildProcess; readonly url: string }> {
  const args = [
    'serve',
    '--preset',
    'mlperf',
    '--row-format',
    rowFormat,
    '--device',
    device,
    '--port',
    '0',
    '--sla',
    `${slaMs}ms`,
  ];
  if (values.rows !== undefined) args.push('--rows', values.rows);
  if (values['io-threads'] !== undefined) args.push('--io-threads', values['io-threads']);
  if (values['busy-poll'] !== undefined) args.push('--busy-poll', values['busy-poll']);
  const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // However this script ends.
  process.on('exit', () => child.kill('SIGKILL'));
  const url = await new Promise<string>((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (chunk) => {
      process.stderr.write(chunk);
      text += chunk;
      const found = /listening on (\S+)/.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, url };
}

const folder = mkdtempSync(join(tmpdir(), 'hotrow-serving-'));
try {
  const engine = await alone();
  const { child, url } = await startServer();
  const processes = values.processes === undefined ? [] : ['--processes', values.processes];
  const form = ['--user-features', 'auto', '--index-type', 'int32', ...processes];
  const time = ['--duration', `${values.seconds}s`, '--warmup', '1s'];
  const single = await singlesOverHttp(url);
  const http = await httpAlone();
  const searched = [
    'load',
    url,
    '--mlperf',
    ...form,
    ...time,
    '--deadline',
    `${slaMs}ms`,
    '--search',
    `p99=${slaMs}ms`,
    '--rate',
    '130%',
  ];
  const load = values.single ? undefined : await hotrow(searched, join(folder, 'load.json'));
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const exit = await exited;
  const command = `npx tsx bench/serving.ts ${process.argv
    .slice(2)
    .map((word) => (word === out ? basename(word) : word))
    .join(' ')}`;
  const results = {
    command,
    createdAt: new Date().toISOString(),
    cpu: at(cpus(), 0).model,
    cores: cpus().length,
    slaMs,
    engine,
    http,
    single,
    load,
    metrics,
    exit,
  };
  writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true });
}
