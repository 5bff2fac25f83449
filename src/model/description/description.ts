/**
 * Model descriptions (`NAME.hotrow.json`): what a state dict cannot say of its model. JSON, versioned, checked against
 * schemas/model-description-1.schema.json before anything is read.
 */
import { realpath } from 'node:fs/promises';
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { BLOCK_NAMES, BLOCKS, type BlockName } from '../../dense/blocks.ts';
import { fromFile, ModelError, namedIn } from '../../errors.ts';
import { readJsonFile } from '../../formats/json-file.ts';
import { PARTS, type Part } from '../block-list.ts';
import { ID_HASHES, PREPROCESSING } from '../inputs.ts';
import { schemaMisfit } from './schema-misfit.ts';

export const DESCRIPTION_VERSION = 1;
export const DESCRIPTION_KIND = 'model';
export const DESCRIPTION_SUFFIX = '.hotrow.json';

const closed = { additionalProperties: false } as const;
const name = (description: string) => Type.String({ minLength: 1, description });
const ids = Type.Union([Type.Array(Type.String()), Type.Array(Type.Integer())]);

const idsSchema = Type.Union(
  [
    Type.Literal('rows'),
    Type.Object(
      {
        vocabulary: Type.Union([ids, name('a JSON file with the list, relative to the description')], {
          description: 'ids in row order: integers or strings, not both',
        }),
      },
      closed,
    ),
    Type.Object(
      {
        hash: Type.Enum([...ID_HASHES]),
        seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1, description: 'default: 0' })),
        modulus: Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }),
      },
      { ...closed, description: 'row = hash(id, seed) mod modulus (docs/id-hashes.md)' },
    ),
  ],
  { description: 'how an id becomes a row; default: ids are rows' },
);

const featureSchema = Type.Object(
  {
    name: name('of the feature, in requests'),
    table: name('the table that it reads; several features may read one'),
    pooling: Type.Optional(Type.Enum(['sum', 'mean', 'max'], { description: 'default: sum' })),
    paddingRow: Type.Optional(
      Type.Integer({ minimum: 0, description: 'a row that lookups skip, and that the mean does not count' }),
    ),
    pruned: Type.Optional(
      Type.Boolean({
        description:
          'whether index −1 is a pruned row: it adds nothing and counts for the mean; default: it is an error',
      }),
    ),
    weighted: Type.Optional(
      Type.Boolean({ description: 'whether every lookup brings a weight; default: it may' }),
    ),
    longestBag: Type.Optional(Type.Integer({ minimum: 0, description: 'lookups of a bag, at most' })),
    ids: Type.Optional(idsSchema),
    unknown: Type.Optional(
      Type.Union(
        [
          Type.Literal('error'),
          Type.Literal('skip'),
          Type.Object({ row: Type.Integer({ minimum: 0 }) }, closed),
        ],
        { description: 'what an unknown id becomes; default: error' },
      ),
    ),
    missing: Type.Optional(
      Type.Union([Type.Literal('error'), Type.Literal('empty'), Type.Object({ ids }, closed)], {
        description: 'what a request without the feature gets; default: error',
      }),
    ),
  },
  closed,
);

const part = Type.Enum([...PARTS], {
  description: 'what its time counts for; default: bottom before pooled rows, top for outputs, interaction',
});

const blockSchemas = BLOCK_NAMES.map((kind) =>
  Type.Object(
    {
      name: name('of the block; its parameters are blocks.{name}.{i}.weight …'),
      kind: Type.Literal(kind),
      inputs: Type.Array(Type.String(), {
        minItems: 1,
        description: 'what it takes, side by side: dense, pooled, names of blocks before it',
      }),
      part: Type.Optional(part),
      ...BLOCKS[kind].schema,
    },
    closed,
  ),
);

/** A block, with the options of its kind. */
export interface DescribedBlock {
  readonly name: string;
  readonly kind: BlockName;
  readonly inputs: readonly string[];
  readonly part?: Part;
  readonly [option: string]: unknown;
}

const activations = Type.Array(Type.Enum(['none', 'relu', 'sigmoid']), {
  description: 'one for each layer',
});

