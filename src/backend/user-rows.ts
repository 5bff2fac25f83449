/**
 * Where the pooled rows of users go. Tables whose bags are per user are pooled into a matrix of their own, [U, width], and then
 * its rows are copied to those of the output: to the candidates of each user.
 */
import { at } from '../at.ts';
import { type BagBatch, type EmbeddingTable, userCount } from '../embedding/bag.ts';

/** Columns [from, from + columns) of the users' rows, which become columns [to, to + columns) of the output. */
export interface ColumnSpan {
  readonly from: number;
  readonly to: number;
  readonly columns: number;
}

export interface UserRows {
  /** [U + 1]: the candidates of user u are the rows [starts[u], starts[u + 1]) of the output. */
  readonly starts: Int32Array;
  /** U. */
  readonly count: number;
  /** Elements of a user's row: the dims of the tables with a bag per user. */
  readonly width: number;
  /** By table: its first column, in the users' rows if its bags are per user, else in the output. */
  readonly columns: readonly number[];
  /** As few as there can be: tables side by side are one. */
  readonly spans: readonly ColumnSpan[];
}

/** Undefined: no table has a bag per user. */
export function userRows(
  batch: BagBatch,
  tables: readonly Pick<EmbeddingTable, 'dim'>[],
): UserRows | undefined {
  const { bags, users } = batch;
  if (users === undefined || !bags.some(({ perUser }) => perUser === true)) return undefined;
  const columns: number[] = [];
  const spans: { from: number; to: number; columns: number }[] = [];
  let width = 0;
  let to = 0;
  bags.forEach(({ perUser }, t) => {
    const { dim } = at(tables, t);
    if (perUser === true) {
      const last = spans.at(-1);
      if (last !== undefined && last.to + last.columns === to) last.columns += dim;
      else spans.push({ from: width, to, columns: dim });
      columns.push(width);
      width += dim;
    } else columns.push(to);
    to += dim;
  });
  return { starts: users, count: userCount(batch), width, columns, spans };
}

/** The user of each sample, int32 [B]. */
export function usersOf({ starts, count }: UserRows): Int32Array {
  const users = new Int32Array(new ArrayBuffer((starts[count] as number) * Int32Array.BYTES_PER_ELEMENT));
  for (let u = 0; u < count; u++) users.fill(u, starts[u], starts[u + 1]);
  return users;
}
