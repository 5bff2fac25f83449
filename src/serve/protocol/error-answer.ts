/** Answers to requests that failed: a status of HTTP, one of gRPC, and JSON that says what is wrong. */
import {
  type ErrorCode,
  type FormatErrorCode,
  HotrowError,
  type RequestErrorCode,
  type ServeErrorCode,
} from '../../errors.ts';

/** Statuses of gRPC. */
const GRPC = {
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

type Statuses = readonly [http: number, grpc: number];

const BAD: Statuses = [400, GRPC.invalidArgument];
/** The request is well, and what the server has does not allow it. */
const CONFLICT: Statuses = [409, GRPC.failedPrecondition];
const INTERNAL: Statuses = [500, GRPC.internal];

/** What clients can do something about. */
const STATUSES = {
  INDEX_OUT_OF_RANGE: BAD,
  OFFSETS_INVALID: BAD,
  TABLE_MISSING: BAD,
  TABLE_UNEXPECTED: BAD,
  TENSOR_MISSING: BAD,
  TENSOR_UNEXPECTED: BAD,
  TENSOR_DTYPE: BAD,
  TENSOR_SHAPE: BAD,
  FEATURE_UNKNOWN: BAD,
  UNKNOWN_ID: BAD,
  LENGTHS_INVALID: BAD,
  BAG_TOO_LONG: BAD,
  USERS_INVALID: BAD,
  DENSE_OUT_OF_RANGE: BAD,
  REQUEST_INVALID: BAD,
  JSON_INVALID: BAD,
  SAFETENSORS_INVALID: BAD,
  VALUE_NOT_FINITE: BAD,
  VALUE_OUT_OF_RANGE: BAD,
  // The server's own arrays.
  ARRAYS_CHANGED: INTERNAL,
  ROUTE_UNKNOWN: [404, GRPC.unimplemented],
  METHOD_NOT_ALLOWED: [405, GRPC.unimplemented],
  UNAUTHENTICATED: [401, GRPC.unauthenticated],
  ORIGIN_FORBIDDEN: [403, GRPC.permissionDenied],
  MODEL_UNKNOWN: [404, GRPC.notFound],
  MODEL_UNAVAILABLE: [503, GRPC.unavailable],
  ADMIN_FORBIDDEN: [403, GRPC.permissionDenied],
  LOAD_FAILED: CONFLICT,
  REPOSITORY_INVALID: CONFLICT,
  PATCH_INVALID: BAD,
  PATCH_GAP: CONFLICT,
  PATCH_CONFLICT: CONFLICT,
  OUTPUT_UNKNOWN: BAD,
  BODY_TOO_LARGE: [413, GRPC.resourceExhausted],
  CONTENT_UNSUPPORTED: [415, GRPC.unimplemented],
  OVERLOADED: [503, GRPC.resourceExhausted],
  OUT_OF_MEMORY: [503, GRPC.resourceExhausted],
  // Another server may have time for it.
  DEADLINE_UNMEETABLE: [503, GRPC.unavailable],
  DEADLINE_EXCEEDED: [504, GRPC.deadlineExceeded],
  SHUTTING_DOWN: [503, GRPC.unavailable],
  DISPOSED: [503, GRPC.unavailable],
  // The client is gone: nobody reads it.
  ABORTED: [499, GRPC.cancelled],
} as const satisfies Partial<Record<ErrorCode, Statuses>> &
  Record<
    RequestErrorCode | ServeErrorCode | Extract<FormatErrorCode, 'JSON_INVALID' | 'SAFETENSORS_INVALID'>,
    Statuses
  >;

const BY_CODE = new Map<string, Statuses>(Object.entries(STATUSES));

/** An answer that says what is wrong. */
export interface ErrorAnswer {
  readonly status: number;
  readonly grpcStatus: number;
  /** `INTERNAL` for what Hotrow did not throw on purpose. */
  readonly code: ErrorCode | 'INTERNAL';
  /** `CODE: message (hint)`. */
  readonly message: string;
  /** JSON: `error`, the message; `code`; `hint`. */
  readonly body: string;
  /** Header fields beside those of the body. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface ErrorContext {
  /** When a client may try again; sent in whole seconds, rounded up. */
  readonly retryAfterMs?: number;
  /** The methods of a path, for METHOD_NOT_ALLOWED. */
  readonly allow?: string;
}

/** The answer for what was thrown. Of errors that nobody threw on purpose it says nothing. */
export function errorAnswer(error: unknown, { retryAfterMs, allow }: ErrorContext = {}): ErrorAnswer {
  const known = error instanceof HotrowError ? error : undefined;
  const code = known?.code ?? 'INTERNAL';
  const hint = known?.hint ?? "the server's log says more";
  const message = `${code}: ${known?.message ?? 'the server failed'} (${hint})`;
  const [status, grpcStatus] = BY_CODE.get(code) ?? INTERNAL;
  return {
    status,
    grpcStatus,
    code,
    message,
    body: JSON.stringify({ error: message, code, hint }),
    headers: {
      ...(status === 503
        ? { 'retry-after': String(Math.max(1, Math.ceil((retryAfterMs ?? 1000) / 1000))) }
        : {}),
      ...(status === 401 ? { 'www-authenticate': 'Bearer realm="hotrow"' } : {}),
      ...(allow === undefined ? {} : { allow }),
    },
  };
}
