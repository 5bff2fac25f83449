/** Requests in JSON and JSON Lines, gzipped or not: one sample, many, or a user and candidates. */
import { type FilePath, path } from '../../checks/value.ts';
import { FormatError, fromFile, HotrowError, RequestError } from '../../errors.ts';
import { openMaybeGzip } from '../../formats/gzip.ts';
import { JsonFault, parseJson } from '../../formats/json-text.ts';
import { modelInputs } from '../check-inputs.ts';
import type { ModelInputs } from '../inputs.ts';
import { bindRequest } from './bind-request.ts';
import { quoted } from './id-mapping.ts';
import { featureRequest } from './json-columns.ts';
import { type JsonSample, type JsonSamples, parseSample, parseSamples } from './json-samples.ts';
import type { DlrmRequest } from './request.ts';
import { partsByFeature } from './request-by-feature.ts';

/** Larger requests are for safetensors. */
const MAX_BYTES = 64 << 20;

/**
 * Reads a JSON or JSON Lines request, told apart by content; schemas/request-1.schema.json.
 * @throws UsageError FILE_*; FormatError JSON_INVALID, GZIP_*; RequestError naming file, sample or line, and place;
 *   WorkloadError VOCABULARY_INVALID.
 */
export async function readJsonRequest(given: FilePath, inputs: ModelInputs): Promise<DlrmRequest> {
  const file = path(given, 'readJsonRequest: file');
  const own = modelInputs(inputs, 'readJsonRequest: inputs');
  return fromFile(file, async () => jsonRequest(await readText(file), own));
}

/** The request that a text of JSON or JSON Lines holds. @throws as readJsonRequest. */
export async function jsonRequest(text: string, inputs: ModelInputs): Promise<DlrmRequest> {
  return samplesRequest(jsonSamples(text), inputs);
}

/** The request that samples make. @throws RequestError naming sample and place; WorkloadError VOCABULARY_INVALID. */
export async function samplesRequest(given: JsonSamples, inputs: ModelInputs): Promise<DlrmRequest> {
  const nameOf = (b: number) => given.samples[b]?.name ?? `sample ${b}`;
  return bindRequest(partsByFeature(inputs, featureRequest(given, inputs)), inputs, nameOf);
}

async function readText(file: string): Promise<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const pieces: string[] = [];
  let bytes = 0;
  try {
    for await (const chunk of openMaybeGzip(file)) {
      bytes += chunk.length;
      if (bytes > MAX_BYTES) {
        const hint = 'give large requests as safetensors, or in several files';
        throw new FormatError('JSON_INVALID', `a JSON request of more than ${MAX_BYTES >> 20} MiB`, { hint });
      }
      pieces.push(decoder.decode(chunk, { stream: true }));
    }
    pieces.push(decoder.decode());
  } catch (cause) {
    if (cause instanceof HotrowError) throw cause;
    throw new FormatError('JSON_INVALID', 'the text is not UTF-8', {
      cause,
      hint: 'JSON is written in UTF-8',
    });
  }
  return pieces.join('');
}

/** The samples that a text of JSON or JSON Lines holds. @throws FormatError JSON_INVALID; RequestError REQUEST_INVALID. */
export function jsonSamples(text: string): JsonSamples {
  const whole = parsed(text, 'the request');
  if (!(whole instanceof FormatError)) return parseSamples(whole);
  if (text.trim() === '')
    throw new FormatError('JSON_INVALID', 'it is empty', { hint: 'it holds no request' });
  const [first, second] = lines(text);
  // Not lines of JSON: the whole text's error says more.
  if (first === undefined || second === undefined) throw whole;
  if (parsed(first.line, '') instanceof FormatError) throw whole;
  return { samples: Array.from(lines(text), ({ line, number }, b) => parseLine(line, number, b)) };
}

/** The lines that are not blank. */
function* lines(text: string): Generator<{ readonly line: string; readonly number: number }> {
  for (let [at, number] = [0, 1]; at < text.length; number++) {
    const newline = text.indexOf('\n', at);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(at, end);
    if (line.trim() !== '') yield { line, number };
    at = end + 1;
  }
}

function parseLine(line: string, lineNumber: number, number: number): JsonSample {
  const name = `line ${lineNumber}`;
  const value = parsed(line, name);
  if (value instanceof FormatError) {
    const hint = 'each line of JSON Lines is one sample';
    throw new FormatError('JSON_INVALID', `${name}: ${value.message}`, { position: lineNumber, hint });
  }
  return parseSample(value, name, number);
}

/**
 * A text's value, or what is wrong with its form: it may be JSON Lines. `name` is what errors call it.
 * @throws RequestError REQUEST_INVALID for a key that stands twice; FormatError JSON_INVALID for a text without end.
 */
function parsed(text: string, name: string): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    if (!(cause instanceof JsonFault)) throw cause;
    const { message, duplicate } = cause;
    if (duplicate !== undefined)
      throw new RequestError(
        'REQUEST_INVALID',
        `${name}: key ${quoted(duplicate)} stands twice in one object`,
      );
    const hint = 'a request is one JSON value, or one sample a line';
    const error = new FormatError('JSON_INVALID', message, { cause, hint });
    if (cause.cause === undefined) throw error;
    return error;
  }
}
