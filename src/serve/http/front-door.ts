/** The HTTP server of a thread: its limits, its paths, its answers. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer, type Server as SecureServer } from 'node:https';
import type { Socket } from 'node:net';
import { RequestError, ServeError } from '../../errors.ts';
import type { DoorOptions } from '../door.ts';
import { Intake } from '../hand-over.ts';
import { PROMETHEUS_CONTENT_TYPE } from '../metrics/prometheus-text.ts';
import type { PageDocument } from '../page/document.ts';
import type { InferAnswer } from '../protocol/answer.ts';
import { health, modelMetadata, modelReady, repositoryIndex, serverMetadata } from '../protocol/documents.ts';
import { errorAnswer } from '../protocol/error-answer.ts';
import { objectOf } from '../protocol/refuse.ts';
import { checkLoadParameters } from '../protocol/repository.ts';
import { type ModelName, type Route, type Routed, Router } from '../protocol/route.ts';
import { BatchFailedError, type Ended, Refused } from '../requests/infer-model.ts';
import { Guard, needOf } from '../security/guard.ts';
import type { Security } from '../security/security.ts';
import { tlsOptions } from '../security/tls.ts';
import { Connections } from './connections.ts';
import { inferOverHttp } from './infer.ts';
import { read } from './receive-body.ts';
import type { Watchers } from './watchers.ts';

/** Of all header fields together. */
const HEADER_BYTES = 16 << 10;
/** Of a body that asks for a document. */
const DOCUMENT_BODY_BYTES = 64 << 10;
/** How often connections that are late are looked for. */
const LOOK_MS = 1000;
/** After the last request of a connection, when the server drains: what is on its way has come by then. */
const DRAIN_IDLE_MS = 500;

export interface FrontDoorOptions extends DoorOptions {
  /** Of all that was counted, for GET /metrics. */
  readonly metrics: () => Promise<string>;
  readonly page: PageDocument;
  readonly watchers: Watchers;
  readonly onConnection: (event: 'opened' | 'closed') => void;
}

/** Header fields: names and values in turns, as Node takes them with the least work. */
type Fields = readonly string[];

interface Answer {
  readonly status: number;
  readonly body: string | Buffer;
  readonly fields: Fields;
}

/** Browsers are to take answers for what they say they are. */
const typed = (type: string): Fields => ['content-type', type, 'x-content-type-options', 'nosniff'];
const JSON_TYPE = typed('application/json');
const BYTES_TYPE = typed('application/octet-stream');
const PAGE_TYPE = [
  ...typed('text/html; charset=utf-8'),
  ...['referrer-policy', 'no-referrer', 'cache-control', 'no-cache'],
];
const METRICS_TYPE = typed(PROMETHEUS_CONTENT_TYPE);

const json = (value: unknown, status = 200): Answer => ({
  status,
  body: typeof value === 'string' ? value : JSON.stringify(value),
  fields: JSON_TYPE,
});

function answerOf({ contentType, jsonLength, body }: InferAnswer): Answer {
  const type = contentType === 'application/json' ? JSON_TYPE : BYTES_TYPE;
  const length = jsonLength === undefined ? [] : ['inference-header-content-length', String(jsonLength)];
  return { status: 200, body, fields: [...type, ...length] };
}

const fieldsOf = (headers: Readonly<Record<string, string>> = {}): Fields => Object.entries(headers).flat();

export class FrontDoor {
  readonly #options: FrontDoorOptions;
  readonly #server: Server | SecureServer;
  readonly #intake: Intake;
  #guard: Guard;
  readonly #connections = new Connections();
  readonly #router = new Router();
  #requests = 0;
  /** Told when a request has ended. */
  #ended: () => void = () => {};

