/** How calls of gRPC end, and what their head says of time and encoding. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import { shown } from '../../checks/value.ts';
import { RequestError, ServeError } from '../../errors.ts';
import type { ErrorAnswer } from '../protocol/error-answer.ts';

export const OK = 0;

/** Of each answer that is gRPC's. */
export const ANSWER_HEADERS: OutgoingHttpHeaders = Object.freeze({
  ':status': 200,
  'content-type': 'application/grpc',
});
export const OK_TRAILERS: OutgoingHttpHeaders = Object.freeze({ 'grpc-status': String(OK) });
/** How messages may come. */
const ENCODINGS = 'identity,gzip';

/** Of a message; clients take 8 KiB of header fields or more. */
const MOST_MESSAGE_BYTES = 1500;

/**
 * What a call that failed ends with. Beside gRPC's own: `hotrow-code`, the error's code, and where a client may try again, when
 * (`grpc-retry-pushback-ms`, and `retry-after` in seconds).
 */
export function failureTrailers(
  { grpcStatus, message, code, headers }: ErrorAnswer,
  retryAfterMs: number | undefined,
): OutgoingHttpHeaders {
  const retryAfter = headers['retry-after'];
  return {
    'grpc-status': String(grpcStatus),
    'grpc-message': percentEncoded(message),
    'hotrow-code': code,
    ...(code === 'CONTENT_UNSUPPORTED' ? { 'grpc-accept-encoding': ENCODINGS } : {}),
    ...(retryAfter === undefined
      ? {}
      : {
          'retry-after': retryAfter,
          'grpc-retry-pushback-ms': String(Math.max(1, Math.ceil(retryAfterMs ?? 1000 * Number(retryAfter)))),
        }),
  };
}

/** Bytes beyond printable ASCII, and %, as %XX; the beginning of a long text. No character is cut in two. */
export function percentEncoded(text: string): string {
  let encoded = '';
  for (const character of text) {
    const plain = character >= ' ' && character <= '~' && character !== '%';
    const own = plain ? character : hexOf(character);
    if (encoded.length + own.length > MOST_MESSAGE_BYTES) return encoded;
    encoded += own;
  }
  return encoded;
}

function hexOf(character: string): string {
  return [...Buffer.from(character)]
    .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
    .join('');
}

/** Milliseconds. */
const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** The milliseconds that a client waits; undefined: it does not say. @throws RequestError REQUEST_INVALID; ServeError DEADLINE_EXCEEDED for 0. */
export function timeoutOf(headers: IncomingHttpHeaders): number | undefined {
  const given = headers['grpc-timeout'];
  if (given === undefined) return undefined;
  const [, digits, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(given)) ?? [];
  if (digits === undefined)
    throw new RequestError('REQUEST_INVALID', `grpc-timeout is ${shown(given)}`, {
      hint: 'it is up to 8 digits and a unit: H, M, S, m, u or n',
    });
  const ms = Number(digits) * (UNITS[unit] as number);
  if (ms === 0) throw new ServeError('DEADLINE_EXCEEDED', 'the call has no time');
  return ms;
}

/** How compressed messages are. @throws ServeError CONTENT_UNSUPPORTED. */
export function packingOf(headers: IncomingHttpHeaders): 'gzip' | undefined {
  const given = headers['grpc-encoding'];
  if (given === undefined || given === 'identity') return undefined;
  if (given === 'gzip') return 'gzip';
  throw new ServeError('CONTENT_UNSUPPORTED', `messages are encoded: grpc-encoding ${shown(given)}`, {
    hint: `encodings are ${ENCODINGS}`,
  });
}

/** Whether a request is a call of gRPC with messages of protobuf. */
export function isGrpc(headers: IncomingHttpHeaders): boolean {
  return /^application\/grpc(?:\+proto)?(?:;|$)/.test(headers['content-type'] ?? '');
}
