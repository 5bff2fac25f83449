/**
 * What a request costs a server in CPU time, by transport and size: `npx tsx bench/transports.ts MODEL --json FILE [--samples 1,44]
 * [--bag-length 8] [--requests 20000] [--concurrency 32] [--rounds 3]`.
 *
 * `hotrow serve MODEL` on the CPU, with one thread that receives requests, is asked over HTTP and gRPC by this process, so many requests
 * at once; and so are bare servers of node:http and node:http2 that read the same bodies and answer as many bytes. The figures are CPU
 * time of the server's threads as Linux counts it, per request: of all of them, of the thread that receives requests, of the model's
 * thread. In turns; medians of the rounds.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect, createServer as createHttp2Server } from 'node:http2';
import { cpus } from 'node:os';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { at } from '../src/at.ts';
import { encodeRequest } from '../src/load/encode-request.ts';
import { loadArchitecture } from '../src/model/load-model.ts';
import { framed } from '../src/serve/grpc/frames.ts';
import { median } from '../src/tuner/quantile.ts';
import { syntheticRequest } from '../src/workload/synthetic.ts';
import { grpcBody, INFER } from './grpc-body.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    samples: { type: 'string', default: '1,44' },
    'bag-length': { type: 'string', default: '8' },
    requests: { type: 'string', default: '20000' },
    concurrency: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '3' },
    /** A bare server in a process of its own: http or grpc. */
    bare: { type: 'string' },
  },
});
const root = fileURLToPath(new URL('..', import.meta.url));
/** Bytes of an answer to a request with one sample, over either transport. */
const ANSWER = Buffer.alloc(160);
/** Bodies of some 100 KB come at once with it. */
const WINDOW_BYTES = 1 << 22;

function bareServer(kind: string): void {
  const listening = function (this: { address(): unknown }) {
    console.log(`listening on http://127.0.0.1:${(this.address() as { port: number }).port}`);
  };
  if (kind === 'http') {
    createServer((request, response) => {
      request.on('data', () => {});
      request.on('end', () => {
        response.writeHead(200, {
          'content-type': 'application/octet-stream',
          'content-length': ANSWER.length,
        });
        response.end(ANSWER);
      });
    }).listen(0, '127.0.0.1', listening);
    return;
  }
  const server = createHttp2Server({ settings: { initialWindowSize: WINDOW_BYTES } });
  server.on('session', (session) => session.setLocalWindowSize(WINDOW_BYTES));
  server.on('stream', (stream) => {
    stream.on('data', () => {});
    stream.on('end', () => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(framed(Buffer.concat([Buffer.alloc(5), ANSWER])));
    });
  });
  server.listen(0, '127.0.0.1', listening);
}

/** A server that runs, and the CPU time of its threads. */
class Running {
  readonly #child: ChildProcess;
  readonly urls: readonly string[];

  private constructor(child: ChildProcess, urls: readonly string[]) {
    this.#child = child;
    this.urls = urls;
  }

