/** Which table of a model a caller means. */

import { shown } from '../checks/value.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { RequestError } from '../errors.ts';

/** The number of the table of that name; -1: there is none. @throws RequestError TABLE_UNEXPECTED where several have it. */
export function tableNumber(name: string, tables: readonly EmbeddingTable[]): number {
  const first = tables.findIndex((table) => table.name === name);
  const last = tables.findLastIndex((table) => table.name === name);
  if (first === last) return first;
  const message = `tables ${first} and ${last} are both named ${name}`;
  throw new RequestError('TABLE_UNEXPECTED', message, { value: name, hint: 'name them by their numbers' });
}

/** The number of the table that a caller names, or numbers. @throws RequestError TABLE_UNEXPECTED. */
export function tableOf(table: unknown, tables: readonly EmbeddingTable[]): number {
  const number = typeof table === 'string' ? tableNumber(table, tables) : table;
  if (typeof number === 'number' && tables[number] !== undefined) return number;
  const message = `${shown(table)} is none of the ${tables.length} tables`;
  throw new RequestError('TABLE_UNEXPECTED', message, {
    hint: 'give the name of a table, or its number from 0 on',
  });
}
