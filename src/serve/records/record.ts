/**
 * Writes the header of a request record: where in a slot the arrays of a request lie. They may lie at any byte behind the header, in
 * a body as it was received or appended to it. Nothing of them is read here; `checkRecord` does.
 */
import { at } from '../../at.ts';
import { RequestError } from '../../errors.ts';
import { type HostPtr, viewMemory } from '../../ffi/host-memory.ts';
import type { RecordModel } from './record-model.ts';
import { RecordWord, TableFlag, TableWord, tableWords } from './record-words.ts';

/** A slot as a thread sees it. */
export interface SlotView {
  readonly address: HostPtr;
  /** All of the slot, but for bytes past its last whole word. */
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
}

/** `bytes` bytes of memory at an address that is a multiple of 64, ≤ 1 GiB. Not to be used after the memory is freed. */
export function viewSlot(address: HostPtr, bytes: number): SlotView {
  const buffer = viewMemory(address, bytes);
  return {
    address,
    words: new Uint32Array(buffer, 0, Math.floor(bytes / Uint32Array.BYTES_PER_ELEMENT)),
    bytes: new Uint8Array(buffer),
  };
}

/** Integers in a slot, from byte `at` on: int32 or int64. */
export interface IntegersAt {
  readonly at: number;
  readonly int64: boolean;
}

/** How a table's lookups are cut into bags: lengths [bags], offsets [bags] or, with the end of the last bag, [bags + 1], or evenly. */
export type BoundsAt =
  | ({ readonly kind: 'lengths' } & IntegersAt)
  | ({ readonly kind: 'offsets'; readonly hasEnd: boolean } & IntegersAt)
  | { readonly kind: 'even' };

/** The bags of one table. */
export interface BagsAt {
  /** [lookups]. */
  readonly indices: IntegersAt;
  readonly lookups: number;
  readonly bounds: BoundsAt;
  /** float32 [lookups]. */
  readonly weightsAt?: number;
  /** A bag per user, instead of one per sample. */
  readonly perUser?: boolean;
}

/** The bags of several tables whose lookups are one array: the values of the first table, then those of the next. */
export interface PieceAt {
  /** Numbers of tables, each once, in the order of the values. */
  readonly tables: readonly number[];
  /** [lookups], of all tables. */
  readonly values: IntegersAt;
  readonly lookups: number;
  /** [tables, bags]. */
  readonly lengths: IntegersAt;
  /** float32 [lookups]. */
  readonly weightsAt?: number;
  readonly perUser?: boolean;
}

export interface UsersAt {
  /** U. */
  readonly count: number;
  /** int32 [U + 1], from 0 to B. */
  readonly startsAt: number;
  /** Fu: the first of the model's dense features. */
  readonly denseFeatures: number;
  /** float32 [U, Fu]; any number where that is empty. */
  readonly denseAt: number;
}

/** A request whose arrays lie in a slot. Places are bytes from the slot's start. */
export interface RecordDescription {
  /** B. */
  readonly samples: number;
  /** float32 [B, F − Fu]; any number where that is empty. */
  readonly denseAt: number;
  readonly users?: UsersAt;
  /** By table; those that neither stand here nor in a piece have empty bags. */
  readonly tables?: readonly (BagsAt | undefined)[];
  readonly pieces?: readonly PieceAt[];
}

/** Writes the header of the request's record. @throws RequestError USERS_INVALID for samples of no users. */
export function writeRecord(model: RecordModel, slot: SlotView, request: RecordDescription): void {
  const { samples, denseAt, users, tables = [], pieces = [] } = request;
  const { words } = slot;
  if (users?.count === 0 && samples > 0) {
    const message = `users[0] = 0, must be the batch size, ${samples}`;
    throw new RequestError('USERS_INVALID', message, { tensor: 'users', position: 0, value: 0 });
  }
  // Without users there is no sample either: all bags are none.
  const ofUsers = users === undefined || users.count === 0 ? undefined : users;
  words.fill(0, 0, tableWords(model.tables.length));
  words[RecordWord.samples] = samples;
  words[RecordWord.denseAt] = denseAt;
  if (ofUsers !== undefined) {
    words[RecordWord.users] = ofUsers.count;
    words[RecordWord.userFeatures] = ofUsers.denseFeatures;
    words[RecordWord.userDenseAt] = ofUsers.denseAt;
    words[RecordWord.startsAt] = ofUsers.startsAt;
  }
  const userFlag = users?.count === 0 ? 0 : TableFlag.perUser;
  for (let t = 0; t < model.tables.length; t++) {
    const own = tables[t];
    const start = tableWords(t);
    if (own === undefined) words[start + TableWord.flags] = TableFlag.even;
    else writeBags(words, start, own, userFlag);
  }
  for (const piece of pieces)
    writePiece(words, piece, piece.perUser === true ? (users?.count ?? 0) : samples, userFlag);
}

function writeBags(words: Uint32Array, start: number, bags: BagsAt, userFlag: number): void {
  const { indices, lookups, bounds, weightsAt = 0, perUser = false } = bags;
  words[start + TableWord.indicesAt] = indices.at;
  words[start + TableWord.lookups] = lookups;
  words[start + TableWord.boundsAt] = bounds.kind === 'even' ? 0 : bounds.at;
  words[start + TableWord.weightsAt] = weightsAt;
  words[start + TableWord.flags] =
    (indices.int64 ? TableFlag.indices64 : 0) | boundsFlags(bounds) | (perUser ? userFlag : 0);
}

function boundsFlags(bounds: BoundsAt): number {
  switch (bounds.kind) {
    case 'lengths':
      return bounds.int64 ? TableFlag.bounds64 : 0;
    case 'offsets':
      return (
        (bounds.hasEnd ? TableFlag.offsetsEnd : TableFlag.offsets) | (bounds.int64 ? TableFlag.bounds64 : 0)
      );
    case 'even':
      return TableFlag.even;
    default:
      return bounds satisfies never;
  }
}

function writePiece(words: Uint32Array, piece: PieceAt, bags: number, userFlag: number): void {
  const { tables, values, lookups, lengths, weightsAt = 0, perUser = false } = piece;
  if (tables.length === 0) return;
  const head = tableWords(at(tables, 0));
  const flags = (lengths.int64 ? TableFlag.bounds64 : 0) | (perUser ? userFlag : 0);
  const rowBytes = bags * (lengths.int64 ? BigInt64Array : Int32Array).BYTES_PER_ELEMENT;
  for (let i = 0; i < tables.length; i++) {
    const start = tableWords(at(tables, i));
    words[start + TableWord.boundsAt] = lengths.at + i * rowBytes;
    words[start + TableWord.flags] = flags;
    words[start + TableWord.next] = i + 1 < tables.length ? at(tables, i + 1) + 1 : 0;
  }
  words[head + TableWord.indicesAt] = values.at;
  words[head + TableWord.lookups] = lookups;
  words[head + TableWord.weightsAt] = weightsAt;
  words[head + TableWord.flags] = flags | TableFlag.headsPiece | (values.int64 ? TableFlag.indices64 : 0);
}