  static async start(args: readonly string[]): Promise<Running> {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    const urls = await new Promise<string[]>((resolve, reject) => {
      let text = '';
      const look = (chunk: Buffer) => {
        text += chunk;
        const [, http, grpc] = /listening on http:\/\/(\S+:\d+)(?:, gRPC on (\S+:\d+))?\s/.exec(text) ?? [];
        if (http !== undefined)
          resolve([http, ...(grpc === undefined ? [] : [grpc])].map((host) => `http://${host}`));
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      child.once('exit', () => reject(new Error(`a server ended: ${text}`)));
    });
    return new Running(child, urls);
  }

  /** µs, by thread. */
  cpuMicros(): Map<string, number> {
    const tasks = `/proc/${this.#child.pid}/task`;
    return new Map(
      readdirSync(tasks).map((thread) => [
        thread,
        Number(readFileSync(`${tasks}/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1000,
      ]),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}

type Ask = () => Promise<void>;

async function many(ask: Ask, requests: number): Promise<void> {
  let left = requests;
  const lane = async () => {
    while (left-- > 0) await ask();
  };
  await Promise.all(Array.from({ length: Number(values.concurrency) }, lane));
}

function overHttp(
  url: string,
  path: string,
  agent: Agent,
  { body, jsonBytes }: ReturnType<typeof encodeRequest>,
): Ask {
  const headers = { 'content-length': body.length, 'inference-header-content-length': jsonBytes };
  return () =>
    new Promise((resolve, reject) => {
      const sent = httpRequest(`${url}${path}`, { method: 'POST', agent, headers }, (response) => {
        response.resume();
        response.once('end', () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)),
        );
      });
      sent.once('error', reject);
      sent.end(body);
    });
}

function overGrpc(session: ClientHttp2Session, message: Buffer): Ask {
  const headers = { ':method': 'POST', ':path': INFER, 'content-type': 'application/grpc', te: 'trailers' };
  return () =>
    new Promise((resolve, reject) => {
      const stream = session.request(headers);
      let status: unknown;
      stream.on('response', (answer) => {
        status ??= answer['grpc-status'];
      });
      stream.on('trailers', (trailers) => {
        status = trailers['grpc-status'];
      });
      stream.resume();
      stream.once('error', reject);
      stream.once('close', () => (status === '0' ? resolve() : reject(new Error(`gRPC status ${status}`))));
      stream.end(message);
    });
}

/** Both bodies of a request of the model. */
function bodiesOf(
  { tables, denseFeatures }: Awaited<ReturnType<typeof loadArchitecture>>['architecture'],
  model: string,
  samples: number,
) {
  const bagLengths = values['bag-length'];
  const request = syntheticRequest({
    ...{ tables, denseFeatures, bagLengths, seed: 1 },
    batchSize: samples,
    pattern: 'random',
  });
  const features = tables.map(({ name }) => name);
  const http = encodeRequest(request, { features, indexType: 'int64', userDense: 0 });
  return { http, grpc: grpcBody(model, http) };
}

/** µs of a request: of all threads, and of the two that do most. */
async function measure(server: Running, ask: Ask, requests: number) {
  await many(ask, Math.ceil(requests / 4));
  const before = server.cpuMicros();
  await many(ask, requests);
  const each = [...server.cpuMicros()].map(
    ([thread, micros]) => (micros - (before.get(thread) ?? 0)) / requests,
  );
  const [most = 0, second = 0] = each.toSorted((a, b) => b - a);
  return { all: each.reduce((sum, own) => sum + own, 0), most, second };
}

async function main(model: string, out: string): Promise<void> {
  const { architecture } = await loadArchitecture(model, {});
  const name = 'model';
  const path = `/v2/models/${name}/infer`;
  const [rounds, requests] = [Number(values.rounds), Number(values.requests)];
  const serve = ['dist/cli/main.js', 'serve', `${name}=${model}`, '--device', 'cpu', '--io-threads', '1'];
  await using server = await Running.start([...serve, '--port', '0', '--grpc-port', '0']);
  const bare = (kind: string) => Running.start(['--import', 'tsx', 'bench/transports.ts', '--bare', kind]);
  await using bareHttp = await bare('http');
  await using bareGrpc = await bare('grpc');
  const agent = new Agent({ keepAlive: true, maxSockets: Number(values.concurrency) });
  const sessionOf = (url: string) => connect(url, { settings: { initialWindowSize: WINDOW_BYTES } });
  const [session, bareSession] = [sessionOf(at(server.urls, 1)), sessionOf(at(bareGrpc.urls, 0))];
  const results = [];
  for (const samples of values.samples.split(',').map(Number)) {
    const bodies = bodiesOf(architecture, name, samples);
    const count = Math.ceil(requests / Math.max(1, bodies.http.body.length / 10_000));
    const kinds = [
      ['http', server, overHttp(at(server.urls, 0), path, agent, bodies.http)],
      ['bare node:http', bareHttp, overHttp(at(bareHttp.urls, 0), path, agent, bodies.http)],
      ['grpc', server, overGrpc(session, bodies.grpc)],
      ['bare node:http2', bareGrpc, overGrpc(bareSession, bodies.grpc)],
    ] as const;
    const figures = new Map<string, { all: number; most: number; second: number }[]>();
    for (let round = 0; round < rounds; round++)
      for (const [kind, running, ask] of kinds)
        figures.set(kind, [...(figures.get(kind) ?? []), await measure(running, ask, count)]);
    for (const [kind, own] of figures) {
      const middle = (figure: 'all' | 'most' | 'second') => median(own.map((one) => one[figure]));
      const bytes = kind.includes('http2') || kind === 'grpc' ? bodies.grpc.length : bodies.http.body.length;
      const result = {
        ...{ samples, bytes, transport: kind, requests: count, rounds },
        microsOfAllThreads: middle('all'),
        ...(kind.startsWith('bare')
          ? {}
          : { microsOfReceivingThread: middle('most'), microsOfModelThread: middle('second') }),
      };
      console.error(JSON.stringify(result));
      results.push(result);
    }
  }
  session.destroy();
  bareSession.destroy();
  agent.destroy();
  const command = `npx tsx bench/transports.ts ${process.argv
    .slice(2)
    .map((word) => basename(word))
    .join(' ')}`;
  const machine = { cpu: at(cpus(), 0).model, cores: cpus().length, node: process.version };
  writeFileSync(
    out,
    `${JSON.stringify({ command, createdAt: new Date().toISOString(), ...machine, results }, null, 2)}\n`,
  );
}

if (values.bare !== undefined) bareServer(values.bare);
else if (positionals[0] === undefined || values.json === undefined)
  throw new Error('a model is needed, and --json for the results');
else await main(positionals[0], values.json);
