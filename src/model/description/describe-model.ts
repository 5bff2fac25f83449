/** The description of a model as it was inferred, each guess marked as one. */
import type { DlrmArchitecture, Interaction } from '../architecture.ts';
import { inputsOf } from '../architecture.ts';
import { UNKNOWN_TABLE } from '../infer-architecture.ts';
import type { FeatureInput, ModelInputs } from '../inputs.ts';
import {
  DESCRIPTION_KIND,
  DESCRIPTION_VERSION,
  type DescribedFeature,
  type ModelDescription,
} from './description.ts';

export interface DescribeOptions {
  /** The checkpoint's path, relative to the description. */
  readonly checkpoint: string;
  /** A description that was used: what it says is no guess, and is kept. */
  readonly given?: ModelDescription;
  /** What had to be guessed to infer the architecture, by member. */
  readonly guesses?: Readonly<Record<string, string>>;
}

/** Describes a model; what neither the checkpoint nor `given` says stands in `guesses`, with the reason. */
export function describeModel(
  architecture: DlrmArchitecture,
  { checkpoint, given, guesses: guessed = {} }: DescribeOptions,
): ModelDescription {
  const { naming, tables, bottom, top, interaction, tableOrder, output = 'probability' } = architecture;
  const inputs = inputsOf(architecture);
  const guesses: Record<string, string> = { ...given?.guesses };
  const guess = (key: keyof ModelDescription, member: string, why: string) => {
    if (given?.[key] === undefined) guesses[member] = why;
  };
  const source = tableOrder?.source ?? 'unknown';
  if (naming !== 'dlrm') guess('features', '/features', `one for each table, in order: ${source}`);
  guess('features', '/features/*/pooling', 'state dicts do not say it; both code bases train with sums');
  guess('features', '/features/*/ids', 'state dicts hold no vocabularies: ids are taken for rows');
  guess('dense', '/dense/*/name', 'state dicts hold no names of numbers');
  if (naming === 'torchrec')
    guess('dense', '/dense/*/preprocessing', "log(x + 3), as TorchRec's Criteo preprocessing has it");
  else guess('dense', '/dense/*/preprocessing', 'log(1 + max(x, 0)), as facebookresearch/dlrm has it');
  guess('activations', '/activations', 'relu between layers, as both code bases have it');
  guess(
    'output',
    '/output',
    naming === 'torchrec' ? "the probability; TorchRec's models themselves return logits" : 'the probability',
  );
  Object.assign(guesses, guessed);
  const activationsOf = (layers: DlrmArchitecture['bottom']) => layers.map(({ activation }) => activation);
  const described: ModelDescription = {
    kind: DESCRIPTION_KIND,
    version: DESCRIPTION_VERSION,
    checkpoint,
    ...(given?.prefix === undefined ? {} : { prefix: given.prefix }),
    ...(given?.names === undefined ? {} : { names: given.names }),
    ...(tableOrder === undefined
      ? {}
      : { tables: tableOrder.names.map((name) => describedTable(name, given)) }),
    features: given?.features ?? tables.map((table, t) => describedFeature(table, t, inputs.features[t])),
    dense: [...(given?.dense ?? guessedDense(inputs, naming))],
    interaction: interactionName(interaction),
    ...(interaction.kind === 'dot' ? { triangle: interaction.order } : {}),
    activations: {
      bottom: activationsOf(bottom),
      top: activationsOf(top),
    },
    output,
    ...(Object.keys(guesses).length === 0 ? {} : { guesses }),
  };
  return described;
}

function describedTable(name: string, given: ModelDescription | undefined) {
  return given?.tables?.find((table) => table.name === name) ?? { name };
}

function describedFeature(
  { name, mode, paddingIdx, pruned }: DlrmArchitecture['tables'][number],
  t: number,
  input: FeatureInput | undefined,
): DescribedFeature {
  return {
    name: name === UNKNOWN_TABLE ? `feature_${t}` : (input?.name ?? name),
    table: name,
    pooling: mode,
    ...(paddingIdx === undefined ? {} : { paddingRow: paddingIdx }),
    ...(pruned === true ? { pruned } : {}),
    ids: 'rows',
    missing: 'error',
  };
}

function guessedDense({ dense }: ModelInputs, naming: DlrmArchitecture['naming']) {
  const preprocessing = naming === 'torchrec' ? ('log(x + 3)' as const) : ('log(1 + max(x, 0))' as const);
  return dense.map(({ name }) => ({ name, preprocessing }));
}

function interactionName(interaction: Interaction): NonNullable<ModelDescription['interaction']> {
  return interaction.kind === 'dot' && interaction.diagonal ? 'dot-diagonal' : interaction.kind;
}
