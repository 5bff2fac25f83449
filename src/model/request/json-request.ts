/** Requests in JSON and JSON Lines, gzipped or not: one sample, many, or a user and candidates. */
import { path } from '../../checks/value.ts';
import { FormatError, fromFile, HotrowError, RequestError } from '../../errors.ts';
import { openMaybeGzip } from '../../formats/gzip.ts';
import { findDuplicateKey } from '../../formats/json-keys.ts';
import { modelInputs } from '../check-inputs.ts';
import type { ModelInputs } from '../inputs.ts';
import { bindRequest } from './bind-request.ts';
import { partsByFeature } from './feature-request.ts';
import { quoted } from './id-mapping.ts';
import { featureRequest } from './json-columns.ts';
import { type JsonSample, type JsonSamples, parseSample, parseSamples } from './json-samples.ts';
import type { DlrmRequest } from './request.ts';

/** Larger requests are for safetensors. */
const MAX_BYTES = 256 << 20;

/**
 * Reads a JSON or JSON Lines request, told apart by content; schemas/request-1.schema.json.
 * @throws UsageError FILE_*; FormatError JSON_INVALID, GZIP_*; RequestError naming file, sample or line, and place;
 *   WorkloadError VOCABULARY_INVALID.
 */
export async function readJsonRequest(given: string, inputs: ModelInputs): Promise<DlrmRequest> {
  const file = path(given, 'readJsonRequest: file');
  const own = modelInputs(inputs, 'readJsonRequest: inputs');
  return fromFile(file, async () => jsonRequest(await readText(file), own));
}

/** The request that a text of JSON or JSON Lines holds. @throws as readJsonRequest. */
export async function jsonRequest(text: string, inputs: ModelInputs): Promise<DlrmRequest> {
  return samplesRequest(parseText(text), inputs);
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

function parseText(text: string): JsonSamples {
  const whole = parsed(text);
  if (!(whole instanceof FormatError)) {
    refuseDuplicates(text, 'the request');
    return parseSamples(whole);
  }
  const lines = text
    .split('\n')
    .flatMap((line, at) => (line.trim() === '' ? [] : [{ line, number: at + 1 }]));
  const [first] = lines;
  if (first === undefined)
    throw new FormatError('JSON_INVALID', 'it is empty', { hint: 'it holds no request' });
  if (lines.length === 1 || parsed(first.line) instanceof FormatError) throw whole;
  return { samples: lines.map(({ line, number }, b) => parseLine(line, number, b)) };
}

function parseLine(line: string, lineNumber: number, number: number): JsonSample {
  const name = `line ${lineNumber}`;
  const value = parsed(line);
  if (value instanceof FormatError) {
    const hint = 'each line of JSON Lines is one sample';
    throw new FormatError('JSON_INVALID', `${name}: ${value.message}`, { position: lineNumber, hint });
  }
  refuseDuplicates(line, name);
  return parseSample(value, name, number);
}

/** A text's value, or what is wrong with it. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { message } = cause as Error;
    const hint = 'a request is one JSON value, or one sample a line';
    return new FormatError('JSON_INVALID', message.slice(0, 200), { cause, hint });
  }
}

function refuseDuplicates(json: string, name: string): void {
  const twice = findDuplicateKey(json);
  if (twice !== undefined)
    throw new RequestError('REQUEST_INVALID', `${name}: key ${quoted(twice)} stands twice in one object`);
}
