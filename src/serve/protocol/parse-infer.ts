/** From the body of an HTTP request to an inference request, in any of four forms (docs/serving-protocol.md). */
import { shown } from '../../checks/value.ts';
import { FormatError, RequestError, ServeError } from '../../errors.ts';
import { JsonFault, parseJson } from '../../formats/json-text.ts';
import { safetensorsIn } from '../../formats/safetensors.ts';
import { jsonSamples } from '../../model/request/json-request.ts';
import { parseSamples } from '../../model/request/json-samples.ts';
import type { InferParameters, InferRequest, TensorRequest } from './infer-request.ts';
import type { KnownHeads } from './known-heads.ts';
import { invalid, shortName } from './refuse.ts';
import { queryParameters } from './request-parameters.ts';
import { tensorRequest } from './tensor-request.ts';

/** What an HTTP request says of its body. */
export interface BodyHeaders {
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  /** Inference-Header-Content-Length: bytes of JSON before the tensors' bytes. */
  readonly jsonLength?: string | undefined;
  /** What stands behind `?`. */
  readonly query?: string;
}

/** Longer texts are for tensors as bytes. */
const MAX_JSON_BYTES = 64 << 20;

const SAFETENSORS = 'application/vnd.safetensors';
/** Others say that the body is something else; of these, the content tells what it is. curl sends the last. */
const CONTENT_TYPES: ReadonlySet<string> = new Set([
  SAFETENSORS,
  'application/json',
  'application/octet-stream',
  'application/jsonl',
  'application/x-ndjson',
  'text/plain',
  'application/x-www-form-urlencoded',
]);

/**
 * The request of a body: safetensors, JSON of the Open Inference Protocol with or without tensors behind it, or samples in
 * Hotrow's JSON or JSON Lines. Tensors in bytes stay where they are: the body must live as long as the request. `known`: JSON before
 * tensors that need not be read again.
 * @throws ServeError CONTENT_UNSUPPORTED, BODY_TOO_LARGE; FormatError JSON_INVALID, SAFETENSORS_INVALID; RequestError.
 */
export function parseInferRequest(
  body: Uint8Array,
  headers: BodyHeaders = {},
  known?: KnownHeads,
): InferRequest {
  const type = contentType(headers);
  const { jsonLength, query: asked = '' } = headers;
  if (jsonLength !== undefined) {
    const dataStart = lengthOfJson(jsonLength, body.length);
    const found = known?.find(body, dataStart, asked);
    if (found !== undefined) return found;
    const value = jsonOf(textOf(body.subarray(0, dataStart)));
    const request = tensorRequest(value, body, dataStart, queryParameters(asked));
    known?.remember(request, dataStart, asked);
    return request;
  }
  const query = queryParameters(asked);
  if (type === SAFETENSORS || looksLikeSafetensors(body)) return safetensorsRequest(body, query);
  return jsonRequest(textOf(body), body, query);
}

/** @throws ServeError CONTENT_UNSUPPORTED. */
function contentType({ contentType: given, contentEncoding: encoding }: BodyHeaders): string | undefined {
  if (encoding !== undefined && encoding !== '' && encoding.toLowerCase() !== 'identity')
    throw new ServeError('CONTENT_UNSUPPORTED', `the body is encoded: Content-Encoding ${shown(encoding)}`);
  if (given === undefined || given === '') return undefined;
  const end = given.indexOf(';');
  const type = (end < 0 ? given : given.slice(0, end)).trim().toLowerCase();
  if (CONTENT_TYPES.has(type)) return type;
  throw new ServeError('CONTENT_UNSUPPORTED', `the body is ${shown(type)}`);
}

function lengthOfJson(given: string, bodyBytes: number): number {
  const length = /^\d{1,15}$/.test(given) ? Number(given) : Number.NaN;
  if (length <= bodyBytes) return length;
  return invalid(`Inference-Header-Content-Length is ${shown(given)}, the body has ${bodyBytes} bytes`);
}

/** A length of less than 2^56, then JSON. No text of JSON has bytes of 0. */
function looksLikeSafetensors(body: Uint8Array): boolean {
  return body[8] === 0x7b && body[7] === 0;
}

function safetensorsRequest(body: Uint8Array, query: InferParameters): TensorRequest {
  const { tensors, metadata } = safetensorsIn(body, 'the body');
  return { ...query, body, tensors, metadata };
}

/** The protocol's form has `inputs`; samples have not. */
function jsonRequest(text: string, body: Uint8Array, query: InferParameters): InferRequest {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    // JSON Lines, or an error that names the line.
    if (cause instanceof JsonFault) return { ...query, samples: jsonSamples(text) };
    throw cause;
  }
  const isProtocol = typeof value === 'object' && value !== null && Object.hasOwn(value, 'inputs');
  return isProtocol
    ? tensorRequest(value, body, body.length, query)
    : { ...query, samples: parseSamples(value) };
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** @throws ServeError BODY_TOO_LARGE; FormatError JSON_INVALID. */
function textOf(bytes: Uint8Array): string {
  if (bytes.length > MAX_JSON_BYTES) {
    const message = `${bytes.length} bytes of JSON are more than ${MAX_JSON_BYTES >> 20} MiB`;
    throw new ServeError('BODY_TOO_LARGE', message, { hint: 'send tensors as bytes behind the JSON' });
  }
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new FormatError('JSON_INVALID', 'the text is not UTF-8', {
      cause,
      hint: 'JSON is written in UTF-8',
    });
  }
}

/** @throws FormatError JSON_INVALID; RequestError REQUEST_INVALID for a key that stands twice. */
function jsonOf(text: string): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    if (!(cause instanceof JsonFault)) throw cause;
    const { message, duplicate } = cause;
    if (duplicate !== undefined)
      throw new RequestError(
        'REQUEST_INVALID',
        `key ${shown(shortName(duplicate))} stands twice in one object`,
      );
    const hint = 'Inference-Header-Content-Length says how many bytes of the body are JSON';
    throw new FormatError('JSON_INVALID', message, { cause, hint });
  }
}
