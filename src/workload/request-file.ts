/** Requests from files of every kind that is scored; the contents tell the kind. */
import { type FilePath, flag, membersOf, oneOf, optional, path, whole } from '../checks/value.ts';
import { UsageError } from '../errors.ts';
import { CRITEO_CATEGORIES, CRITEO_NUMBERS } from '../formats/criteo-columns.ts';
import { expectKind } from '../formats/file-kind.ts';
import { withPlainFile } from '../formats/gzip.ts';
import { inputsOf, type ModelArchitecture } from '../model/architecture.ts';
import { requestedModel } from '../model/check-model.ts';
import { type ModelInputs, PREPROCESSING, type Preprocessing } from '../model/inputs.ts';
import { readJsonRequest } from '../model/request/json-request.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { readRequest } from '../model/request/safetensors-request.ts';
import { readCriteo, readDescribedCriteo } from './criteo.ts';
import { MAX_INDEX } from './index-values.ts';

/** What Criteo rows leave open. */
export interface CategoryOptions {
  /** A vocabulary's file, and the row of categories that it lacks. */
  readonly vocabulary?: string;
  readonly unknownRow?: number;
  /** Categories by hashing to the tables' rows, instead of a vocabulary. */
  readonly hash?: boolean;
  /** Default: what the model's description says, else what the code base whose parameter names it has trains on. */
  readonly preprocessing?: Preprocessing;
}

export interface RequestFileOptions extends CategoryOptions {
  /** Rows of Criteo to read at most. */
  readonly limit?: number;
}

export interface RequestFile {
  readonly request: DlrmRequest;
  /** [B], 0 or 1, where the file has them: of Criteo rows. */
  readonly labels?: Float32Array;
  /** What was assumed of raw values, for people. */
  readonly notes: readonly string[];
}

/** What of a model says how its requests are read. */
type RequestedModel = Pick<ModelArchitecture, 'naming' | 'tables' | 'denseFeatures' | 'inputs'>;

/** What raw requests become, by member. */
export const CATEGORY_MEMBERS = {
  vocabulary: optional(path),
  unknownRow: optional(whole(0, MAX_INDEX)),
  hash: optional(flag),
  preprocessing: optional(oneOf(PREPROCESSING)),
};
const OPTIONS = membersOf<RequestFileOptions>({ ...CATEGORY_MEMBERS, limit: optional(whole()) });

/**
 * Reads a request: safetensors, JSON, JSON Lines, or Criteo rows.
 * @throws UsageError FILE_*, USAGE where nothing says which rows categories are; FormatError, FORMAT_UNKNOWN naming what the
 * file is instead; RequestError; WorkloadError.
 */
export async function readRequestFile(
  given: FilePath,
  of: RequestedModel,
  categories: RequestFileOptions = {},
): Promise<RequestFile> {
  const file = path(given, 'readRequestFile: file');
  const model = requestedModel(of, 'readRequestFile: model');
  const options = OPTIONS(categories, 'readRequestFile');
  const { kind } = await expectKind(file, 'request');
  switch (kind) {
    case 'criteo':
    case 'table':
      return criteoRequest(file, model, options);
    case 'json':
    case 'json-lines':
    case 'json-request':
      return { request: await readJsonRequest(file, inputsOf(model)), notes: [] };
    default:
      return {
        request: await withPlainFile(file, false, (path) => readRequest(path, inputsOf(model))),
        notes: [],
      };
  }
}

async function criteoRequest(
  file: string,
  model: RequestedModel,
  { vocabulary, unknownRow, hash = false, preprocessing: chosen, limit }: RequestFileOptions,
): Promise<RequestFile> {
  const asked = vocabulary !== undefined || hash || chosen !== undefined;
  if (!asked && model.inputs !== undefined && describesCriteo(model.inputs)) {
    const rows = await readDescribedCriteo(file, model.inputs, limit === undefined ? {} : { limit });
    return { ...rows, notes: [`note: rows of ${file} are read as the model's description says`] };
  }
  const { preprocessing, reason } =
    chosen === undefined ? criteoPreprocessing(model) : { preprocessing: chosen, reason: 'as asked for' };
  const notes = [`note: numbers of ${file} become ${preprocessing}, ${reason}`];
  const rows = { preprocessing, ...(limit === undefined ? {} : { limit }) };
  if (vocabulary !== undefined) {
    const unknown = unknownRow === undefined ? {} : { unknownRow };
    return { ...(await readCriteo(file, { vocabulary, ...unknown, ...rows })), notes };
  }
  if (!hash) {
    throw new UsageError('USAGE', `${file} holds category strings, and nothing says which rows they are`, {
      file,
      hint: 'pass --vocabulary FILE, or --hash if the model was trained on hashed categories, or let the model description say the ids of its features',
    });
  }
  const tableRows = model.tables.map((table) => table.rows);
  const hexadecimal = model.naming === 'torchrec' ? 'int32' : 'unsigned';
  return { ...(await readCriteo(file, { tableRows, hexadecimal, ...rows })), notes };
}

/** Whether a model's description says what every column of Criteo's becomes. */
function describesCriteo({ features, dense }: ModelInputs): boolean {
  return (
    features.length === CRITEO_CATEGORIES &&
    dense.length === CRITEO_NUMBERS &&
    features.every(({ ids }) => ids.kind !== 'rows') &&
    dense.every(({ preprocessing }) => preprocessing !== undefined)
  );
}

/** What Criteo's numbers become for a model, and for people why. */
function criteoPreprocessing({ naming, inputs }: RequestedModel): {
  readonly preprocessing: Preprocessing;
  readonly reason: string;
} {
  const described = new Set(inputs?.dense.flatMap(({ preprocessing }) => preprocessing ?? []));
  const [first] = described;
  if (described.size > 1) {
    throw new UsageError(
      'USAGE',
      `the model's numbers are not all preprocessed alike: ${[...described].join(', ')}`,
      {
        hint: 'pass --dense, or make a request in JSON, whose numbers are preprocessed one by one',
      },
    );
  }
  if (first !== undefined) return { preprocessing: first, reason: "as the model's description says" };
  return naming === 'torchrec'
    ? { preprocessing: 'log(x + 3)', reason: 'as TorchRec trains on them; --dense chooses otherwise' }
    : {
        preprocessing: 'log(1 + max(x, 0))',
        reason: 'as facebookresearch/dlrm trains on them; --dense chooses otherwise',
      };
}
