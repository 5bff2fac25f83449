/** The gRPC server of a thread: its limits, its calls, its answers. */
import {
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { DoorOptions } from '../door.ts';
import { Intake } from '../hand-over.ts';
import { Handshakes } from '../security/handshakes.ts';
import type { Security } from '../security/security.ts';
import { tlsOptions } from '../security/tls.ts';
import { Calls, contextOf } from './calls.ts';
import { HealthWatchers } from './health-watchers.ts';
import { servingStatus } from './methods.ts';
import { MOST_STREAMS, Sessions } from './sessions.ts';

/** Of all header fields together. */
const HEADER_BYTES = 16 << 10;
/** What a client may send before the server has read it, of one call and of a connection: bodies of some 100 KB in one go. */
const STREAM_WINDOW = 1 << 20;
const CONNECTION_WINDOW = 8 << 20;
/** How often what is late is looked for: so often, and twice in the shortest of the limits. */
const LOOK_MS = 1000;
/** After the last request, when the server drains: what is on its way has come by then. */
const DRAIN_IDLE_MS = 500;

export interface GrpcDoorOptions extends DoorOptions {
  readonly onConnection: (event: 'opened' | 'closed') => void;
}

export class GrpcDoor {
  readonly #options: GrpcDoorOptions;
  readonly #server: Http2Server | Http2SecureServer;
  readonly #intake: Intake;
  readonly #handshakes = new Handshakes();
  readonly #sessions: Sessions;
  readonly #watchers: HealthWatchers;
  readonly #calls: Calls;
  #requests = 0;
  /** Told when a call has ended. */
  #ended: () => void = () => {};
  readonly #looking: NodeJS.Timeout;

  constructor(options: GrpcDoorOptions) {
    const { limits, onConnection } = options;
    this.#options = options;
    this.#watchers = new HealthWatchers((service) => servingStatus(service, contextOf(options)));
    this.#sessions = new Sessions(limits, (streams) => this.#watchers.end(streams));
    this.#calls = new Calls(options, this.#sessions, this.#watchers);
    const settings = {
      maxConcurrentStreams: MOST_STREAMS,
      maxHeaderListSize: HEADER_BYTES,
      initialWindowSize: STREAM_WINDOW,
    };
    const { tls } = options.security;
    this.#server =
      tls === undefined
        ? createServer({ settings })
        : createSecureServer({ settings, ...tlsOptions(tls), handshakeTimeout: limits.handshakeMs });
    this.#intake = new Intake(options.connections, this.#server, { allowHalfOpen: false });
    if (tls !== undefined) {
      this.#server.on('connection', (socket: Socket) => this.#handshakes.begun(socket));
      this.#server.on('secureConnection', (socket: Socket) => this.#handshakes.done(socket));
      // Whoever speaks HTTP/1.1 alone finds another port for it.
      this.#server.on('unknownProtocol', (socket: Socket) => socket.destroy());
      this.#server.on('tlsClientError', (_, socket: Socket) => socket.destroy());
    }
    this.#server.on('session', (session: ServerHttp2Session) => {
      this.#sessions.opened(session);
      session.setLocalWindowSize(CONNECTION_WINDOW);
      // What breaks a connection is its client's; calls hear of it by their streams.
      session.on('error', () => session.destroy());
      session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
        stream.on('error', () => {});
        this.#count(session, stream, headers);
      });
      onConnection('opened');
      session.once('close', () => onConnection('closed'));
    });
    this.#server.on('sessionError', () => {});
    const { headersMs, requestMs, idleMs } = limits;
    const lookMs = Math.min(LOOK_MS, headersMs / 2, requestMs / 2, idleMs / 2);
    this.#looking = setInterval(() => this.#sessions.look(), lookMs);
  }

  /** Calls that have not ended: also those whose clients have gone, while engines still have them. */
  get requests(): number {
    return this.#requests;
  }

  /** Checks calls by these rules from now on, and shakes hands with these certificates. */
  renew(security: Security): void {
    this.#calls.renew(security);
    const { tls } = security;
    if (tls !== undefined && 'setSecureContext' in this.#server)
      this.#server.setSecureContext(tlsOptions(tls));
  }

  /** Serves a connection, which is this server's from now on. */
  receive(descriptor: number): void {
    this.#intake.receive(descriptor);
  }

  /** What is served, or how far the server is, has changed. */
  changed(): void {
    this.#watchers.look();
  }

  /**
   * To be called once no more connections come. Tells clients to open no more streams, and resolves when all connections and calls have
   * ended.
   */
  async drain(): Promise<void> {
    this.changed();
    this.#sessions.leave();
    let idleSince = performance.now();
    const looking = setInterval(() => {
      if (this.#requests > 0) idleSince = performance.now();
      else if (performance.now() - idleSince >= DRAIN_IDLE_MS) {
        this.#handshakes.end();
        this.#sessions.close();
      }
    }, DRAIN_IDLE_MS / 5);
    await this.#intake.allClosed();
    clearInterval(looking);
    clearInterval(this.#looking);
    // Engines may have requests of clients that have gone.
    while (this.#requests > 0)
      await new Promise<void>((resolve) => {
        this.#ended = resolve;
      });
  }

  /** Ends all connections. */
  end(): void {
    this.#intake.end();
  }

  /** Counts a call until it has ended. What fails beside its answer ends its stream. */
  async #count(
    session: ServerHttp2Session,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
  ): Promise<void> {
    this.#requests += 1;
    try {
      await this.#calls.handle(session, stream, headers);
    } catch (error) {
      this.#options.onError(error);
      stream.destroy();
    } finally {
      this.#requests -= 1;
      this.#ended();
    }
  }
}
