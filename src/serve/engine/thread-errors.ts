/** Errors on their way from thread to thread. */
import {
  AbortError,
  ClientError,
  DeviceError,
  FormatError,
  HotrowError,
  ModelError,
  PlanError,
  RequestError,
  ServeError,
  ServerError,
  UsageError,
  WorkloadError,
} from '../../errors.ts';

/** An error as threads send it: structured cloning would keep its text alone. */
export interface SentError {
  /** The class of Hotrow's that it is, or comes from. */
  readonly kind?: keyof typeof CLASSES;
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly stack?: string | undefined;
}

const CLASSES = {
  AbortError,
  ClientError,
  DeviceError,
  FormatError,
  ModelError,
  PlanError,
  RequestError,
  ServeError,
  ServerError,
  UsageError,
  WorkloadError,
} as const;
const KINDS = Object.keys(CLASSES) as (keyof typeof CLASSES)[];

export function sentError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const { name, message, stack } = error;
  if (!(error instanceof HotrowError)) return { name, message, stack };
  const { code, hint } = error;
  const kind = KINDS.find((known) => error instanceof CLASSES[known]);
  return { ...(kind && { kind }), name, message, code, hint, stack };
}

/** The error again, of its own class where Hotrow threw it: text and hint as they were, without details and cause. */
export function receivedError({ kind, name, message, code, hint, stack }: SentError): Error {
  const error =
    kind === undefined || code === undefined
      ? new Error(message)
      : new (CLASSES[kind] as new (...args: never[]) => HotrowError)(
          ...([code, message, { hint }] as never[]),
        );
  // A log in the message keeps its lines.
  Object.assign(error, { name, message });
  if (stack !== undefined) error.stack = stack;
  return error;
}
