/** Good and bad clients of a server's gRPC, for scripts of endurance. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { grpcBody, INFER } from '../bench/grpc-body.ts';
import { at } from '../src/at.ts';
import { encodeRequest } from '../src/load/encode-request.ts';
import { describeServer, serverUrl } from '../src/load/served-model.ts';
import { SyntheticRequests } from '../src/load/synthetic-requests.ts';
import type { BadClients, LoadOptions, RunningServer } from './endurance-server.ts';

const HEADERS = { ':method': 'POST', ':path': INFER, 'content-type': 'application/grpc', te: 'trailers' };
/** Messages in rotation. */
const MESSAGES = 50;
/** After which a call counts as not answered. */
const PATIENCE_MS = 10_000;
/** Calls that a bad client cancels on one connection before it opens another. */
const CANCELS_OF_CONNECTION = 200;

/** What became of good calls. */
export interface GrpcLoad {
  readonly calls: number;
  /** Those that did not get status 0, by what they got. */
  readonly failed: Readonly<Record<string, number>>;
}

function open(port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  return session;
}

/** A call; '' where it was answered, else what it got. */
function call(session: ClientHttp2Session, message: Buffer): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request(HEADERS);
    let status: unknown;
    const told = (headers: { readonly [name: string]: unknown }) => {
      if (headers['grpc-status'] === undefined) return;
      status = `${headers['grpc-status']} ${headers['hotrow-code'] ?? ''}`.trim();
    };
    const late = setTimeout(() => {
      status = 'no answer';
      stream.close(constants.NGHTTP2_CANCEL);
    }, PATIENCE_MS);
    stream.on('response', told);
    stream.on('trailers', told);
    stream.on('error', (error) => {
      status ??= error.message;
    });
    stream.resume();
    stream.once('close', () => {
      clearTimeout(late);
      resolve(status === '0' ? '' : String(status ?? 'no status'));
    });
    stream.end(message);
  });
}

/** Good calls for so many seconds, as they come by themselves, over one connection. */
export async function grpcLoad(
  { port, grpcPort }: RunningServer,
  { rate, samples, seconds }: Pick<LoadOptions, 'rate' | 'samples' | 'seconds'>,
): Promise<GrpcLoad> {
  const url = serverUrl(`http://127.0.0.1:${port}`);
  const { model } = await describeServer(url, undefined, new AbortController().signal);
  const shape = { pattern: 'random', bagLengths: '10', indexType: 'int64', seed: 2 } as const;
  const requests = new SyntheticRequests(model, shape);
  const form = {
    features: model.features.map(({ name }) => name),
    indexType: 'int64',
    userDense: 0,
  } as const;
  const messages = Array.from({ length: MESSAGES }, () =>
    grpcBody(model.name, encodeRequest(requests.next(Number(samples)), form)),
  );
  const session = open(grpcPort);
  const failed: Record<string, number> = {};
  const calls: Promise<void>[] = [];
  const endMs = performance.now() + 1000 * seconds;
  for (let dueMs = performance.now(); dueMs < endMs; ) {
    const message = at(messages, calls.length % MESSAGES);
    calls.push(
      call(session, message).then((what) => {
        if (what !== '') failed[what] = (failed[what] ?? 0) + 1;
      }),
    );
    dueMs -= (Math.log(1 - Math.random()) * 1000) / Number(rate);
    await sleep(Math.max(0, dueMs - performance.now()));
  }
  await Promise.all(calls);
  session.close();
  return { calls: calls.length, failed };
}

export function grpcFailures({ failed }: GrpcLoad): number {
  return Object.values(failed).reduce((sum, count) => sum + count, 0);
}

/** A call that sends what it is given, without an end, and is cancelled after some time. */
async function badCall(session: ClientHttp2Session, bytes: Buffer, ms: number): Promise<void> {
  let stream: ClientHttp2Stream;
  try {
    stream = session.request(HEADERS);
  } catch {
    // The server has told its client to open no more calls there.
    return;
  }
  stream.on('error', () => {});
  stream.resume();
  stream.write(bytes);
  await sleep(ms);
  stream.close(constants.NGHTTP2_CANCEL);
}

/** Clients that do wrong, spread over `ms`: they cancel calls in the middle of messages, never end them, and claim more than the limit. */
export async function badGrpcClients(
  { grpcPort }: RunningServer,
  { cancels, ms }: BadClients,
): Promise<void> {
  const frame = (claimed: number) => {
    const bytes = Buffer.alloc(100);
    bytes.writeUInt32BE(claimed, 1);
    return bytes;
  };
  const sent: Promise<void>[] = [];
  const sessions: ClientHttp2Session[] = [];
  for (let i = 0; i < cancels; i++) {
    if (i % CANCELS_OF_CONNECTION === 0) sessions.push(open(grpcPort));
    const session = at(sessions, sessions.length - 1);
    sent.push(badCall(session, frame(100_000), 20));
    if (i % 10 === 0) sent.push(badCall(session, frame(100_000), 15_000));
    if (i % 10 === 5) sent.push(badCall(session, frame(99_999_999), 1000));
    await sleep(ms / cancels);
  }
  await Promise.all(sent);
  for (const session of sessions) session.destroy();
}
