/** Calls of gRPC: each from its head to its status. */
import {
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { ServeError } from '../../errors.ts';
import type { DoorOptions } from '../door.ts';
import { turnMs } from '../engine/clock.ts';
import { type ErrorAnswer, errorAnswer } from '../protocol/error-answer.ts';
import { shortName } from '../protocol/refuse.ts';
import type { BodyRoom, ReceivedBody } from '../requests/body-slot.ts';
import { BatchFailedError, type Ended, type InferModel, Refused } from '../requests/infer-model.ts';
import { Guard } from '../security/guard.ts';
import type { Security } from '../security/security.ts';
import { decode } from './codec/decode.ts';
import { HealthCheckRequest, ModelInferRequest } from './codec/messages.ts';
import { framedMessage } from './frames.ts';
import type { HealthWatchers } from './health-watchers.ts';
import { inferRequest, inferResponse } from './infer-message.ts';
import { METHODS, type Method, type MethodContext, modelName } from './methods.ts';
import { MessageReceiver } from './receive-message.ts';
import type { Sessions, TimedCall } from './sessions.ts';
import { ANSWER_HEADERS, failureTrailers, isGrpc, OK, OK_TRAILERS, packingOf, timeoutOf } from './status.ts';

/** Of a message that asks for a document. */
const DOCUMENT_BYTES = 64 << 10;

export function contextOf({ state: { phase }, models, statistics, repository }: DoorOptions): MethodContext {
  return { models, statistics, repository, isReady: phase === 'ready', isLive: phase !== 'closed' };
}

/** A call on its way, and what has become known of it. */
class Call implements TimedCall {
  /** As HTTP has it: with all that its turn of the event loop found. */
  readonly arrivedMs = turnMs();
  /** After which its client does not wait any more. */
  latestMs = Number.POSITIVE_INFINITY;
  waitingSince: number | undefined = performance.now();
  isEndless = false;
  endsUnread = false;
  model: string | undefined;
  ended: Ended | undefined;
  bodyBytes = 0;
  #receiver: MessageReceiver | undefined;

  constructor(
    readonly stream: ServerHttp2Stream,
    readonly headers: IncomingHttpHeaders,
  ) {}

  /** Its message, of which the caller gives the slot back; undefined: the client went away. @throws as MessageReceiver does. */
  async receive(room: BodyRoom): Promise<ReceivedBody | undefined> {
    this.#receiver = new MessageReceiver(this.stream, room, packingOf(this.headers));
    try {
      const received = await this.#receiver.message;
      this.bodyBytes = received?.body.length ?? 0;
      return received;
    } finally {
      this.#receiver = undefined;
      this.waitingSince = undefined;
    }
  }

  late(): void {
    if (this.#receiver === undefined) this.stream.close(constants.NGHTTP2_CANCEL);
    else this.#receiver.stop(new ServeError('DEADLINE_EXCEEDED', 'the message did not come in time'));
  }

  /** Sends an answer, if there is who takes it; whether there is. */
  send(message: Buffer): boolean {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return false;
    stream.respond(ANSWER_HEADERS, { waitForTrailers: true });
    stream.once('wantTrailers', sendOk);
    stream.end(message);
    this.waitingSince = performance.now();
    return true;
  }

  /** The same of what went wrong. What is left of the request is not read. */
  fail(failure: ErrorAnswer, retryAfterMs: number | undefined): boolean {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return false;
    stream.respond({ ...ANSWER_HEADERS, ...failureTrailers(failure, retryAfterMs) }, { endStream: true });
    this.#close();
    return true;
  }

  /** What is no call of gRPC gets an answer of HTTP. */
  failAsHttp({ status, body, headers }: ErrorAnswer): boolean {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return false;
    stream.respond({ ':status': status, 'content-type': 'application/json', ...headers });
    stream.end(body);
    this.#close();
    return true;
  }

  #close(): void {
    this.endsUnread = !this.stream.readableEnded;
    this.stream.close(constants.NGHTTP2_NO_ERROR);
    // What has come of the rest is thrown away: while somebody might read it, the stream does not end.
    this.stream.resume();
  }
}

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers(OK_TRAILERS);
}

export class Calls {
  readonly #options: DoorOptions;
  readonly #sessions: Sessions;
  readonly #watchers: HealthWatchers;
  #guard: Guard;

  constructor(options: DoorOptions, sessions: Sessions, watchers: HealthWatchers) {
    this.#options = options;
    this.#guard = new Guard(options.security.access);
    this.#sessions = sessions;
    this.#watchers = watchers;
  }

  /** Checks calls by these rules from now on. */
  renew({ access }: Security): void {
    this.#guard = new Guard(access);
  }