export const descriptionSchema = Type.Object(
  {
    $schema: Type.Optional(Type.String()),
    kind: Type.Literal(DESCRIPTION_KIND),
    version: Type.Literal(DESCRIPTION_VERSION),
    checkpoint: name('the checkpoint, relative to the description'),
    prefix: Type.Optional(
      Type.String({ description: "what stands before the model's parameter names, with its last dot" }),
    ),
    names: Type.Optional(
      Type.Record(Type.String(), Type.Union([Type.String(), Type.Null()]), {
        description: "patterns of own parameter names onto Hotrow's; null: no part of the model",
      }),
    ),
    tables: Type.Optional(
      Type.Array(
        Type.Object(
          {
            name: name('of the table'),
            dim: Type.Optional(Type.Integer({ minimum: 1, description: 'of quantised rows' })),
            rowFormat: Type.Optional(
              Type.Enum(['int8', 'int4'], { description: 'of quantised rows, where shapes fit several' }),
            ),
          },
          closed,
        ),
        { description: 'every table of the checkpoint' },
      ),
    ),
    features: Type.Optional(
      Type.Array(featureSchema, {
        description: "in the model's order; default: one for each table, in the order of tables",
      }),
    ),
    dense: Type.Optional(
      Type.Array(
        Type.Object(
          { name: name('of the number, in requests'), preprocessing: Type.Enum([...PREPROCESSING]) },
          closed,
        ),
        { description: "in the order of the bottom MLP's inputs" },
      ),
    ),
    interaction: Type.Optional(Type.Enum(['dot', 'dot-diagonal', 'cat', 'cross'])),
    triangle: Type.Optional(
      Type.Enum(['lower', 'upper'], {
        description: "the order of dot's pairs: facebookresearch/dlrm's or TorchRec's triangle",
      }),
    ),
    activations: Type.Optional(
      Type.Object({ bottom: Type.Optional(activations), top: Type.Optional(activations) }, closed),
    ),
    blocks: Type.Optional(
      Type.Array(Type.Unsafe<DescribedBlock>(Type.Union(blockSchemas)), {
        description: 'the head of a model that is no DLRM, in an order in which its blocks can run',
      }),
    ),
    outputs: Type.Optional(
      Type.Array(Type.String(), {
        description: 'blocks whose results predictions give, or pooled; beside blocks',
      }),
    ),
    output: Type.Optional(
      Type.Enum(['probability', 'logit'], {
        description: 'what predictions give; default: probability, the sigmoid of the last layer',
      }),
    ),
    guesses: Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description: 'members that were guessed, and why; take out what you have confirmed',
      }),
    ),
  },
  { ...closed, $id: 'hotrow-model-description-1', title: 'Hotrow model description, version 1' },
);

export type ModelDescription = Readonly<Static<typeof descriptionSchema>>;
export type DescribedFeature = Readonly<Static<typeof featureSchema>>;

/** A member of a description that cannot be; `key` is its place, as /features/0/table. */
export function badDescription(key: string, message: string, hint?: string): ModelError {
  return new ModelError('DESCRIPTION_INVALID', `${key} ${message}`, {
    value: key,
    ...(hint === undefined ? {} : { hint }),
  });
}

/**
 * Checks a description's form, and that its members agree with each other.
 * @throws ModelError DESCRIPTION_INVALID naming the member.
 */
export function parseDescription(value: unknown): ModelDescription {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw badDescription(
      '/',
      'is not an object',
      'a model description is a JSON object (docs/model-description.md)',
    );
  const { kind, version } = value as { kind?: unknown; version?: unknown };
  if (kind !== DESCRIPTION_KIND)
    throw badDescription(
      '/kind',
      `is ${JSON.stringify(kind) ?? 'missing'}, a model description says "${DESCRIPTION_KIND}"`,
    );
  if (version !== DESCRIPTION_VERSION) {
    throw badDescription(
      '/version',
      `is ${JSON.stringify(version) ?? 'missing'}, this Hotrow reads version ${DESCRIPTION_VERSION}`,
    );
  }
  if (!Value.Check(descriptionSchema, value)) {
    const misfit = schemaMisfit(descriptionSchema, value);
    throw badDescription(
      misfit?.at || '/',
      misfit?.message ?? 'does not fit the schema',
      'docs/model-description.md lists every member',
    );
  }
  checkAgreement(value);
  checkBlocks(value);
  return value;
}

