/** Errors on their way from thread to thread. */
import {
  DeviceError,
  FormatError,
  HotrowError,
  ModelError,
  PlanError,
  RequestError,
  ServeError,
  UsageError,
  WorkloadError,
} from '../../errors.ts';

/** An error as threads send it: structured cloning would keep its text alone. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly stack?: string | undefined;
}

const CLASSES = {
  DeviceError,
  FormatError,
  ModelError,
  PlanError,
  RequestError,
  ServeError,
  UsageError,
  WorkloadError,
} as const;

export function sentError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const { name, message, stack } = error;
  return error instanceof HotrowError
    ? { name, message, code: error.code, hint: error.hint, stack }
    : { name, message, stack };
}

/** The error again, of its own class where Hotrow threw it. */
export function receivedError({ name, message, code, hint, stack }: SentError): Error {
  const Known = (CLASSES as Readonly<Record<string, new (...args: never[]) => HotrowError>>)[name];
  const error =
    Known === undefined || code === undefined
      ? Object.assign(new Error(message), { name })
      : new Known(...([code, message, { hint }] as never[]));
  if (stack !== undefined) error.stack = stack;
  return error;
}