  /** Answers a call, and tells what became of it. */
  async handle(
    session: ServerHttp2Session,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
  ): Promise<void> {
    const call = new Call(stream, headers);
    this.#sessions.asked(session, call);
    const began = performance.now();
    const path = headers[':path'] ?? '';
    const isCall = isGrpc(headers) && headers[':method'] === 'POST';
    const method = isCall ? METHODS.get(path) : undefined;
    let failure: ErrorAnswer | undefined;
    let answer: Buffer | undefined;
    let isSent = false;
    try {
      const { authorization, origin, ':authority': host } = headers;
      this.#guard.check(method?.need ?? 'token', { authorization, origin, host });
      if (!isCall) throw notGrpc(headers);
      answer = await this.#answer(call, method, path);
      isSent = answer !== undefined && (call.isEndless || call.send(answer));
    } catch (error) {
      const { error: cause, retryAfterMs } =
        error instanceof Refused ? error : { error, retryAfterMs: undefined };
      failure = errorAnswer(cause, retryAfterMs === undefined ? {} : { retryAfterMs });
      if (failure.code === 'INTERNAL' && !(cause instanceof BatchFailedError)) this.#options.onError(cause);
      isSent = isCall ? call.fail(failure, retryAfterMs) : call.failAsHttp(failure);
    }
    this.#options.observe({
      protocol: 'grpc',
      method: headers[':method'] ?? '',
      path,
      route: method?.route ?? 'unknown',
      model: call.model,
      status: isSent ? (failure?.status ?? 200) : 0,
      ...(isSent && isCall ? { grpcStatus: failure?.grpcStatus ?? OK } : {}),
      code: failure?.code,
      totalMs: performance.now() - began,
      trace: { traceparent: oneOf(headers.traceparent), tracestate: oneOf(headers.tracestate) },
      ended: call.ended ?? { bodyBytes: call.bodyBytes },
      answerBytes: answer?.length ?? 0,
    });
  }

  /** The framed answer; undefined: the client went away. @throws what `errorAnswer` knows; Refused; BatchFailedError. */
  async #answer(call: Call, method: Method | undefined, path: string): Promise<Buffer | undefined> {
    if (method === undefined)
      throw new ServeError('ROUTE_UNKNOWN', `there is no method ${shortName(path)}`, {
        hint: 'the .proto files in schemas/ list the methods',
      });
    const timeoutMs = timeoutOf(call.headers);
    if (timeoutMs !== undefined) call.latestMs = call.arrivedMs + timeoutMs;
    const { models, arena, limits } = this.#options;
    if (method.answer === 'infer')
      return this.#infer(call, await call.receive(models.room(arena, limits.bodyBytes)));
    const mostBytes = method.route === 'patch' ? limits.bodyBytes : DOCUMENT_BYTES;
    const received = await call.receive({ arena, before: 0, behind: 0, mostBytes });
    if (received === undefined) return undefined;
    try {
      if (method.answer === 'watch') return this.#watch(call, received.body);
      const request = decode(method.request, received.body);
      const answer = await method.answer(request as never, contextOf(this.#options));
      return framedMessage(method.response, answer);
    } finally {
      arena.give(received.slot);
    }
  }

  async #infer(call: Call, received: ReceivedBody | undefined): Promise<Buffer | undefined> {
    if (received === undefined) return undefined;
    const { models, arena, slaMs, state } = this.#options;
    let message: ModelInferRequest;
    let model: InferModel;
    try {
      if (state.phase === 'closed') throw new ServeError('SHUTTING_DOWN', 'the server is shutting down');
      message = decode(ModelInferRequest, received.body);
      call.model = message.model_name;
      model = models.find(modelName(message.model_name, message.model_version));
    } catch (error) {
      arena.give(received.slot);
      throw error;
    }
    const { served } = model;
    const { arrivedMs, latestMs, stream } = call;
    return model.answer<Buffer>(
      received,
      {
        read: (body) => inferRequest(message, body),
        write: (samples, arrays, given, id) => inferResponse(served, samples, arrays, given, id),
      },
      {
        arena,
        arrivedMs,
        // Who says how long it waits has said what it needs.
        slaMs: latestMs === Number.POSITIVE_INFINITY ? slaMs : undefined,
        latestMs,
        client: stream,
        tell: (ended) => {
          call.ended = ended;
        },
      },
    );
  }

  #watch(call: Call, body: Uint8Array): Buffer | undefined {
    const { service } = decode(HealthCheckRequest, body);
    const { stream } = call;
    if (stream.destroyed || stream.closed) return undefined;
    call.isEndless = true;
    this.#watchers.add(stream, service);
    return Buffer.alloc(0);
  }
}

function notGrpc({ ':method': method }: IncomingHttpHeaders): ServeError {
  const hint = 'content-type is application/grpc, the method POST; HTTP is answered at another port';
  return method === 'POST'
    ? new ServeError('CONTENT_UNSUPPORTED', 'this is no message of gRPC', { hint })
    : new ServeError('METHOD_NOT_ALLOWED', 'calls of gRPC are POST', { hint });
}

function oneOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}