/** Each is tried on every name of the checkpoint. */
const MAX_PATTERNS = 1024;

/** Members that say of a DLRM what `blocks` say of any model. */
const DLRM_MEMBERS = ['interaction', 'triangle', 'activations'] as const;

function checkBlocks(description: ModelDescription): void {
  const { blocks, outputs } = description;
  if (blocks === undefined) {
    if (outputs !== undefined) throw badDescription('/outputs', 'stands without blocks');
    return;
  }
  if (outputs === undefined || outputs.length === 0)
    throw badDescription('/outputs', 'names nothing: a model gives something');
  const member = DLRM_MEMBERS.find((key) => description[key] !== undefined);
  if (member !== undefined) throw badDescription(`/${member}`, 'is said by blocks, where there are any');
}

function checkAgreement({ tables, features = [], dense = [], names = {} }: ModelDescription): void {
  const unique = (list: readonly { readonly name: string }[], key: string) => {
    const seen = new Set<string>();
    list.forEach(({ name: own }, i) => {
      if (seen.has(own)) throw badDescription(`/${key}/${i}/name`, `${JSON.stringify(own)} stands twice`);
      seen.add(own);
    });
    return seen;
  };
  const known = tables === undefined ? undefined : unique(tables, 'tables');
  unique(features, 'features');
  unique(dense, 'dense');
  features.forEach((feature, i) => {
    const at = `/features/${i}`;
    if (known !== undefined && !known.has(feature.table))
      throw badDescription(`${at}/table`, `${JSON.stringify(feature.table)} is none of the tables`);
    checkFeature(feature, at);
  });
  const read = new Set(features.map(({ table }) => table));
  const unread = features.length === 0 ? -1 : (tables ?? []).findIndex((table) => !read.has(table.name));
  if (unread >= 0) {
    throw badDescription(
      `/tables/${unread}`,
      `${JSON.stringify(tables?.[unread]?.name)} is read by no feature`,
      'give it a feature, or set its parameter aside in "names"',
    );
  }
  const patterns = Object.entries(names);
  if (patterns.length > MAX_PATTERNS)
    throw badDescription('/names', `has more than ${MAX_PATTERNS} patterns`);
  for (const [from, to] of patterns) {
    if (to !== null && from === '') throw badDescription('/names', 'has an empty pattern');
  }
}

/** The vocabulary, where it is not in a file of its own. */
function vocabularyOf(rule: DescribedFeature['ids']): readonly string[] | readonly number[] | undefined {
  if (typeof rule !== 'object' || !('vocabulary' in rule)) return undefined;
  return typeof rule.vocabulary === 'string' ? undefined : rule.vocabulary;
}

/** Longer vocabularies are looked through when the first request uses them. */
const MAX_LOOKED_THROUGH = 1 << 20;

/** The first value that stands twice. */
function repeated(values: readonly string[] | readonly number[]): string | number | undefined {
  if (values.length > MAX_LOOKED_THROUGH) return undefined;
  const seen = new Set<string | number>();
  for (const value of values) {
    if (seen.has(value)) return value;
    seen.add(value);
  }
  return undefined;
}

