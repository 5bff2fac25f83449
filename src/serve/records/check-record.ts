/** Records checked before they are merged, so that a bad request is answered alone. */
import { type BagFault, bagFaultError } from '../../embedding/bag.ts';
import { RequestError, type RequestErrorCode } from '../../errors.ts';
import type { HostPtr } from '../../ffi/host-memory.ts';
import type { RecordFault } from '../../ffi/merge-requests.ts';
import type { RecordModel } from './record-model.ts';

const ROWS_HINT = 'indices are rows of the table; check that the request was made for this model';
const OFFSETS_HINT = 'offsets are running sums of the bag lengths, from 0';

/**
 * Checks the record in a slot of `bytes` bytes; whatever they are, nothing outside the slot is read. What is wrong, the first of it;
 * undefined: nothing, and the record can be merged.
 */
export function checkRecord(model: RecordModel, slot: HostPtr, bytes: number): RequestError | undefined {
  const fault = model.native.check(slot, bytes);
  return fault === undefined ? undefined : recordFaultError(model, fault);
}

/** The error that names a fault. */
export function recordFaultError(model: Pick<RecordModel, 'tables'>, fault: RecordFault): RequestError {
  const { kind, table, position, value, limit } = fault;
  const name = model.tables[table]?.name ?? '';
  const inTable = (code: RequestErrorCode, what: string, text: string) =>
    new RequestError(code, `table ${table} (${name}): ${text}`, {
      table,
      tensor: `${what}.${table}`,
      value,
      ...(position < 0 ? {} : { position }),
    });
  const ofUsers = (text: string) =>
    new RequestError('USERS_INVALID', `users[${position}] = ${value}${text}`, {
      tensor: 'users',
      position,
      value,
    });
  switch (kind) {
    case 'index-out-of-range':
      return ofBags(name, { kind, table, position, value, limit }, ROWS_HINT);
    case 'first-offset-not-zero':
    case 'offsets-decrease':
    case 'offset-past-end':
      return ofBags(name, { kind, table, position, value, limit }, OFFSETS_HINT);
    case 'length-out-of-range':
      return inTable('LENGTHS_INVALID', 'lengths', `lengths[${position}] = ${value}, of ${limit} lookups`);
    case 'lengths-sum':
      return inTable(
        'LENGTHS_INVALID',
        'lengths',
        `lengths add up to ${value}, and there are ${limit} lookups`,
      );
    case 'piece-sum':
      return inTable(
        'LENGTHS_INVALID',
        'lengths',
        `lengths up to its own add up to ${value}, and there are ${limit} values in all`,
      );
    case 'uneven':
      return inTable('TENSOR_SHAPE', 'indices', `${value} lookups are not ${limit} bags of one length`);
    case 'weights-unexpected':
      return new RequestError(
        'TENSOR_UNEXPECTED',
        `table ${table} (${name}): its bags take no weights: they need mode sum, and no learned weights`,
        { table, tensor: `weights.${table}` },
      );
    case 'first-user-not-zero':
      return ofUsers(', must be 0');
    case 'users-decrease':
      return ofUsers(` is less than users[${position - 1}] = ${limit}`);
    case 'users-end':
      return ofUsers(`, must be the batch size, ${limit}`);
    case 'bad-header':
      return new RequestError(
        'REQUEST_INVALID',
        `the record of the request has a bad word ${position}: ${value}`,
        {
          position,
          value,
          ...(table < 0 ? {} : { table }),
        },
      );
    default:
      return kind satisfies never;
  }
}

/** As a call of the model would have said it, but for what a client cannot do. */
function ofBags(name: string, fault: BagFault, hint: string): RequestError {
  const { code, message, details } = bagFaultError(fault, name);
  return new RequestError(code as RequestErrorCode, message, { hint, ...details });
}
