/** The description of a model as it was inferred, each guess marked as one. */
import type { Interaction, ModelArchitecture } from '../architecture.ts';
import { inputsOf } from '../architecture.ts';
import { UNKNOWN_TABLE } from '../infer-architecture.ts';
import { describeBlock } from '../infer-head.ts';
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
  architecture: ModelArchitecture,
  { checkpoint, given, guesses: guessed = {} }: DescribeOptions,
): ModelDescription {
  const { naming, tables, tableOrder } = architecture;
  const answersTables = 'blocks' in architecture && architecture.blocks.length === 0;
  const inputs = inputsOf(architecture);
  const guesses: Record<string, string> = { ...given?.guesses };
  const guess = (key: keyof ModelDescription, member: string, why: string) => {
    if (given?.[key] === undefined) guesses[member] = why;
  };
  const source = tableOrder?.source ?? 'unknown';
  if (naming !== 'dlrm') guess('features', '/features', `one for each table, in order: ${source}`);
  guess('features', '/features/*/pooling', 'state dicts do not say it; both code bases train with sums');
  guess('features', '/features/*/ids', 'state dicts hold no vocabularies: ids are taken for rows');
  if (architecture.denseFeatures > 0) {
    guess('dense', '/dense/*/name', 'state dicts hold no names of numbers');
    guess(
      'dense',
      '/dense/*/preprocessing',
      naming === 'torchrec'
        ? "log(x + 3), as TorchRec's Criteo preprocessing has it"
        : 'log(1 + max(x, 0)), as facebookresearch/dlrm has it',
    );
  }
  if ('blocks' in architecture) {
    if (!answersTables)
      guess('blocks', '/blocks', 'known names of layers say what each takes and where relu is');
  } else {
    guess('activations', '/activations', 'relu between layers, as both code bases have it');
    guess(
      'output',
      '/output',
      naming === 'torchrec'
        ? "the probability; TorchRec's models themselves return logits"
        : 'the probability',
    );
  }
  Object.assign(guesses, guessed);
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
    ...(inputs.dense.length === 0 ? {} : { dense: [...(given?.dense ?? guessedDense(inputs, naming))] }),
    ...describedHead(architecture),
    ...(Object.keys(guesses).length === 0 ? {} : { guesses }),
  };
  return described;
}

/** What is said of the head: of a DLRM its parts, of other models all blocks. */
function describedHead(architecture: ModelArchitecture): Partial<ModelDescription> {
  const { output } = architecture;
  if ('blocks' in architecture) {
    const { blocks, outputs } = architecture;
    return {
      blocks: blocks.map(describeBlock),
      outputs: [...outputs],
      ...(output === undefined ? {} : { output }),
    };
  }
  const { bottom, interaction, top } = architecture;
  const activationsOf = (layers: typeof bottom) => layers.map(({ activation }) => activation);
  return {
    interaction: interactionName(interaction),
    ...(interaction.kind === 'dot' ? { triangle: interaction.order } : {}),
    activations: { bottom: activationsOf(bottom), top: activationsOf(top) },
    output: output ?? 'probability',
  };
}

function describedTable(name: string, given: ModelDescription | undefined) {
  return given?.tables?.find((table) => table.name === name) ?? { name };
}

function describedFeature(
  { name, mode, paddingIdx, pruned }: ModelArchitecture['tables'][number],
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

function guessedDense({ dense }: ModelInputs, naming: ModelArchitecture['naming']) {
  const preprocessing = naming === 'torchrec' ? ('log(x + 3)' as const) : ('log(1 + max(x, 0))' as const);
  return dense.map(({ name }) => ({ name, preprocessing }));
}

function interactionName(interaction: Interaction): NonNullable<ModelDescription['interaction']> {
  return interaction.kind === 'dot' && interaction.diagonal ? 'dot-diagonal' : interaction.kind;
}
