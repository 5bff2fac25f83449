/** Requests of users with candidates: what is known of a user once, what is known of each candidate, merged into one request. */

import { allocated } from '../../checks/arguments.ts';
import { isArrayOf, plainArray } from '../../checks/array.ts';
import {
  type Check,
  isList,
  membersOf,
  optional,
  reading,
  record,
  refuseOption,
  someOf,
  whole,
} from '../../checks/value.ts';
import { type Bags, type EmbeddingTable, userCount } from '../../embedding/bag.ts';
import { checkBatchSize, checkUsers } from '../../embedding/check-bags.ts';
import { checkTables } from '../../embedding/check-tables.ts';
import { RequestError } from '../../errors.ts';
import type { ModelArchitecture } from '../architecture.ts';
import { MODEL_MEMBERS } from '../check-model.ts';
import { tableNumber } from '../table-number.ts';
import type { DlrmRequest } from './request.ts';

/** Bags by table: by its number or its name; or one entry per table, undefined where the other part has it. */
export type TableBags = ReadonlyMap<number | string, Bags> | readonly (Bags | undefined)[];

/** What is known of users. */
export interface UserPart {
  /** [U, Fu]: the first of the model's dense features. Default: none, Fu = 0. */
  readonly dense?: Float32Array;
  /** Of each of the tables, a bag per user: offsets [U] or [U + 1]. */
  readonly bags: TableBags;
}

/** What is known of candidates. */
export interface CandidatePart {
  /** B. */
  readonly batchSize: number;
  /** [B, denseFeatures]: the rest of the model's dense features, behind the user's. */
  readonly dense: Float32Array;
  readonly denseFeatures: number;
  /** Of each of the other tables, a bag per candidate: offsets [B] or [B + 1]. */
  readonly bags: TableBags;
  /** [U + 1], from 0 to B: the candidates of user u are [users[u], users[u + 1]). Default: one user has all of them. */
  readonly users?: Int32Array;
}

const MODEL = someOf<Pick<ModelArchitecture, 'tables' | 'denseFeatures'>>({
  tables: checkTables,
  denseFeatures: MODEL_MEMBERS.denseFeatures,
});

/** The bags of a part, by number or name of their tables. */
const tableBags: Check<readonly (readonly [number | string, Bags | undefined])[]> = (value, at) => {
  if (isList(value))
    return reading(at, () => Array.from(value, (own, t) => [t, bagsOf(own, `${at}[${t}]`)] as const));
  const entries = reading(at, () =>
    value instanceof Map ? [...Map.prototype.entries.call(value)] : undefined,
  );
  if (entries === undefined) return refuseOption(at, value, 'a list or a Map of bags');
  return entries.map(([key, own]: [unknown, unknown]) =>
    typeof key === 'number' || typeof key === 'string'
      ? ([key, bagsOf(own, `${at}: ${key}`)] as const)
      : refuseOption(at, key, 'the number or the name of a table'),
  );
};

/** Bags of a table, read once. */
function bagsOf(value: unknown, at: string): Bags | undefined {
  if (value === undefined) return undefined;
  const given = record(value, at);
  return reading(at, () => ({ ...given })) as unknown as Bags;
}

/** float32, or what mergeDense refuses. */
const dense: Check<Float32Array> = (value, at) =>
  reading(at, () => (isArrayOf(value, 'Float32Array') ? plainArray(value) : (value as Float32Array)));

/** What checkUsers takes. */
const given: Check<Int32Array> = (value) => value as Int32Array;

interface CheckedPart {
  readonly bags: ReturnType<typeof tableBags>;
}

const USER = membersOf<Omit<UserPart, 'bags'> & CheckedPart>({ dense: optional(dense), bags: tableBags });
const CANDIDATES = membersOf<Omit<CandidatePart, 'bags'> & CheckedPart>({
  batchSize: (value) => checkBatchSize(value),
  dense,
  denseFeatures: whole(),
  bags: tableBags,
  users: optional(given),
});

/**
 * One request for all candidates, in which users' bags stand once. `dense` is made anew, all other arrays are the given ones.
 * @throws RequestError TABLE_MISSING, TABLE_UNEXPECTED for a table that is not given exactly once; TENSOR_DTYPE, TENSOR_SHAPE
 * for dense features that do not fit; USERS_INVALID. UsageError OPTION_INVALID. Bags are checked when the request runs.
 */
