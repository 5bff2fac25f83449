/** How a model's bottom output meets its pooled rows: the interaction whose width is what the top MLP takes. */
import { at } from '../at.ts';
import type { CrossLayer } from '../dense/cross.ts';
import { type Interaction, interactionWidth } from '../dense/interaction.ts';
import type { LinearLayer } from '../dense/linear.ts';
import type { EmbeddingTable } from '../embedding/bag.ts';
import { ModelError } from '../errors.ts';
import type { ModelArchitecture } from './architecture.ts';
import { inconsistent } from './checkpoint/checkpoint-parts.ts';

export type InteractionName = 'dot' | 'dot-diagonal' | 'cat' | 'cross';

export interface InteractionOptions {
  readonly naming: ModelArchitecture['naming'];
  /** The triangle of dot products; undefined: nothing says which. */
  readonly triangle: 'lower' | 'upper' | undefined;
  /** The interaction, where the width fits several. */
  readonly interaction?: InteractionName;
  /** Whether it is known which features there are; else some may share a table. */
  readonly featuresKnown: boolean;
  /** Takes what had to be guessed. Default: nothing is guessed. */
  readonly guesses?: Record<string, string>;
}

/** The layers of a DLRM. */
export interface DlrmLayers {
  readonly bottom: readonly LinearLayer[];
  /** Empty where the model has no cross network. */
  readonly cross: readonly CrossLayer[];
  readonly top: readonly LinearLayer[];
}

/** The interactions of each code base. TorchRec's DLRM knows dot products alone. */
const KNOWN: Readonly<Record<ModelArchitecture['naming'], readonly Exclude<InteractionName, 'cross'>[]>> = {
  dlrm: ['dot', 'dot-diagonal', 'cat'],
  torchrec: ['dot'],
  hotrow: ['dot', 'dot-diagonal', 'cat'],
  synthetic: ['dot', 'dot-diagonal', 'cat'],
};

/**
 * The interaction of a model's parts; `tables` has an entry for each feature.
 * @throws ModelError ARCHITECTURE_AMBIGUOUS where several fit, CHECKPOINT_INCONSISTENT where none does.
 */
export function inferInteraction(
  { bottom, cross, top }: DlrmLayers,
  tables: readonly EmbeddingTable[],
  { naming, triangle, interaction: wanted, featuresKnown, guesses }: InteractionOptions,
): Interaction {
  const bottomWidth = (bottom.at(-1) as LinearLayer).outputs;
  const dims = tables.map((table) => table.dim);
  const topInputs = at(top, 0).inputs;
  if (cross.length > 0) {
    if (wanted !== undefined && wanted !== 'cross')
      throw inconsistent(`the checkpoint has a cross network, so interaction ${wanted} does not apply`);
    return crossInteraction(cross, bottomWidth, dims, topInputs);
  }
  if (wanted === 'cross') throw inconsistent('the interaction is to be cross, and no cross layer is there');

  const order = triangle ?? 'lower';
  const names = wanted === undefined ? KNOWN[naming] : ([wanted] as const);
  const candidates = names.map((name) => {
    const interaction: Interaction =
      name === 'cat' ? { kind: 'cat' } : { kind: 'dot', diagonal: name === 'dot-diagonal', order };
    // Dot products need vectors of one dim.
    const possible = name === 'cat' || dims.every((dim) => dim === bottomWidth);
    const width = interactionWidth(interaction, bottomWidth, dims);
    return { name, interaction, width, possible };
  });
  const fitting = candidates.filter(({ width, possible }) => possible && width === topInputs);
  const all = fitting.map(({ name }) => name);
  if (fitting.length > 1 && guesses !== undefined) guesses['/interaction'] = `it may be ${all.join(' or ')}`;
  if (fitting.length > 1 && guesses === undefined) {
    throw new ModelError(
      'ARCHITECTURE_AMBIGUOUS',
      `the top MLP takes ${topInputs} inputs, which fits ${all.join(' and ')}`,
      { hint: `pass --interaction ${all.join(' or ')}, or say it in a model description` },
    );
  }
  const [only] = fitting;
  if (only === undefined) {
    const explained = candidates
      .map(({ name, width, possible }) => `${name} gives ${possible ? width : 'nothing, the dims differ'}`)
      .join(', ');
    throw noneFits({ bottomWidth, dims, topInputs, explained, top, wanted });
  }
  // The diagonal adds as many products as one more feature would, one that shares a table with another.
  if (naming === 'hotrow' && only.name === 'dot-diagonal' && wanted === undefined && !featuresKnown) {
    if (guesses !== undefined) {
      guesses['/interaction'] = `it may be dot of ${dims.length + 1} features, of which two share a table`;
    } else {
      throw new ModelError(
        'ARCHITECTURE_AMBIGUOUS',
        `the top MLP takes ${topInputs} inputs, which fits dot-diagonal of ${dims.length} features and dot of ${dims.length + 1}, of which two share a table`,
        { hint: 'say which in the model description: "interaction", or all "features" and their tables' },
      );
    }
  }
  // Either order has the same pairs where there are two vectors, or three without the diagonal.
  const { kind } = only.interaction;
  const alike = only.name === 'dot-diagonal' ? 1 : 2;
  const open = kind === 'dot' && triangle === undefined && dims.length > alike;
  if (open && guesses !== undefined) guesses['/triangle'] = 'nothing says in which order the pairs stand';
  if (open && guesses === undefined) {
    throw new ModelError(
      'ARCHITECTURE_AMBIGUOUS',
      'the interaction is dot, and nothing says in which order its pairs stand',
      {
        hint: 'say it in the model description: "triangle": "lower" (as facebookresearch/dlrm) or "upper" (as TorchRec)',
      },
    );
  }
  return only.interaction;
}

