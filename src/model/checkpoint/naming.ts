/**
 * Whose parameter names a checkpoint uses. Each code base is a list of patterns onto Hotrow's own names:
 *
 *   tables.{name}.weight [rows, dim], tables.{name}.row_weights [rows]      tables, learned pooling weights
 *   bottom.{i}.weight [outputs, inputs], bottom.{i}.bias [outputs]          bottom MLP
 *   cross.{i}.v [rank, width], cross.{i}.w [width, rank], cross.{i}.bias    low-rank cross layers
 *   cross.{i}.weight [width, width], cross.{i}.bias [width]                 full-rank cross layers
 *   top.{i}.weight, top.{i}.bias, top.last.weight, top.last.bias            top MLP; `last` comes after all numbers
 *   blocks.{name}.{i}.weight, …                                            layers of a block of any name
 *
 * Beside a layer's weight, v or w that is float8_e4m3 stand its scales under the same name with `_scale` and `_input_scale`.
 *
 * Sources: facebookresearch/dlrm dlrm_s_pytorch.py; torchrec/models/{dlrm,deepfm}.py and torchrec/modules/{crossnet,mlp}.py.
 */
import { ModelError } from '../../errors.ts';
import { NamePattern, type PatternValues } from './name-patterns.ts';
import { withoutWrappers } from './wrappers.ts';

/** A pattern of a code base, and the pattern of Hotrow's names that it becomes; null: no part of the model. */
export interface NameRule {
  readonly from: NamePattern;
  readonly to: NamePattern | null;
}

/** The names of a code base. */
export interface NamingConvention {
  readonly naming: 'dlrm' | 'torchrec' | 'hotrow';
  readonly title: string;
  /** The triangle of dot products that it takes. */
  readonly triangle: 'lower' | 'upper';
  readonly rules: readonly NameRule[];
}

/** Weights of layers, which may be float8_e4m3: their scales stand beside them. */
const LAYER_WEIGHT = /^(?!tables\.).*\.(weight|v|w)$/;
const SCALES = ['_scale', '_input_scale'];

const rules = (patterns: Readonly<Record<string, string | null>>): NameRule[] =>
  Object.entries(patterns).flatMap(([from, to]): NameRule[] => {
    if (to === null) return [{ from: new NamePattern(from), to }];
    const ends = LAYER_WEIGHT.test(to) ? ['', ...SCALES] : [''];
    return ends.map((end) => ({ from: new NamePattern(from + end), to: new NamePattern(to + end) }));
  });

/** `from` and `to` with `.weight` and `.bias`. */
const layer = (from: string, to: string): Record<string, string> => ({
  [`${from}.weight`]: `${to}.weight`,
  [`${from}.bias`]: `${to}.bias`,
});

const HOTROW_NAMES: readonly string[] = [
  'tables.{name}.weight',
  'tables.{name}.weight_qscale',
  'tables.{name}.weight_qbias',
  'tables.{name}.row_weights',
  'bottom.{i}.weight',
  'bottom.{i}.bias',
  'cross.{i}.v',
  'cross.{i}.w',
  'cross.{i}.weight',
  'cross.{i}.bias',
  'top.{i}.weight',
  'top.{i}.bias',
  'top.last.weight',
  'top.last.bias',
  'blocks.{name}.{i}.v',
  'blocks.{name}.{i}.w',
  'blocks.{name}.{i}.weight',
  'blocks.{name}.{i}.bias',
  'blocks.{name}.last.weight',
  'blocks.{name}.last.bias',
];

const HOTROW_RULES = rules(Object.fromEntries(HOTROW_NAMES.map((name) => [name, name])));

const TORCHREC_TABLE = 'sparse_arch.embedding_bag_collection.embedding_bags.{name}';

export const CONVENTIONS: readonly NamingConvention[] = [
  {
    naming: 'dlrm',
    title: 'facebookresearch/dlrm',
    triangle: 'lower',
    rules: rules({
      'emb_l.{t}.weight': 'tables.emb_l.{t}.weight',
      'emb_l.{t}.weight_qscale': 'tables.emb_l.{t}.weight_qscale',
      'emb_l.{t}.weight_qbias': 'tables.emb_l.{t}.weight_qbias',
      'v_W_l.{t}': 'tables.emb_l.{t}.row_weights',
      ...layer('bot_l.{2i}', 'bottom.{i}'),
      ...layer('top_l.{2i}', 'top.{i}'),
    }),
  },
  {
    naming: 'torchrec',
    title: 'TorchRec',
    triangle: 'upper',
    rules: rules({
      [`${TORCHREC_TABLE}.weight`]: 'tables.{name}.weight',
      [`${TORCHREC_TABLE}.weight_qscale`]: 'tables.{name}.weight_qscale',
      [`${TORCHREC_TABLE}.weight_qbias`]: 'tables.{name}.weight_qbias',
      ...layer('dense_arch.model._mlp.{i}._linear', 'bottom.{i}'),
      'inter_arch.crossnet.V_kernels.{i}': 'cross.{i}.v',
      'inter_arch.crossnet.W_kernels.{i}': 'cross.{i}.w',
      'inter_arch.crossnet.kernels.{i}': 'cross.{i}.weight',
      'inter_arch.crossnet.bias.{i}': 'cross.{i}.bias',
      ...layer('over_arch.model.0._mlp.{i}._linear', 'top.{i}'),
      ...layer('over_arch.model.1', 'top.last'),
      // SimpleDeepFMNN
      ...layer('dense_arch.model.{2i}', 'bottom.{i}'),
      ...layer('inter_arch.deep_fm.dense_module.{2i}', 'blocks.deep.{i}'),
      ...layer('over_arch.model.{2i}', 'top.{i}'),
      // An EmbeddingBagCollection alone
      'embedding_bags.{name}.weight': 'tables.{name}.weight',
      'embedding_bags.{name}.weight_qscale': 'tables.{name}.weight_qscale',
      'embedding_bags.{name}.weight_qbias': 'tables.{name}.weight_qbias',
    }),
  },
  {
    naming: 'hotrow',
    title: 'Hotrow',
    triangle: 'lower',
    rules: HOTROW_RULES,
  },
];