export function scoreRequest(
  architecture: Pick<ModelArchitecture, 'tables' | 'denseFeatures'>,
  userPart: UserPart,
  candidatePart: CandidatePart,
): DlrmRequest {
  const { tables, denseFeatures } = MODEL(architecture, 'scoreRequest: architecture');
  const user = USER(userPart, 'user');
  const candidates = CANDIDATES(candidatePart, 'candidates');
  const { batchSize } = candidates;
  const users = checkUsers({ users: candidates.users ?? Int32Array.of(0, batchSize), batchSize });
  const ofUsers = byTable(user.bags, tables, 'the user');
  const ofCandidates = byTable(candidates.bags, tables, 'the candidates');
  const bags = tables.map((table, t): Bags => {
    const [own, other] = [ofUsers[t], ofCandidates[t]];
    if (own !== undefined && other !== undefined)
      throw tableError('TABLE_UNEXPECTED', table, t, 'is given by the user and by the candidates');
    if (own !== undefined) return { ...own, perUser: true };
    if (other !== undefined) return other;
    throw tableError('TABLE_MISSING', table, t, 'is given neither by the user nor by the candidates');
  });
  return { batchSize, denseFeatures, dense: mergeDense(denseFeatures, user, candidates, users), bags, users };
}

function tableError(
  code: 'TABLE_MISSING' | 'TABLE_UNEXPECTED',
  { name }: EmbeddingTable,
  table: number,
  what: string,
): RequestError {
  return new RequestError(code, `table ${table} (${name}) ${what}`, { table, hint: TABLES_HINT });
}

const TABLES_HINT =
  'each table has its bags in the user part or in the candidates’ part, by its number or its name';

/** A part's bags in the order of the tables. @throws RequestError TABLE_UNEXPECTED. */
function byTable(
  entries: CheckedPart['bags'],
  tables: readonly EmbeddingTable[],
  part: string,
): readonly (Bags | undefined)[] {
  const bags: (Bags | undefined)[] = tables.map(() => undefined);
  for (const [key, own] of entries) {
    if (own === undefined) continue;
    const t = typeof key === 'number' ? key : tableNumber(key, tables);
    const table = tables[t];
    if (table === undefined) {
      const named = typeof key === 'number' ? `table ${key}` : `a table named ${key}`;
      const message = `${part} brought bags for ${named}, which the model does not have`;
      throw new RequestError('TABLE_UNEXPECTED', message, { value: key, hint: TABLES_HINT });
    }
    if (bags[t] !== undefined) throw tableError('TABLE_UNEXPECTED', table, t, `is given twice by ${part}`);
    bags[t] = own;
  }
  return bags;
}

/** [B, denseFeatures]: in each row the user's features, then the candidate's. */
function mergeDense(
  denseFeatures: number,
  { dense: ofUsers = new Float32Array() }: Pick<UserPart, 'dense'>,
  { batchSize, dense: own, denseFeatures: ownFeatures }: Omit<CandidatePart, 'bags'>,
  users: Int32Array,
): Float32Array {
  if (!isArrayOf(ofUsers, 'Float32Array'))
    throw denseError('TENSOR_DTYPE', 'the user’s dense features must be float32');
  if (!isArrayOf(own, 'Float32Array'))
    throw denseError('TENSOR_DTYPE', 'the candidates’ dense features must be float32');
  const userFeatures = denseFeatures - ownFeatures;
  if (!(ownFeatures >= 0 && userFeatures >= 0)) {
    const message = `the candidates have ${ownFeatures} dense features, the model takes ${denseFeatures} with the user’s`;
    throw denseError('TENSOR_SHAPE', message);
  }
  if (own.length !== batchSize * ownFeatures) {
    const message = `the candidates’ dense features are ${own.length} elements, expected [${batchSize}, ${ownFeatures}]`;
    throw denseError('TENSOR_SHAPE', message);
  }
  const count = userCount({ users });
  if (ofUsers.length !== count * userFeatures) {
    const message = `the user’s dense features are ${ofUsers.length} elements, expected [${count}, ${userFeatures}]`;
    throw denseError('TENSOR_SHAPE', message);
  }
  const dense = allocated('dense features', () => new Float32Array(batchSize * denseFeatures));
  for (let u = 0; u < count; u++) {
    const end = users[u + 1] as number;
    for (let b = users[u] as number; b < end; b++) {
      const row = b * denseFeatures;
      for (let f = 0; f < userFeatures; f++) dense[row + f] = ofUsers[u * userFeatures + f] as number;
      for (let f = 0; f < ownFeatures; f++)
        dense[row + userFeatures + f] = own[b * ownFeatures + f] as number;
    }
  }
  return dense;
}

function denseError(code: 'TENSOR_DTYPE' | 'TENSOR_SHAPE', message: string): RequestError {
  return new RequestError(code, message, { tensor: 'dense' });
}