function checkFeature(feature: DescribedFeature, at: string): void {
  const { pooling = 'sum', weighted, ids: rule = 'rows', unknown = 'error', missing } = feature;
  const vocabulary = vocabularyOf(rule);
  const twice = vocabulary === undefined ? undefined : repeated(vocabulary);
  if (twice !== undefined)
    throw badDescription(`${at}/ids/vocabulary`, `has ${JSON.stringify(twice)} twice: an id has one row`);
  if (weighted === true && pooling !== 'sum')
    throw badDescription(`${at}/weighted`, `contradicts pooling ${pooling}: weights go with sum alone`);
  if (rule === 'rows' && unknown !== 'error')
    throw badDescription(`${at}/unknown`, 'says what unknown ids become, and its ids are rows');
  if (typeof rule === 'object' && 'hash' in rule && typeof unknown === 'object')
    throw badDescription(`${at}/unknown`, 'gives unknown ids a row, and every id has a hash');
  if (typeof rule === 'object' && 'hash' in rule && typeof missing === 'object') return;
  if (typeof missing !== 'object' || missing.ids.length === 0) return;
  const strings = typeof missing.ids[0] === 'string';
  if (rule === 'rows' && strings)
    throw badDescription(`${at}/missing/ids`, 'are strings, and its ids are rows');
  if (vocabulary === undefined || vocabulary.length === 0) return;
  if (strings !== (typeof vocabulary[0] === 'string'))
    throw badDescription(`${at}/missing/ids`, 'are of another kind than the vocabulary');
  if (unknown !== 'error') return;
  const given: readonly (string | number)[] = missing.ids;
  const wanted = new Set(given);
  const found = new Set<string | number>();
  for (const id of vocabulary) if (wanted.has(id)) found.add(id);
  const absent = given.find((id) => !found.has(id));
  if (absent !== undefined)
    throw badDescription(`${at}/missing/ids`, `has ${JSON.stringify(absent)}, which the vocabulary lacks`);
}

/** A description, where it was read from, and the checkpoint that it names. */
export interface FoundDescription {
  readonly description: ModelDescription;
  readonly file: string;
  /** The checkpoint's path, resolved. */
  readonly checkpoint: string;
  /** Files of vocabularies that were read for it. */
  readonly vocabularies: readonly string[];
}

export interface ReadDescriptionOptions {
  /** Refuse checkpoints and vocabularies outside the description's folder. Default: false. */
  readonly confined?: boolean;
}

/**
 * Reads a description.
 * @throws UsageError FILE_*; FormatError JSON_INVALID; ModelError DESCRIPTION_INVALID naming file and member.
 */
export async function readDescription(
  file: string,
  { confined = false }: ReadDescriptionOptions = {},
): Promise<FoundDescription> {
  return fromFile(file, async () => {
    const description = parseDescription(await readJsonFile(file, 'description'));
    const checkpoint = await pathBeside(file, description.checkpoint, '/checkpoint', confined);
    const vocabularies: string[] = [];
    if (description.features === undefined) return { description, file, checkpoint, vocabularies };
    const features: DescribedFeature[] = [];
    for (const [i, feature] of description.features.entries())
      features.push(await withVocabulary(file, feature, `/features/${i}`, { confined, vocabularies }));
    return { description: { ...description, features }, file, checkpoint, vocabularies };
  });
}

/** `path` resolved beside `file`. @throws ModelError DESCRIPTION_INVALID for one that leaves its folder where it must not. */
async function pathBeside(file: string, path: string, key: string, confined: boolean): Promise<string> {
  const folder = dirname(resolve(file));
  const resolved = resolve(folder, path);
  if (!confined) return resolved;
  // Links may lead out of the folder too; what does not exist is refused by whoever opens it.
  const real = (target: string) => realpath(target).catch(() => target);
  for (const [from, to] of [
    [folder, resolved],
    [await real(folder), await real(resolved)],
  ] as const) {
    const inside = relative(from, to);
    if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside))
      throw badDescription(key, `${JSON.stringify(path)} leaves the description's folder`);
  }
  return resolved;
}

/** A feature with its vocabulary in place of the file that holds it, which is added to `vocabularies`. */
async function withVocabulary(
  file: string,
  feature: DescribedFeature,
  at: string,
  { confined, vocabularies }: { readonly confined: boolean; readonly vocabularies: string[] },
): Promise<DescribedFeature> {
  const { ids: rule } = feature;
  if (typeof rule !== 'object' || !('vocabulary' in rule) || typeof rule.vocabulary !== 'string')
    return feature;
  const key = `${at}/ids/vocabulary`;
  const path = await pathBeside(file, rule.vocabulary, key, confined);
  vocabularies.push(path);
  const list = await namedIn(`${file}: ${key}`, () => readJsonFile(path, 'ids'));
  if (!Value.Check(ids, list)) throw badDescription(key, `${path} is not a list of strings or of integers`);
  const described = { ...feature, ids: { vocabulary: list } };
  checkFeature(described, at);
  return described;
}
