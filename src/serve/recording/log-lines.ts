/** Lines of the server's logs, as JSON: one line each, of bounded length, in which nothing is unprintable. */
import { printableJson } from '../../text.ts';
import { type TraceContext, traceContext } from './trace-context.ts';

/** A request that is over. What is undefined is left out. */
export interface AccessEntry extends TraceContext {
  /** ms since 1970. */
  readonly time: number;
  /** `http` or `grpc`. */
  readonly protocol: string;
  readonly method: string;
  /** As it came, with its query. */
  readonly path: string;
  readonly model?: string | undefined;
  /** Of HTTP, or the one that gRPC's stands for. */
  readonly status: number;
  readonly grpcStatus?: number | undefined;
  /** The code of the error that it was answered with. */
  readonly code?: string | undefined;
  readonly samples?: number | undefined;
  /** Of the request's body, and of the answer's. */
  readonly bytes: number;
  readonly answerBytes?: number | undefined;
  readonly queueMs?: number | undefined;
  readonly computeMs?: number | undefined;
  readonly totalMs: number;
}

export type EventLevel = 'info' | 'warning' | 'error';

/** Something that happened to the server. */
export interface EventEntry {
  /** ms since 1970. */
  readonly time: number;
  readonly level: EventLevel;
  /** A word that programs look for: `model-loaded`. */
  readonly event: string;
  /** A sentence for people. */
  readonly message: string;
  /** What else there is to say; at most 16 members are written. */
  readonly fields?: Readonly<Record<string, string | number | boolean | undefined>>;
}

/** UTF-16 units of texts that are written. */
const MOST_PATH = 300;
const MOST_NAME = 100;
const MOST_WORD = 60;
const MOST_MESSAGE = 1000;
const MOST_FIELDS = 16;
/** The last moment that a Date can be. */
const MOST_TIME = 8.64e15;

/** A line without its end. */
export function accessLine(entry: AccessEntry): string {
  return printableJson({
    time: timeOf(entry.time),
    protocol: cut(entry.protocol, MOST_WORD),
    method: cut(entry.method, MOST_WORD),
    path: cut(entry.path, MOST_PATH),
    model: cut(entry.model, MOST_NAME),
    status: entry.status,
    grpcStatus: entry.grpcStatus,
    code: cut(entry.code, MOST_WORD),
    samples: entry.samples,
    bytes: entry.bytes,
    answerBytes: entry.answerBytes,
    queueMs: rounded(entry.queueMs),
    computeMs: rounded(entry.computeMs),
    totalMs: rounded(entry.totalMs),
    ...traceContext(entry),
  });
}

/** A line without its end. Fields do not replace what every line has. */
export function eventLine({ time, level, event, message, fields = {} }: EventEntry): string {
  const more = Object.entries(fields)
    .slice(0, MOST_FIELDS)
    .map(([name, value]) => [
      cut(name, MOST_WORD),
      typeof value === 'string' ? cut(value, MOST_PATH) : value,
    ]);
  return printableJson({
    time: timeOf(time),
    level,
    event: cut(event, MOST_WORD),
    message: cut(message, MOST_MESSAGE),
    ...Object.fromEntries(
      more.filter(([name]) => !['time', 'level', 'event', 'message'].includes(String(name))),
    ),
  });
}

function timeOf(ms: number): string {
  return new Date(Math.min(MOST_TIME, Math.max(-MOST_TIME, Number.isNaN(ms) ? 0 : ms))).toISOString();
}

/** To whole µs. What is no finite number is left out. */
function rounded(ms: number | undefined): number | undefined {
  return ms === undefined || !Number.isFinite(ms) ? undefined : Math.round(ms * 1000) / 1000;
}

/** The beginning of a long text. No character is cut in two. */
function cut<T extends string | undefined>(text: T, most: number): T | string {
  if (text === undefined || text.length <= most) return text;
  return `${text.slice(0, most).replace(/[\ud800-\udbff]$/, '')}…`;
}
