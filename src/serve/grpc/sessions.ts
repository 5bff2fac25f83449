/**
 * The open connections of HTTP/2, and their limits, of which node:http2 has none: how long one may be idle, a request may take to come and
 * an answer to be read. A connection is replaced before too many of its streams were reset: nghttp2 ends one that has 1,000 resets at
 * once, and its other requests with it; a client that is told to go away in time opens another, and loses nothing.
 */
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';

/** Open at once on a connection. */
export const MOST_STREAMS = 512;
/** Resets that nghttp2 allows at once, and how many more each second. */
const RESETS_AT_ONCE = 1000;
const RESETS_PER_SECOND = 33;
/** A connection is replaced while so many are left: all its open streams may still be reset. */
const RESETS_LEFT = MOST_STREAMS;
/** What comes on a connection of which the client has been told to open no more streams. */
const LARGEST_STREAM = 2 ** 31 - 1;
/** After which none are on their way any more. */
const LEAVE_MS = 1000;

export interface SessionLimits {
  /** In which a client must have said that it speaks HTTP/2. */
  readonly headersMs: number;
  /** In which a request must have come, and its answer must have been read. */
  readonly requestMs: number;
  readonly idleMs: number;
}

/** A call, as far as its time is concerned. */
export interface TimedCall {
  readonly stream: ServerHttp2Stream;
  /** Since when it has been waited for: its message, or that its answer is read. By `performance.now`; undefined: the server has it. */
  waitingSince: number | undefined;
  /** Told when its message has taken too long. */
  late(): void;
  /** Whether it is ended before all of its request has come. */
  readonly endsUnread: boolean;
  /** Whether it may stay open for as long as it likes. */
  isEndless: boolean;
}

interface OpenSession {
  readonly calls: Map<ServerHttp2Stream, TimedCall>;
  hasSpoken: boolean;
  idleSince: number;
  /** That may be reset yet, at `countedAt`. */
  resetsLeft: number;
  countedAt: number;
  /** When the client was told to go away. */
  toldAt: number | undefined;
}

export class Sessions {
  readonly #limits: SessionLimits;
  readonly #now: () => number;
  readonly #open = new Map<ServerHttp2Session, OpenSession>();
  /** Told which streams have no end of their own, where their connection is to end. */
  readonly #endEndless: (streams: readonly ServerHttp2Stream[]) => void;

  constructor(
    limits: SessionLimits,
    endEndless: (streams: readonly ServerHttp2Stream[]) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#limits = limits;
    this.#endEndless = endEndless;
    this.#now = now;
  }

  opened(session: ServerHttp2Session): void {
    const now = this.#now();
    const own: OpenSession = {
      calls: new Map(),
      hasSpoken: false,
      idleSince: now,
      resetsLeft: RESETS_AT_ONCE,
      countedAt: now,
      toldAt: undefined,
    };
    this.#open.set(session, own);
    session.once('remoteSettings', () => {
      own.hasSpoken = true;
    });
    session.once('close', () => this.#open.delete(session));
  }

  /** A call has begun. */
  asked(session: ServerHttp2Session, call: TimedCall): void {
    const { stream } = call;
    const own = this.#open.get(session);
    if (own === undefined) return;
    // It may have been reset in the same breath.
    if (stream.destroyed) {
      this.#reset(session, own);
      return;
    }
    own.calls.set(stream, call);
    stream.once('close', () => {
      own.calls.delete(stream);
      if (own.calls.size === 0) own.idleSince = this.#now();
      // Where the server ended it before its request had come, its client may have reset it too.
      if (stream.rstCode !== constants.NGHTTP2_NO_ERROR || stream.aborted || call.endsUnread)
        this.#reset(session, own);
    });
  }

  /** Looks for what has taken too long: to be called every second or so. */
  look(): void {
    const now = this.#now();
    const { headersMs, requestMs, idleMs } = this.#limits;
    for (const [session, own] of this.#open) {
      for (const call of own.calls.values())
        if (call.waitingSince !== undefined && now - call.waitingSince >= requestMs) call.late();
      const idleFor = own.calls.size > 0 ? 0 : now - own.idleSince;
      if (!own.hasSpoken && idleFor >= headersMs) session.destroy();
      else if (idleFor >= idleMs || (own.toldAt !== undefined && now - own.toldAt >= LEAVE_MS))
        this.#close(session, own);
    }
  }

  /** Tells all clients to open no more streams; those that come all the same are heard. */
  leave(): void {
    for (const [session, own] of this.#open) this.#tellToLeave(session, own);
  }

  /** Ends all connections, each when its calls have ended. */
  close(): void {
    for (const [session, own] of this.#open) this.#close(session, own);
  }

  /** A stream was reset, or ended where nobody expected it. */
  #reset(session: ServerHttp2Session, own: OpenSession): void {
    const now = this.#now();
    const more = ((now - own.countedAt) / 1000) * RESETS_PER_SECOND;
    own.resetsLeft = Math.min(RESETS_AT_ONCE, own.resetsLeft + more) - 1;
    own.countedAt = now;
    if (own.resetsLeft <= RESETS_LEFT) this.#tellToLeave(session, own);
  }

  #tellToLeave(session: ServerHttp2Session, own: OpenSession): void {
    if (own.toldAt !== undefined || session.closed || session.destroyed) return;
    own.toldAt = this.#now();
    session.goaway(constants.NGHTTP2_NO_ERROR, LARGEST_STREAM);
    this.#endEndless(
      [...own.calls.values()].filter(({ isEndless }) => isEndless).map(({ stream }) => stream),
    );
  }

  #close(session: ServerHttp2Session, own: OpenSession): void {
    if (session.closed || session.destroyed) return;
    this.#endEndless(
      [...own.calls.values()].filter(({ isEndless }) => isEndless).map(({ stream }) => stream),
    );
    session.close();
  }
}