interface Misfit {
  readonly bottomWidth: number;
  readonly dims: readonly number[];
  readonly topInputs: number;
  readonly explained: string;
  readonly top: readonly LinearLayer[];
  readonly wanted: InteractionName | undefined;
}

function noneFits({ bottomWidth, dims, topInputs, explained, top, wanted }: Misfit): ModelError {
  const asked = wanted === undefined ? 'fits no interaction' : `does not fit interaction ${wanted}`;
  const message = `the top MLP takes ${topInputs} inputs, which ${asked} of a bottom output of ${bottomWidth} with ${dims.length} features: ${explained}`;
  const features = featuresOfDot(topInputs - bottomWidth);
  const error = inconsistent(message, `${top[0]?.name}.weight`);
  if (features === undefined || features <= dims.length || dims.some((dim) => dim !== bottomWidth))
    return error;
  return new ModelError(
    'ARCHITECTURE_AMBIGUOUS',
    `${message}. It fits dot of ${features} features: features may share a table, and the checkpoint does not say which do`,
    {
      tensor: `${top[0]?.name}.weight`,
      hint: 'list the features and their tables in a model description: hotrow inspect MODEL --write-description FILE',
    },
  );
}

/** The number of features whose dot products, with the bottom output, are `pairs`; undefined: there is none. */
export function featuresOfDot(pairs: number): number | undefined {
  const features = Math.round((Math.sqrt(8 * pairs + 1) - 1) / 2);
  return pairs > 0 && (features * (features + 1)) / 2 === pairs ? features : undefined;
}

function crossInteraction(
  layers: readonly CrossLayer[],
  bottomWidth: number,
  dims: readonly number[],
  topInputs: number,
): Interaction {
  const interaction: Interaction = { kind: 'cross', layers };
  const width = interactionWidth(interaction, bottomWidth, dims);
  const odd = layers.find((layer) => layer.width !== width);
  if (odd !== undefined) {
    const message = `${odd.name}, ${rankOf([odd])}, is ${odd.width} wide; bottom output and tables together are ${width}`;
    if (odd.width <= width) throw inconsistent(message, odd.name);
    throw new ModelError('CHECKPOINT_INCONSISTENT', message, {
      tensor: odd.name,
      hint: 'where features share a table, list them in a model description: hotrow inspect MODEL --write-description FILE',
    });
  }
  if (topInputs !== width)
    throw inconsistent(
      `the top MLP takes ${topInputs} inputs, the ${rankOf(layers)} cross network gives ${width}`,
    );
  return interaction;
}

const rankOf = (layers: readonly CrossLayer[]) =>
  layers.some(({ v }) => v === undefined) ? 'full-rank' : 'low-rank';
