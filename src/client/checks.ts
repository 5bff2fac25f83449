/** What a caller of the client gives is checked before anything is sent; whatever fails is told as an error that callers know. */
import { ClientError, HotrowError, UsageError } from '../errors.ts';

/** @throws UsageError OPTION_INVALID. */
export function checkTimeout(timeoutMs: number | undefined): void {
  if (timeoutMs === undefined || (timeoutMs > 0 && timeoutMs <= 2 ** 31 - 1)) return;
  throw new UsageError(
    'OPTION_INVALID',
    `timeoutMs is ${timeoutMs}, must be more than 0 and at most 2^31 - 1`,
  );
}

/** Has what fails in `work` told as an error that callers know. */
export function withErrors<T>(told: (cause: Error) => HotrowError, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof HotrowError ? error : told(error as Error);
  }
}

export function noRequest(cause: Error): UsageError {
  return new UsageError('OPTION_INVALID', `what is given is no request: ${cause.message}`, { cause });
}

export function noAnswer(cause: Error): ClientError {
  return new ClientError('SERVER_ANSWER_INVALID', `the answer cannot be read: ${cause.message}`, { cause });
}

/** @throws UsageError OPTION_INVALID, which names the field and never its value: it may be a token. */
export function checkHeaders(headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      new Headers([[name, value]]);
    } catch {
      throw new UsageError(
        'OPTION_INVALID',
        `a request cannot have the field ${JSON.stringify(name)} as it is given`,
        {
          hint: 'names and values of fields are ASCII, and have no line breaks',
        },
      );
    }
  }
}
