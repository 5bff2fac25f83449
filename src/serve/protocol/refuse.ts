/** Refusals of what does not follow the protocol. */
import { type ErrorDetails, RequestError } from '../../errors.ts';

/** @throws RequestError REQUEST_INVALID. */
export function invalid(message: string, details: ErrorDetails = {}): never {
  throw new RequestError('REQUEST_INVALID', message, { hint: PROTOCOL_HINT, ...details });
}

const PROTOCOL_HINT = 'docs/serving-protocol.md shows every form of a request';

/** A value of JSON that must be an object; `undefined` is an empty one. @throws RequestError REQUEST_INVALID. */
export function objectOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (value === undefined) return {};
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  return invalid(`${what} is not an object`);
}

/** A value of JSON that must be a list. @throws RequestError REQUEST_INVALID. */
export function listOf(value: unknown, what: string): readonly unknown[] {
  return Array.isArray(value) ? value : invalid(`${what} is not a list`);
}

/** A name as a message gives it, however long it is. */
export function shortName(name: string): string {
  return name.length <= 60 ? name : `${name.slice(0, 60)}…`;
}
