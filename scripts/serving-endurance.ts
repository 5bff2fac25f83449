/**
 * A server under load beside clients that do wrong, for minutes: whether any good request fails, and whether anything grows. Linux.
 *
 *   npx tsx scripts/serving-endurance.ts [--minutes N] [--rate N|N%] [--grpc-rate N] [--samples N] [--device cpu|cuda] [--preset NAME]
 *     [--cancels N]
 *
 * Beside `hotrow load` and good calls of gRPC: requests whose client goes away, headers and messages that never end, bodies over the
 * limit, by both protocols. A rate in % is of the highest that keeps p99 at 10 ms, searched for first. Descriptors, threads and
 * mappings of files of the server's process are counted when it is warm and at the end. Exits with 1 where a good request failed, or
 * something grew.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { badGrpcClients, grpcFailures, grpcLoad } from './endurance-grpc.ts';
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
    minutes: { type: 'string', default: '10' },
    rate: { type: 'string', default: '70%' },
    'grpc-rate': { type: 'string', default: '50' },
    samples: { type: 'string', default: '10' },
    device: { type: 'string', default: 'cpu' },
    preset: { type: 'string', default: 'quick' },
    rows: { type: 'string', default: '20000' },
    cancels: { type: 'string', default: '1000' },
  },
});
const seconds = 60 * Number(values.minutes);
/** Before the first count, and before the last: what is idle has been given back. */
const SETTLE_MS = 5000;
const WARM_UP_SECONDS = 15;

const { device, preset, rows, samples } = values;
const cancels = Number(values.cancels);
const folder = mkdtempSync(join(tmpdir(), 'hotrow-serving-endurance-'));
const server = await startServer(['--preset', preset, '--rows', rows, '--device', device]);
const goodCalls = (seconds: number) => grpcLoad(server, { rate: values['grpc-rate'], samples, seconds });
const bad = (ms: number) =>
  Promise.all([badClients(server, { model: preset, cancels, ms }), badGrpcClients(server, { cancels, ms })]);
try {
  const rate = await rateOf(server, { rate: values.rate, samples, folder });
  const good = (seconds: number) => load(server, { rate, samples, seconds, folder });
  const warm = Promise.all([good(WARM_UP_SECONDS), goodCalls(WARM_UP_SECONDS)]);
  await bad((1000 * WARM_UP_SECONDS) / 2);
  await warm;
  await sleep(SETTLE_MS);
  const before = held(server);
  const under = Promise.all([good(seconds), goodCalls(seconds)]);
  await bad(1000 * seconds * 0.95);
  const [loaded, calls] = await under;
  await sleep(SETTLE_MS);
  const after = held(server);
  const exit = await stopServer(server);
  const failed = failedIn(loaded) + grpcFailures(calls);
  console.log(
    JSON.stringify({
      command: process.argv.slice(2).join(' '),
      rate,
      runs: loaded.runs,
      calls,
      before,
      after,
      exit,
    }),
  );
  const more = grown(before, after);
  if (failed > 0) console.error(`${failed} good requests failed`);
  if (more.length > 0) console.error(`grew: ${more.join(', ')}`);
  if (failed > 0 || more.length > 0 || exit !== 0) process.exitCode = 1;
} finally {
  server.child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
}
