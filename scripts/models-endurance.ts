/**
 * A server whose model is loaded again and again, and patched, under load beside clients that do wrong: whether any good request
 * fails, how long answers take while a model is loaded, and whether anything grows. Linux.
 *
 *   npx tsx scripts/models-endurance.ts [--minutes N] [--rate N|N%] [--grpc-rate N] [--samples N] [--device cpu|cuda] [--tables N]
 *     [--rows N] [--dim N] [--reload-every SECONDS] [--patch-every SECONDS] [--patch-rows N] [--cancels N] [--reload beside|in-place]
 *
 * A checkpoint of `--tables` tables of `--rows` rows is written to a folder of models first: 26 of 300,000 rows of 128 numbers are
 * 4 GB. A rate in % is of the highest that keeps p99 at 10 ms, searched for first. What the server's process holds is counted when it
 * has been loaded again a few times, and at the end: both times the model has just been loaded, and nobody has asked it, since what an
 * engine holds for its device depends on the batches that it ran. Quantiles are of the server's own histogram, of requests that ended while a model
 * was loaded, and of the others. Exits with 1 where a good request, a load or a patch failed, something grew, or the server answers
 * otherwise when it has been started again.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { writeSafetensors } from '../src/formats/safetensors.ts';
import type { HostTensor } from '../src/tensor.ts';
import { createRandom } from '../src/workload/random.ts';
import { badGrpcClients, grpcFailures, grpcLoad } from './endurance-grpc.ts';
import { DENSE_FEATURES, randomFloats, writeModel } from './endurance-model.ts';
import {
  badClients,
  failedIn,
  grown,
  held,
  load,
  rateOf,
  startServer,
  stopServer,
} from './endurance-server.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    rate: { type: 'string', default: '100' },
    'grpc-rate': { type: 'string', default: '50' },
    samples: { type: 'string', default: '10' },
    device: { type: 'string', default: 'cpu' },
    tables: { type: 'string', default: '8' },
    rows: { type: 'string', default: '20000' },
    dim: { type: 'string', default: '64' },
    'reload-every': { type: 'string', default: '20' },
    'patch-every': { type: 'string', default: '1' },
    'patch-rows': { type: 'string', default: '1000' },
    cancels: { type: 'string', default: '1000' },
    reload: { type: 'string', default: 'beside' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const number = (name: keyof typeof values) => Number(values[name]);
const [tables, rows, dim] = [number('tables'), number('rows'), number('dim')];
const { samples, device } = values;
const seconds = 60 * number('minutes');
const MODEL = 'endurance';
/** Before each count: what is idle has been given back, connections and the driver's own work have ended. */
const SETTLE_MS = 5000;
const WARM_UP_SECONDS = 15;
const WARM_UP_LOADS = 3;

const random = createRandom(1);
/** Rows of two tables. */
async function patch(sequence: number, folder: string): Promise<Buffer> {
  const count = number('patch-rows');
  const tensors = new Map<string, HostTensor>();
  for (const table of [0, tables - 1]) {
    const own = BigInt64Array.from({ length: count }, () => BigInt(random.integer(rows)));
    tensors.set(`rows.${table}`, { dtype: 'int64', shape: [count], data: own });
    tensors.set(`values.${table}`, {
      dtype: 'float32',
      shape: [count, dim],
      data: randomFloats(count * dim, 1),
    });
  }
  const file = join(folder, 'patch.safetensors');
  await writeSafetensors(file, tensors, { model: MODEL, version: '1', sequence: String(sequence) });
  return readFileSync(file);
}

/** An answer's text, over a connection of its own: those that are kept would count. */
function ask(url: string, method: string, body?: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, agent: false }, async (reply) => {
      try {
        let text = '';
        for await (const chunk of reply) text += chunk;
        if (reply.statusCode === 200) resolve(text);
        else reject(new Error(`${url}: ${reply.statusCode} ${text}`));
      } catch (error) {
        reject(error);
      }
    });
    asked.once('error', reject);
    asked.end(body);
  });
}

/** Buckets of the times of requests that were answered: upper bounds in s, and counts. */
async function buckets(url: string): Promise<Map<number, number>> {
  const text = await ask(`${url}/metrics`, 'GET');
  const pattern =
    /^hotrow_request_duration_seconds_bucket\{model="endurance",result="ok",le="([^"]+)"\} (\d+)$/gm;
  const found = new Map<number, number>();
  let before = 0;
  for (const [, bound, count] of text.matchAll(pattern)) {
    found.set(bound === '+Inf' ? Number.POSITIVE_INFINITY : Number(bound), Number(count) - before);
    before = Number(count);
  }
  return found;
}

/** Times of requests of some stretches of time. */
class Times {
  readonly #counts = new Map<number, number>();

  add(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): void {
    for (const [bound, count] of after)
      this.#counts.set(bound, (this.#counts.get(bound) ?? 0) + count - (before.get(bound) ?? 0));
  }