  constructor(options: FrontDoorOptions) {
    const { limits, security } = options;
    this.#options = options;
    this.#guard = new Guard(security.access);
    const settings = {
      maxHeaderSize: HEADER_BYTES,
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: LOOK_MS,
      // Its own answer to those without has no body.
      requireHostHeader: false,
    };
    const { tls } = security;
    this.#server =
      tls === undefined
        ? createServer(settings)
        : createSecureServer({ ...settings, ...tlsOptions(tls), handshakeTimeout: limits.handshakeMs });
    this.#intake = new Intake(options.connections, this.#server, { allowHalfOpen: tls === undefined });
    const handle = (request: IncomingMessage, response: ServerResponse) => {
      if (this.#connections.asked(request, response)) this.#count(this.#handle(request, response), response);
    };
    this.#server.on('request', handle);
    // Whatever else is expected is left alone.
    this.#server.on('checkExpectation', handle);
    if (tls !== undefined)
      this.#server.on('connection', (socket: Socket) => this.#connections.connected(socket));
    this.#server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) =>
      this.#connections.opened(socket),
    );
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) =>
      this.#connections.refuse(error, socket),
    );
    this.#server.on('connect', (_, socket: Socket) => this.#connections.refuseTunnel(socket));
    this.#server.on('connection', (socket) => {
      options.onConnection('opened');
      socket.once('close', () => options.onConnection('closed'));
    });
    // Node looks for connections that are late once its server listens, as this one never does.
    this.#server.emit('listening');
  }

  /** Requests that have not ended: also those whose clients have gone, while engines still have them. */
  get requests(): number {
    return this.#requests;
  }

  /** Checks requests by these rules from now on, and shakes hands with these certificates. */
  renew({ access, tls }: Security): void {
    this.#guard = new Guard(access);
    if (tls !== undefined && 'setSecureContext' in this.#server)
      this.#server.setSecureContext(tlsOptions(tls));
  }

  /** Serves a connection, which is this server's from now on. */
  receive(descriptor: number): void {
    this.#intake.receive(descriptor);
  }

  /**
   * To be called once no more connections come. Resolves when those that are open have ended, each after a request that is answered from
   * now on, or when none has come for a while; and when all requests have.
   */
  async drain(): Promise<void> {
    let idleSince = performance.now();
    const looking = setInterval(() => {
      if (this.#requests > 0) idleSince = performance.now();
      else if (performance.now() - idleSince >= DRAIN_IDLE_MS) this.#connections.endIdle();
    }, DRAIN_IDLE_MS / 5);
    await this.#intake.allClosed();
    clearInterval(looking);
    while (this.#requests > 0)
      await new Promise<void>((resolve) => {
        this.#ended = resolve;
      });
  }

  /** Ends all connections. */
  end(): void {
    this.#intake.end();
  }

  /** Counts a request until it has ended. What fails beside its answer ends its connection. */
  async #count(handling: Promise<void>, response: ServerResponse): Promise<void> {
    this.#requests += 1;
    try {
      await handling;
    } catch (error) {
      this.#options.onError(error);
      response.destroy();
    } finally {
      this.#requests -= 1;
      this.#ended();
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const began = performance.now();
    const { method = '', url = '', headers } = request;
    const routed = this.#router.routeOf(method, url);
    let ended: Ended | undefined;
    let answer: Answer | undefined;
    let code: string | undefined;
    try {
      checkHost(request);
      answer = this.#preflight(method, routed, headers.origin);
      if (answer === undefined) {
        this.#guard.check(needOf('route' in routed ? routed.route : undefined), headers);
        if ('error' in routed) throw routed.error;
        const { route, query } = routed;
        if (route.kind === 'infer') {
          const inferred = await this.#infer(route, query, request, response, (told) => {
            ended = told;
          });
          answer = inferred && answerOf(inferred);
        } else answer = await this.#answer(route, request, response);
      }
    } catch (error) {
      const { error: cause, retryAfterMs } =
        error instanceof Refused ? error : { error, retryAfterMs: undefined };
      const failure = errorAnswer(cause, {
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
        ...('error' in routed && routed.error === cause && routed.allow !== undefined
          ? { allow: routed.allow }
          : {}),
      });
      ({ code } = failure);
      if (code === 'INTERNAL' && !(cause instanceof BatchFailedError)) this.#options.onError(cause);
      answer = {
        ...json(failure.body, failure.status),
        fields: [...JSON_TYPE, ...fieldsOf(failure.headers)],
      };
    }
    const isAnswered = answer !== undefined && !response.destroyed;
    // What was streamed has been sent, where its client was still there.
    const streamed = response.headersSent ? response.statusCode : 0;
    const status = isAnswered ? this.#send(request, response, answer as Answer) : streamed;
    const route = 'route' in routed ? routed.route : undefined;
    this.#options.observe({
      protocol: 'http',
      method,
      path: url,
      route: route?.kind ?? 'unknown',
      model: route !== undefined && 'model' in route ? route.model : undefined,
      status,
      code,
      totalMs: performance.now() - began,
      trace: { traceparent: header(request, 'traceparent'), tracestate: header(request, 'tracestate') },
      ended,
      answerBytes: answer === undefined ? 0 : Buffer.byteLength(answer.body),
    });
  }

  /** The answer to a browser that asks for a page whether it may. */
  #preflight(method: string, routed: Routed, origin: string | undefined): Answer | undefined {
    if (method !== 'OPTIONS' || !('error' in routed) || routed.allow === undefined) return undefined;
    const headers = this.#guard.preflightHeaders(origin, routed.allow);
    return headers === undefined ? undefined : { status: 200, body: '', fields: fieldsOf(headers) };
  }

  /** Undefined: the client went away. */
  #infer(
    route: ModelName,
    query: string,
    request: IncomingMessage,
    response: ServerResponse,
    tell: (ended: Ended) => void,
  ): Promise<InferAnswer | undefined> {
    const { state, arena, slaMs, models } = this.#options;
    if (state.phase === 'closed') throw new ServeError('SHUTTING_DOWN', 'the server is shutting down');
    const current = () => models.find(route);
    return inferOverHttp(current, request, response, query, { arena, slaMs, tell });
  }

  /** Undefined: it has been streamed. */
  async #answer(
    route: Exclude<Route, { readonly kind: 'infer' }>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<Answer | undefined> {
    const { state, models, metrics, statistics, repository, limits } = this.#options;
    const isReady = state.phase === 'ready';
    switch (route.kind) {
      case 'live':
        return json(health('live', state.phase !== 'closed'), 200);
      case 'ready':
        return json(health('ready', isReady), isReady ? 200 : 503);
      case 'server-metadata':
        return json(serverMetadata());
      case 'page': {
        const { html, policy } = this.#options.page;
        return { status: 200, body: html, fields: [...PAGE_TYPE, 'content-security-policy', policy] };
      }
      case 'events':
        if (!isReady) throw new ServeError('SHUTTING_DOWN', 'the server is shutting down');
        await this.#options.watchers.watch(response, this.#guard.answerHeaders(request.headers.origin));
        return undefined;
      case 'metrics':
        return { status: 200, body: await metrics(), fields: METRICS_TYPE };
      case 'repository-index': {
        const asked = await smallJson(request);
        return json(repositoryIndex(await repository.index(), asked));
      }
      case 'load': {
        const { parameters } = objectOf(await smallJson(request), 'the body');
        checkLoadParameters(Object.keys(objectOf(parameters, 'parameters')));
        await repository.load(route.model);
        return json({});
      }
      case 'unload': {
        await wholeBody(request, DOCUMENT_BODY_BYTES);
        await repository.unload(route.model);
        return json({});
      }
      case 'patch': {
        const patch = await wholeBody(request, limits.bodyBytes);
        return json(await repository.patch(route.model, patch));
      }
      case 'statistics':
        return json(
          await statistics(route.model === undefined ? models.all : [models.find(route as ModelName)]),
        );
      case 'model-metadata':
        return json(modelMetadata(models.find(route).served));
      case 'model-ready':
        return json(modelReady(models.find(route).served, isReady), isReady ? 200 : 503);
      default:
        return route satisfies never;
    }
  }

  /** Sends an answer; gives back its status. */
  #send(request: IncomingMessage, response: ServerResponse, { status, body, fields }: Answer): number {
    const { phase } = this.#options.state;
    const ends = this.#connections.endsUnread(request) || phase === 'draining' || phase === 'closed';
    const all = [...fields, 'content-length', String(Buffer.byteLength(body))];
    const ofGuard = this.#guard.answerHeaders(request.headers.origin);
    if (ofGuard !== undefined) all.push(...fieldsOf(ofGuard));
    if (ends) all.push('connection', 'close');
    response.writeHead(status, all);
    response.end(request.method === 'HEAD' ? undefined : body);
    return status;
  }
}

/** One field, or what stands before the server may have read another. @throws RequestError REQUEST_INVALID. */
function checkHost({ rawHeaders, httpVersion }: IncomingMessage): void {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  if (hosts > 1 || (hosts === 0 && httpVersion === '1.1'))
    throw new RequestError('REQUEST_INVALID', `the request has ${hosts} fields Host, not one`);
}

function header({ headers }: IncomingMessage, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** A small body of JSON; undefined: there is none, or it is not JSON. @throws ServeError BODY_TOO_LARGE. */
async function smallJson(request: IncomingMessage): Promise<unknown> {
  try {
    return JSON.parse((await wholeBody(request, DOCUMENT_BODY_BYTES)).toString());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}

/** A body of at most so many bytes. @throws ServeError BODY_TOO_LARGE. */
async function wholeBody(request: IncomingMessage, mostBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const reading = read(request, (chunk) => {
    bytes += chunk.length;
    if (bytes > mostBytes)
      throw new ServeError('BODY_TOO_LARGE', `the body has more than ${mostBytes} bytes`);
    chunks.push(chunk);
  });
  if (!(await reading.whole)) throw new RequestError('REQUEST_INVALID', 'the body ended before it was whole');
  return Buffer.concat(chunks);
}
