/** Named benchmark set-ups. */
import type { DeviceDescription } from '../device.ts';
import { type RowFormat, rowBytes } from '../embedding/bag.ts';
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
  /** By the paper's protocol. */
  readonly paper?: PaperProtocol;
}

/** A comparison over the kernel that the paper measured, and with other tables under the whole model. */
export interface PaperProtocol {
  /** Of the whole model, where the device's memory holds so many. */
  readonly modelTables: number;
  readonly modelBatches: number;
  /** Of the embedding stage and the model on devices that work in the host's memory. */
  readonly hostTables: number;
}

/** The share of a device's memory that tables of the whole model may take. */
const MOST_OF_MEMORY = 0.8;

/**
 * How many tables the paper's protocol has on a device: the same few for the embedding stage and the whole model where they lie in
 * the host's memory; else its own, and under the whole model at most as many as the memory holds.
 */
export function paperTables(
  { modelTables, hostTables }: PaperProtocol,
  tables: DlrmArchitecture['tables'],
  { capabilities, memoryBytes }: Pick<DeviceDescription, 'capabilities' | 'memoryBytes'>,
): { readonly embedding: number; readonly model: number } {
  if (!capabilities.hasOwnMemory) return { embedding: hostTables, model: hostTables };
  const tableBytes = tables.reduce((most, table) => Math.max(most, table.rows * rowBytes(table)), 1);
  const fitting = Math.floor((MOST_OF_MEMORY * memoryBytes) / tableBytes);
  return { embedding: tables.length, model: Math.max(1, Math.min(modelTables, fitting)) };
}

const paper = (name: string, tables: number) => ({
  architecture: (shape: ModelShape) => {
    const usual: CollectionShape = { tables, rows: 500_000, dim: 128, rowFormat: 'float32' };
    return fitting(name, () => syntheticModel(syntheticTables({ ...usual, ...shape })));
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
    ...paper('quick', 2),
    embeddingRounds: 11,
    modelRounds: 9,
    batches: 4,
  },
  paper: {
    title: "the embedding stage of the paper's artifact: 12 tables of 500,000 rows of 128 float32",
    ...paper('paper', 12),
    embeddingRounds: 12,
    modelRounds: 0,
    batches: 4,
  },
  artifact: {
    title:
      "the paper's protocol on a kernel of the shape that it measured: 12 tables, 12 batches, 250 tables; its claims",
    ...paper('artifact', 12),
    embeddingRounds: 6,
    modelRounds: 10,
    batches: 12,
    paper: { modelTables: 250, modelBatches: 2, hostTables: 2 },
  },
  model: {
    title: "the paper's whole model: 250 tables (64 GB of rows; --tables N for less)",
    ...paper('model', 250),
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
