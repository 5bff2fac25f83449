/**
 * Meta's dlrm_datasets (facebookresearch/dlrm_datasets): a torch.save of `(indices, offsets, lengths)` for T tables and
 * B bags each, table-major: `indices` [lookups], `offsets` [T·B] or [T·B + 1], `lengths` [T, B] or [T·B], int32 or int64.
 */
import { at } from '../at.ts';
import type { IndexArray } from '../embedding/bag.ts';
import { type ErrorDetails, WorkloadError } from '../errors.ts';
import { isSavedTensor, readTorchFile } from '../formats/torch/torch-file.ts';
import { readTensor } from '../stored-tensor.ts';
import { isInFile } from '../tensor.ts';
import { asInt32, asNumbers, MAX_INDEX } from './index-values.ts';

interface Integers {
  readonly shape: readonly number[];
  readonly data: IndexArray;
}

/** Recorded bags, table by table. */
export interface RecordedBags {
  /** Row indices in [0, 2^31), in access order. */
  readonly streams: readonly Int32Array[];
  /** Each [bags + 1], where each bag starts in its stream, and the end of the last. */
  readonly offsets: readonly Float64Array[];
}

/**
 * Reads the data set at `path`; errors name `file`. `tables`: T where lengths are flat, [T·B]; default 1.
 * @throws UsageError FILE_*; WorkloadError TRACE_INVALID naming table and bag or lookup, TRACE_EMPTY; FormatError.
 */
export async function readDlrmDataset(file: string, path: string, tables?: number): Promise<RecordedBags> {
  const invalid = (message: string, details: ErrorDetails = {}): never => {
    throw new WorkloadError('TRACE_INVALID', `${file}: ${message}`, {
      file,
      hint: 'dlrm_datasets files hold a tuple (indices, offsets, lengths), offsets table-major',
      ...details,
    });
  };
  const saved: unknown = await readTorchFile(path);
  if (!Array.isArray(saved) || saved.length < 2) {
    const what = saved instanceof Map ? 'a dict' : Array.isArray(saved) ? 'a short tuple' : 'a single value';
    return invalid(`holds ${what}, no tuple (indices, offsets, lengths)`);
  }
  const integers = async (at: number, name: string): Promise<Integers> => {
    const value: unknown = saved[at];
    if (!isSavedTensor(value)) return invalid(`${name} is not a tensor`);
    const stored = value.stored(name);
    if (!isInFile(stored))
      return invalid(`${name} of shape [${stored.shape}] is not contiguous`, {
        hint: `save ${name}.contiguous()`,
      });
    const { dtype, shape, data } = await readTensor(stored);
    if (data instanceof Int32Array || data instanceof BigInt64Array) return { shape, data };
    return invalid(`${name} is ${dtype}, must be int32 or int64`);
  };
  const indices = (await integers(0, 'indices')).data;
  const starts = asNumbers((await integers(1, 'offsets')).data);
  const lengths = saved.length > 2 ? await integers(2, 'lengths') : undefined;
  if (indices.length === 0) throw new WorkloadError('TRACE_EMPTY', `${file} holds no lookups`, { file });

  const tableCount = (lengths?.shape.length === 2 ? lengths.shape[0] : tables) ?? 1;
  const bags = lengths?.data.length ?? starts.length - (starts.length % tableCount);
  if (starts.length !== bags && starts.length !== bags + 1)
    return invalid(`${starts.length} offsets do not fit ${bags} lengths`);
  if (tableCount < 1 || bags < 1 || bags % tableCount !== 0)
    return invalid(`${bags} bags do not divide into ${tableCount} tables`);

  const ends = Float64Array.from({ length: bags + 1 }, (_, bag) => starts[bag] ?? indices.length);
  checkOffsets(ends, bags / tableCount, indices.length, lengths && asNumbers(lengths.data), invalid);
  return splitTables(indices, ends, tableCount, invalid);
}

type Invalid = (message: string, details?: ErrorDetails) => never;

/** Offsets [bags + 1] begin at 0, never fall, end with the lookups, and are as far apart as the lengths say. */
function checkOffsets(
  offsets: Float64Array,
  bagsPerTable: number,
  lookups: number,
  lengths: Float64Array | undefined,
  invalid: Invalid,
): void {
  for (let bag = 0; bag + 1 < offsets.length; bag++) {
    const [begin, end] = [offsets[bag] as number, offsets[bag + 1] as number];
    const length = lengths?.[bag] ?? end - begin;
    if (begin >= 0 && begin <= end && end <= lookups && end - begin === length && (bag > 0 || begin === 0))
      continue;
    const table = Math.floor(bag / bagsPerTable);
    const where = `offsets of table ${table}, bag ${bag % bagsPerTable}: [${begin}, ${end}) of ${lookups} lookups`;
    invalid(
      end - begin === length
        ? `${where} is out of order or out of range`
        : `${where}, its length is ${length}`,
      { table, position: bag },
    );
  }
  const last = offsets.at(-1) as number;
  if (last !== lookups) invalid(`the last offset is ${last}, there are ${lookups} lookups`);
}

/** Each table's lookups, and where its bags start in them. */
function splitTables(
  indices: IndexArray,
  offsets: Float64Array,
  tables: number,
  invalid: Invalid,
): RecordedBags {
  const bags = (offsets.length - 1) / tables;
  const streams: Int32Array[] = [];
  const bagStarts: Float64Array[] = [];
  for (let t = 0; t < tables; t++) {
    const own = offsets.subarray(t * bags, (t + 1) * bags + 1);
    const [begin, end] = [at(own, 0), at(own, bags)];
    const stream = asInt32(indices.subarray(begin, end));
    const bad = stream.findIndex((index) => index < 0);
    if (bad >= 0) {
      const value = at(indices, begin + bad);
      invalid(`table ${t}, lookup ${bad}: ${value} is not a row index in [0, ${MAX_INDEX}]`, {
        table: t,
        position: bad,
        value,
      });
    }
    streams.push(stream);
    bagStarts.push(own.map((start) => start - begin));
  }
  return { streams, offsets: bagStarts };
}
