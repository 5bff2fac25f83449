/** Named benchmark set-ups. */
import type { RowFormat } from '../embedding/bag.ts';
import { UsageError } from '../errors.ts';
import type { DlrmArchitecture } from '../model/architecture.ts';
import {
  type CollectionShape,
  mixedBagLengths,
  mixedModel,
  mlperfBagLengths,
  mlperfModel,
  syntheticModel,
  syntheticTables,
} from './synthetic-model.ts';

/** What may be changed of a preset's model. */
export interface ModelShape {
  readonly tables?: number;
  readonly rows?: number;
  readonly dim?: number;
  readonly rowFormat?: RowFormat;
}

export interface Preset {
  readonly title: string;
  /** @throws UsageError USAGE for a shape that the model cannot have. */
  readonly architecture: (shape: ModelShape) => DlrmArchitecture;
  readonly batchSize: number;
  /** Bag lengths, as `--bag-lengths` takes them. */
  readonly bagLengths: (shape: ModelShape) => string;
  /** Timed rounds of the embedding stage; 0 leaves it out. */
  readonly embeddingRounds: number;
  /** Timed predictions of the whole model; 0 leaves it out. */
  readonly modelRounds: number;
  /** Batches in rotation. */
  readonly batches: number;
}

const paper = (tables: number) => ({
  architecture: (shape: ModelShape) => {
    const usual: CollectionShape = { tables, rows: 500_000, dim: 128, rowFormat: 'float32' };
    return syntheticModel(syntheticTables({ ...usual, ...shape }));
  },
  batchSize: 2048,
  bagLengths: () => '150',
});

/** @throws UsageError USAGE for a shape that the preset's model cannot have. */
function fitting(preset: string, model: () => DlrmArchitecture): DlrmArchitecture {
  try {
    return model();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UsageError('USAGE', `--preset ${preset}: ${cause.message}`, { cause });
  }
}

export const PRESETS = {
  quick: {
    title: 'two tables of the paper and its MLPs; under a minute on two cores',
    ...paper(2),
    embeddingRounds: 11,
    modelRounds: 9,
    batches: 4,
  },
  paper: {
    title: "the embedding stage of the paper's artifact: 12 tables of 500,000 rows of 128 float32",
    ...paper(12),
    embeddingRounds: 12,
    modelRounds: 0,
    batches: 4,
  },
  model: {
    title: "the paper's whole model: 250 tables (64 GB of rows; --tables N for less)",
    ...paper(250),
    embeddingRounds: 0,
    modelRounds: 100,
    batches: 2,
  },
  mlperf: {
    title:
      "MLPerf's DLRM-DCNv2: 26 tables, 104.5 GB of float32 rows (--row-format float16, --rows N for less)",
    architecture: (shape: ModelShape) =>
      fitting('mlperf', () => mlperfModel({ dim: 128, rowFormat: 'float32', ...shape })),
    batchSize: 2048,
    bagLengths: ({ tables }: ModelShape) => mlperfBagLengths(tables),
    embeddingRounds: 0,
    modelRounds: 100,
    batches: 4,
  },
  mixed: {
    title: '20 tables of which no two are alike: dims 16 to 256, 10 to 1,000,000 rows, bags of 1 to 150',
    architecture: ({ dim, ...shape }: ModelShape) => {
      if (dim !== undefined)
        throw new UsageError('USAGE', '--preset mixed: its tables have dims of their own');
      return fitting('mixed', () => mixedModel({ rowFormat: 'float32', ...shape }));
    },
    batchSize: 2048,
    bagLengths: ({ tables }: ModelShape) => mixedBagLengths(tables),
    embeddingRounds: 12,
    modelRounds: 30,
    batches: 4,
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof PRESETS;
