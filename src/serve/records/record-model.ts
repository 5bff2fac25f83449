/** What of a model its requests' records depend on. */
import { flag, listOf, membersOf, text, whole } from '../../checks/value.ts';
import { NativeRecordModel, RequestMerge } from '../../ffi/merge-requests.ts';
import type { ThreadPool } from '../../ffi/thread-pool.ts';
import type { ModelArchitecture } from '../../model/architecture.ts';
import { headerBytes } from './record-words.ts';

/** A table, as records know it. */
export interface RecordTable {
  readonly name: string;
  readonly rows: number;
  /** Index −1 stands for a pruned row. */
  readonly pruned: boolean;
  /** Bags may bring weights: mode `sum`, without learned weights. */
  readonly takesWeights: boolean;
}

/** Plain data, so that threads can be told. */
export interface RecordShape {
  readonly tables: readonly RecordTable[];
  /** F. */
  readonly denseFeatures: number;
}

/** The library's limit. */
const MOST_FEATURES = 2 ** 24;

const SHAPE = membersOf<RecordShape>({
  tables: listOf(membersOf<RecordTable>({ name: text, rows: whole(), pruned: flag, takesWeights: flag })),
  denseFeatures: whole(0, MOST_FEATURES),
});

/** What the records of a model's requests depend on. */
export function recordShape({
  tables,
  denseFeatures,
}: Pick<ModelArchitecture, 'tables' | 'denseFeatures'>): RecordShape {
  return {
    tables: tables.map(({ name, rows, pruned = false, mode, rowWeights }) => ({
      name,
      rows,
      pruned,
      takesWeights: mode === 'sum' && rowWeights === undefined,
    })),
    denseFeatures,
  };
}

/** A model whose records one thread writes, checks or merges; each thread makes its own. */
export class RecordModel implements RecordShape {
  readonly tables: readonly RecordTable[];
  readonly denseFeatures: number;
  /** Of a record's header: its arrays lie behind it. A multiple of 64. */
  readonly headerBytes: number;
  /** For this folder. */
  readonly native: NativeRecordModel;
  /** For this folder. */
  readonly merge: RequestMerge;

  /** `mergers`: threads that share the merging of large batches. @throws UsageError OPTION_INVALID. */
  constructor(shape: RecordShape, mergers?: ThreadPool) {
    const { tables, denseFeatures } = SHAPE(shape, 'RecordModel: shape');
    this.tables = tables;
    this.denseFeatures = denseFeatures;
    this.headerBytes = headerBytes(tables.length);
    this.native = new NativeRecordModel(tables, denseFeatures);
    this.merge = new RequestMerge(this.native, mergers);
  }
}
