/** The words of a request record's header: HR_REQUEST_… of kernels/cpu/hotrow_cpu.h. */

/** Of the record. */
export const RecordWord = {
  samples: 0,
  users: 1,
  userFeatures: 2,
  denseAt: 3,
  userDenseAt: 4,
  startsAt: 5,
  isChecked: 6,
} as const;

/** Of each table. */
export const TableWord = {
  indicesAt: 0,
  lookups: 1,
  boundsAt: 2,
  weightsAt: 3,
  flags: 4,
  next: 5,
} as const;

export const TableFlag = {
  indices64: 1,
  bounds64: 2,
  perUser: 4,
  offsets: 8,
  offsetsEnd: 16,
  even: 32,
  headsPiece: 64,
} as const;

const RECORD_WORDS = 8;
const TABLE_WORDS = 8;
const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;

/** Where the words of table t begin. */
export function tableWords(t: number): number {
  return RECORD_WORDS + TABLE_WORDS * t;
}

/** Bytes of a header: a multiple of 64, of which the last may be unused. */
export function headerBytes(tableCount: number): number {
  return Math.ceil((tableWords(tableCount) * WORD_BYTES) / 64) * 64;
}
