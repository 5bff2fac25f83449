/** Results files, checked against their schemas before anything is made of them. */
import type { TSchema } from 'typebox';
import Value from 'typebox/value';
import { type BenchResults, RESULTS_VERSION, resultsSchema } from '../bench/results.ts';
import {
  CHARACTERIZE_VERSION,
  type Characterization,
  characterizationSchema,
} from '../characterize/results.ts';
import { plainData } from '../checks/arguments.ts';
import { type FilePath, path, shown } from '../checks/value.ts';
import { FormatError, fromFile } from '../errors.ts';
import { EVALUATE_VERSION, type EvaluateResults, evaluateSchema } from '../evaluate/results.ts';
import { readJsonFile } from '../formats/json-file.ts';
import { LOAD_VERSION, type LoadResults, loadSchema } from '../load/results.ts';

/** What a report is made of: benchmark results, characterizations, loads of servers and evaluations. */
export type Results = BenchResults | Characterization | LoadResults | EvaluateResults;

const KINDS: Readonly<Record<Results['kind'], { readonly version: number; readonly schema: TSchema }>> = {
  bench: { version: RESULTS_VERSION, schema: resultsSchema },
  characterize: { version: CHARACTERIZE_VERSION, schema: characterizationSchema },
  load: { version: LOAD_VERSION, schema: loadSchema },
  evaluate: { version: EVALUATE_VERSION, schema: evaluateSchema },
};

/**
 * Checks that `value` is results of one of these kinds.
 * @throws FormatError RESULTS_INVALID naming the member that is wrong; FORMAT_UNKNOWN for another kind or version.
 */
export function parseResults(given: unknown): Results {
  const value = plainData(given);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FormatError('RESULTS_INVALID', 'results are a JSON object');
  const { kind, version } = value as { readonly kind?: unknown; readonly version?: unknown };
  const hint = 'results come from `hotrow bench`, `characterize`, `load` and `evaluate` with `--json FILE`';
  if (typeof kind !== 'string' || !Object.hasOwn(KINDS, kind)) {
    throw new FormatError(
      'FORMAT_UNKNOWN',
      `kind ${kind === undefined ? 'is missing and' : shown(kind)} is none of ${Object.keys(KINDS).join(', ')}`,
      { hint },
    );
  }
  const known = KINDS[kind as Results['kind']];
  if (version !== known.version) {
    throw new FormatError(
      'FORMAT_UNKNOWN',
      `${kind} results of version ${version === undefined ? 'unknown' : shown(version)}, this Hotrow reads version ${known.version}`,
      { hint: 'use the Hotrow that wrote them, or record them again' },
    );
  }
  if (!Value.Check(known.schema, value)) {
    const [first] = Value.Errors(known.schema, value);
    // Objects allow no other members: typebox calls their schema false.
    const message = first?.keyword === 'boolean' ? 'is not a member of these results' : first?.message;
    throw new FormatError('RESULTS_INVALID', `${first?.instancePath || '/'} ${message}`);
  }
  return value as Results;
}

/** Reads one results file. @throws UsageError, FormatError, each naming the file. */
export async function readResults(given: FilePath): Promise<Results> {
  const file = path(given, 'readResults: file');
  const value = await readJsonFile(file, 'results');
  return fromFile(file, async () => parseResults(value));
}