  /** ms; the upper bound of the bucket. */
  quantile(share: number): number {
    const total = [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
    let seen = 0;
    for (const [bound, count] of this.#counts) {
      seen += count;
      if (seen >= share * total) return 1000 * bound;
    }
    return Number.NaN;
  }
}

const top = mkdtempSync(join(values.folder, 'hotrow-models-endurance-'));
const repository = join(top, 'models');
await writeModel(join(repository, MODEL, '1'), { tables, rows, dim });
const start = () =>
  startServer(['--models', repository, '--device', device, '--admin', '--reload', values.reload]);
let server = await start();
try {
  const url = `http://127.0.0.1:${server.port}`;
  const rate = await rateOf(server, { rate: values.rate, samples, folder: top });
  const post = async (path: string, body?: Buffer) => JSON.parse(await ask(`${url}${path}`, 'POST', body));
  const good = (seconds: number) => load(server, { rate, samples, seconds, folder: top });
  const goodCalls = (seconds: number) => grpcLoad(server, { rate: values['grpc-rate'], samples, seconds });
  const cancels = number('cancels');
  const bad = (ms: number) =>
    Promise.all([badClients(server, { model: MODEL, cancels, ms }), badGrpcClients(server, { cancels, ms })]);
  const problems: string[] = [];
  const [loading, between] = [new Times(), new Times()];
  let isDone = false;
  let loads = 0;
  const loadsMs: number[] = [];
  const reload = async () => {
    const before = await buckets(url);
    const began = performance.now();
    await post(`/v2/repository/models/${MODEL}/load`).catch((error) => problems.push(String(error)));
    loadsMs.push(performance.now() - began);
    loading.add(before, await buckets(url));
    loads += 1;
  };
  /** What is held by a server whose model nobody has asked since it was loaded. */
  const heldWhenFresh = async () => {
    await post(`/v2/repository/models/${MODEL}/load`);
    await sleep(SETTLE_MS);
    return held(server);
  };
  const reloads = async () => {
    while (!isDone) {
      const before = await buckets(url);
      for (let s = 0; s < number('reload-every') && !isDone; s++) await sleep(1000);
      between.add(before, await buckets(url));
      if (!isDone) await reload();
    }
  };
  let sequence = 0;
  const sendPatch = async () => {
    const bytes = await patch(sequence + 1, top);
    await post(`/v2/repository/models/${MODEL}/patches`, bytes).then(
      () => {
        sequence += 1;
      },
      (error) => problems.push(String(error)),
    );
  };
  const patches = async () => {
    while (!isDone) {
      await sendPatch();
      await sleep(1000 * number('patch-every'));
    }
  };

  const warm = Promise.all([good(WARM_UP_SECONDS), goodCalls(WARM_UP_SECONDS)]);
  for (let i = 0; i < WARM_UP_LOADS; i++) await reload();
  await sendPatch();
  await bad((1000 * WARM_UP_SECONDS) / 2);
  await warm;
  const before = await heldWhenFresh();
  const under = Promise.all([good(seconds), goodCalls(seconds)]);
  const beside = [reloads(), patches()];
  await bad(1000 * seconds * 0.95);
  const [loaded, calls] = await under;
  isDone = true;
  await Promise.all(beside);
  const after = await heldWhenFresh();

  const names = JSON.parse(await ask(`${url}/v2/models/${MODEL}`, 'GET')) as {
    parameters: { features: { name: string }[] };
  };
  const sample = {
    dense: new Array(DENSE_FEATURES).fill(0.5),
    features: Object.fromEntries(names.parameters.features.map(({ name }, t) => [name, [t, 7 * t + 1]])),
  };
  const body = Buffer.from(JSON.stringify({ samples: [sample] }));
  const answer = JSON.stringify(await post(`/v2/models/${MODEL}/infer`, body));
  const exit = await stopServer(server);
  server = await start();
  const again = await ask(`http://127.0.0.1:${server.port}/v2/models/${MODEL}/infer`, 'POST', body);
  if (JSON.stringify(JSON.parse(again)) !== answer)
    problems.push('it answers otherwise when it was started again');

  const failed = failedIn(loaded) + grpcFailures(calls);
  const ms = (times: Times) => ({ p50: times.quantile(0.5), p99: times.quantile(0.99) });
  console.log(
    JSON.stringify({
      command: process.argv.slice(2).join(' '),
      rate,
      runs: loaded.runs.map(({ scheduled, inTime, failed, unanswered }) => ({
        scheduled,
        inTime,
        failed,
        unanswered,
      })),
      calls,
      loads,
      loadMs: Math.round(loadsMs.reduce((sum, own) => sum + own, 0) / loadsMs.length),
      patches: sequence,
      msWhileLoading: ms(loading),
      msBetween: ms(between),
      before,
      after,
      exit,
    }),
  );
  if (failed > 0) problems.push(`${failed} good requests failed`);
  for (const what of grown(before, after)) problems.push(`grew: ${what}`);
  if (exit !== 0) problems.push(`the server ended with ${exit}`);
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
} finally {
  server.child.kill('SIGKILL');
  rmSync(top, { recursive: true });
}