/** The title of the names that a description maps. */
const OWN = 'own';

/**
 * A convention from a description's own patterns; null stands for what is no part of the model.
 * @throws ModelError DESCRIPTION_INVALID naming the pattern.
 */
export function conventionOf(patterns: Readonly<Record<string, string | null>>): NamingConvention {
  const bare = Object.entries(patterns).map(([from, to]) => [withoutWrappers(from), to] as const);
  const own = rules(Object.fromEntries(bare));
  for (const { from, to } of own) {
    if (to === null) continue;
    const known = HOTROW_RULES.some((rule) => matchesPattern(rule.from.text, to.text));
    const missing = [...to.variables].find((variable) => !from.variables.has(variable));
    if (known && missing === undefined) continue;
    throw new ModelError(
      'DESCRIPTION_INVALID',
      missing === undefined
        ? `/names: ${from.text} becomes ${to.text}, which is none of Hotrow's names`
        : `/names: ${from.text} becomes ${to.text}, and nothing says what {${missing}} is`,
      { value: to.text, hint: `Hotrow's names are ${HOTROW_NAMES.join(', ')}` },
    );
  }
  const made: NamingConvention = { naming: 'hotrow', title: OWN, triangle: 'lower', rules: own };
  ownConventions.add(made);
  return made;
}

/** What conventionOf gave. */
const ownConventions = new WeakSet<object>();

/** Whether a value is a convention: of a known code base, or of a description. */
export function isNamingConvention(value: unknown): value is NamingConvention {
  return (
    typeof value === 'object' &&
    value !== null &&
    (ownConventions.has(value) || CONVENTIONS.includes(value as NamingConvention))
  );
}

/** Whether a pattern (`tables.ads.weight`, `top.{i}.bias`) names what `name` does. */
function matchesPattern(name: string, pattern: string): boolean {
  const example = pattern.replaceAll(/\{name\}/g, 'x').replaceAll(/\{[^{}]*\}/g, '0');
  return new NamePattern(name).match(example)?.prefix === '';
}

/** A parameter under Hotrow's name. */
export interface NamedParameter {
  /** Its name in the checkpoint. */
  readonly name: string;
  readonly rule: NameRule;
  readonly values: PatternValues;
}

/** Names of one code base under one prefix: a whole model, or a part of one. */
export interface RecognisedNames {
  readonly convention: NamingConvention;
  /** What stands before every name of the model, with its dot. */
  readonly prefix: string;
  /** By Hotrow's names, in the order of the names given. */
  readonly parameters: ReadonlyMap<string, NamedParameter>;
  /** Names that the convention knows as no part of the model. */
  readonly ignored: readonly string[];
  readonly hasTables: boolean;
  readonly hasLayers: boolean;
}

const isTable = (canonical: string) => /^tables\..+\.weight$/.test(canonical);

/** Names of one convention under one prefix. */
interface Group {
  readonly parameters: Map<string, NamedParameter>;
  readonly ignored: string[];
}

/**
 * What conventions know among `names`, by convention and prefix.
 * @throws ModelError when two names stand for one parameter: CHECKPOINT_INCONSISTENT, or DESCRIPTION_INVALID where a
 * description's patterns say so.
 */
export function recogniseNames(
  names: readonly string[],
  conventions: readonly NamingConvention[],
): RecognisedNames[] {
  return conventions.flatMap((convention) => {
    const byPrefix = new Map<string, Group>();
    for (const name of names) {
      const found = matchRule(name, convention);
      if (found === undefined) continue;
      const { rule, prefix, values } = found;
      const group: Group = byPrefix.get(prefix) ?? { parameters: new Map(), ignored: [] };
      byPrefix.set(prefix, group);
      if (rule.to === null) {
        group.ignored.push(name);
        continue;
      }
      const canonical = rule.to.fill(values);
      const other = group.parameters.get(canonical);
      if (other !== undefined) {
        const own = convention.title === OWN;
        throw new ModelError(
          own ? 'DESCRIPTION_INVALID' : 'CHECKPOINT_INCONSISTENT',
          `${own ? '/names: ' : ''}${other.name} and ${name} both stand for ${canonical}`,
          { tensor: name },
        );
      }
      group.parameters.set(canonical, { name, rule, values });
    }
    return [...byPrefix].map(([prefix, { parameters, ignored }]) => {
      const known = [...parameters.keys()];
      const hasLayers = known.some((name) => /^(top|bottom|blocks)\./.test(name));
      return { convention, prefix, parameters, ignored, hasTables: known.some(isTable), hasLayers };
    });
  });
}

function matchRule(name: string, { rules: candidates }: NamingConvention) {
  for (const rule of candidates) {
    const match = rule.from.match(name);
    if (match !== undefined) return { rule, ...match };
  }
  return undefined;
}
