/** Named benchmark set-ups. */
import type { CollectionShape } from './synthetic-model.ts';

export interface Preset extends CollectionShape {
  readonly title: string;
  readonly batchSize: number;
  /** Bag lengths, as `--bag-lengths` takes them. */
  readonly bagLengths: string;
  /** Timed rounds of the embedding stage; 0 leaves it out. */
  readonly embeddingRounds: number;
  /** Timed predictions of the whole model; 0 leaves it out. */
  readonly modelRounds: number;
  /** Batches in rotation. */
  readonly batches: number;
}

const paperTable = { rows: 500_000, dim: 128, rowFormat: 'float32' } as const;

export const PRESETS = {
  quick: {
    title: 'two tables of the paper and its MLPs; under a minute on two cores',
    ...paperTable,
    tables: 2,
    batchSize: 2048,
    bagLengths: '150',
    embeddingRounds: 11,
    modelRounds: 9,
    batches: 4,
  },
  paper: {
    title: "the embedding stage of the paper's artifact: 12 tables of 500,000 rows of 128 float32",
    ...paperTable,
    tables: 12,
    batchSize: 2048,
    bagLengths: '150',
    embeddingRounds: 12,
    modelRounds: 0,
    batches: 4,
  },
  model: {
    title: "the paper's whole model: 250 tables (64 GB of rows; --tables N for less)",
    ...paperTable,
    tables: 250,
    batchSize: 2048,
    bagLengths: '150',
    embeddingRounds: 0,
    modelRounds: 100,
    batches: 2,
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof PRESETS;
