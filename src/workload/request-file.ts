/** Requests from files of every kind that is scored; the contents tell the kind. */
import { FormatError, UsageError } from '../errors.ts';
import { expectKind } from '../formats/file-kind.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import type { Preprocessing } from '../model/inputs.ts';
import { type DlrmRequest, readRequest } from '../model/request.ts';
import { readCriteo } from './criteo.ts';

/** What Criteo rows leave open. */
export interface RequestFileOptions {
  /** A vocabulary's file, and the row of categories that it lacks. */
  readonly vocabulary?: string;
  readonly unknownRow?: number;
  /** Categories by hashing to the tables' rows, instead of a vocabulary. */
  readonly hash?: boolean;
  /** Default: what the code base whose parameter names the model has trains on. */
  readonly preprocessing?: Preprocessing;
  /** Rows to read at most. */
  readonly limit?: number;
}

export interface RequestFile {
  readonly request: DlrmRequest;
  /** What was assumed of raw values, for people. */
  readonly notes: readonly string[];
}

/**
 * Reads a request: safetensors, or Criteo rows.
 * @throws UsageError FILE_*, USAGE where nothing says which rows categories are; FormatError, FORMAT_UNKNOWN naming what the
 * file is instead; RequestError; WorkloadError.
 */
export async function readRequestFile(
  file: string,
  architecture: Pick<DlrmArchitecture, 'naming' | 'tables'>,
  options: RequestFileOptions = {},
): Promise<RequestFile> {
  const { kind } = await expectKind(file, 'request');
  switch (kind) {
    case 'criteo':
    case 'table':
      return criteoRequest(file, architecture, options);
    case 'json':
    case 'json-lines':
    case 'json-request':
      throw new FormatError(
        'FORMAT_UNKNOWN',
        `${file} is JSON, which this version does not read as a request`,
        {
          file,
          hint: 'write it as safetensors: dense, indices.{t} and offsets.{t}',
        },
      );
    default:
      return { request: await readRequest(file), notes: [] };
  }
}

async function criteoRequest(
  file: string,
  { naming, tables }: Pick<DlrmArchitecture, 'naming' | 'tables'>,
  { vocabulary, unknownRow, hash = false, preprocessing: chosen, limit }: RequestFileOptions,
): Promise<RequestFile> {
  const isTorchrec = naming === 'torchrec';
  const preprocessing = chosen ?? (isTorchrec ? 'log(x + 3)' : 'log(1 + max(x, 0))');
  const trainer = isTorchrec ? 'TorchRec' : 'facebookresearch/dlrm';
  const reason = chosen === undefined ? `, as ${trainer} trains on them; --dense chooses otherwise` : '';
  const notes = [`note: numbers of ${file} become ${preprocessing}${reason}`];
  const rows = { preprocessing, ...(limit === undefined ? {} : { limit }) };
  if (vocabulary !== undefined) {
    const unknown = unknownRow === undefined ? {} : { unknownRow };
    return { request: (await readCriteo(file, { vocabulary, ...unknown, ...rows })).request, notes };
  }
  if (!hash) {
    throw new UsageError('USAGE', `${file} holds category strings, and nothing says which rows they are`, {
      hint: 'pass --vocabulary FILE, or --hash if the model was trained on hashed categories',
    });
  }
  const tableRows = tables.map((table) => table.rows);
  const hexadecimal = isTorchrec ? 'int32' : 'unsigned';
  return { request: (await readCriteo(file, { tableRows, hexadecimal, ...rows })).request, notes };
}
