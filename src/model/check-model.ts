/** What of a model says how requests and traffic are read, as callers give it: an architecture, or those members of one. */
import {
  type Check,
  flag,
  listOf,
  type Members,
  membersOf,
  oneOf,
  optional,
  someOf,
  text,
  whole,
} from '../checks/value.ts';
import { inconsistent, MOST_WIDTH } from '../dense/weights.ts';
import { type EmbeddingTable, POOLING_MODES } from '../embedding/bag.ts';
import { checkTables, MOST_ROWS } from '../embedding/check-tables.ts';
import type { ModelArchitecture } from './architecture.ts';
import { modelInputs } from './check-inputs.ts';

/** The members of an architecture that checks of several calls share. */
export const MODEL_MEMBERS = {
  naming: oneOf(['dlrm', 'torchrec', 'hotrow', 'synthetic']),
  /** 0: none. */
  denseFeatures: whole(0, MOST_WIDTH),
  tables: checkTables,
  inputs: optional(modelInputs),
  tableOrder: optional(
    membersOf<NonNullable<ModelArchitecture['tableOrder']>>({ names: listOf(text), source: text }),
  ),
} satisfies Partial<Members<ModelArchitecture>>;

export type RequestedModel = Pick<ModelArchitecture, keyof typeof MODEL_MEMBERS>;

/** What is only compared, or handed to what checks it. */
const any: Check<never> = (value) => value as never;

/** Tables that are read for, not from: their weights are never looked at. */
const DESCRIBED_TABLES = listOf(
  someOf<EmbeddingTable>({
    name: text,
    rows: whole(1, MOST_ROWS),
    dim: any,
    weight: any,
    rowFormat: any,
    mode: (value, at) => (value === undefined ? any(value, at) : oneOf(POOLING_MODES)(value, at)),
    paddingIdx: optional(any),
    pruned: optional(flag),
    rowWeights: optional(any),
  }),
);

/** @throws UsageError OPTION_INVALID. */
export const requestedModel: Check<RequestedModel> = someOf<RequestedModel>({
  ...MODEL_MEMBERS,
  tables: DESCRIBED_TABLES,
});

/** @throws ModelError CHECKPOINT_INCONSISTENT where inputs are of other features than the model. */
export function checkInputsFit({
  inputs,
  tables,
  denseFeatures,
}: Pick<ModelArchitecture, 'inputs' | 'tables' | 'denseFeatures'>): void {
  if (inputs === undefined) return;
  if (inputs.features.length !== tables.length)
    inconsistent(`inputs have ${inputs.features.length} features, the model has ${tables.length}`);
  if (inputs.dense.length !== denseFeatures)
    inconsistent(`inputs have ${inputs.dense.length} dense features, the model takes ${denseFeatures}`);
}
