/** The head of a model: its blocks wired, every name resolved and every width known. */
import { at } from '../at.ts';
import { sum } from '../dense/block.ts';
import { kindOf } from '../dense/blocks.ts';
import { ModelError } from '../errors.ts';
import type { DlrmArchitecture, ModelArchitecture } from './architecture.ts';
import type { Block, BlockList, Part } from './block-list.ts';

/** What blocks may take without one before. */
export const INPUTS = ['dense', 'pooled'] as const;

const MOST_BLOCKS = 4096;

/** A matrix of a head: an input, or what a block gives. */
export interface Value {
  readonly name: string;
  /** Widths of the vectors that stand side by side in it. */
  readonly vectors: readonly number[];
  readonly width: number;
}

/** A block whose inputs are known. */
export interface WiredBlock {
  readonly block: Block;
  readonly part: Part;
  readonly inputs: readonly Value[];
  /** Of all inputs. */
  readonly vectors: readonly number[];
  readonly output: Value;
}

/**
 * What predictions of a model give: `probabilities` of one output of one column, `pooled` rows of tables alone, else all
 * `outputs` by their names.
 */
export type Answer = 'probabilities' | 'pooled' | 'outputs';

/** A head that can be placed. */
export interface Head {
  readonly blocks: readonly WiredBlock[];
  readonly outputs: readonly Value[];
  readonly answer: Answer;
  /** Undefined where the model has no dense features. */
  readonly dense?: Value;
  readonly pooled: Value;
}

/** Refuses a head; `key` is the place of what is wrong with it, as /blocks/0/inputs. */
export type RefuseHead = (key: string, message: string) => never;

const refuseArchitecture: RefuseHead = (_, message) => {
  throw new ModelError('CHECKPOINT_INCONSISTENT', message);
};

/** A DLRM's three parts as blocks. */
function dlrmBlocks({ bottom, interaction, top }: DlrmArchitecture): BlockList {
  const vectors = ['bottom', 'pooled'];
  const first: Block = { name: 'bottom', kind: 'mlp', layers: bottom, inputs: ['dense'] };
  const last = (inputs: readonly string[]): Block => ({ name: 'top', kind: 'mlp', layers: top, inputs });
  const outputs = ['top'];
  switch (interaction.kind) {
    case 'cat':
      return { blocks: [first, last(vectors)], outputs };
    case 'dot':
    case 'cross': {
      const between: Block = { name: 'interaction', ...interaction, inputs: vectors };
      const taken = interaction.kind === 'dot' ? ['bottom', 'interaction'] : ['interaction'];
      return { blocks: [first, between, last(taken)], outputs };
    }
    default:
      return interaction satisfies never;
  }
}

/** The blocks of a model; a DLRM's are those of its three parts. */
export function blocksOf(architecture: ModelArchitecture): BlockList {
  return 'blocks' in architecture ? architecture : dlrmBlocks(architecture);
}

/**
 * Wires a model's blocks.
 * @throws ModelError CHECKPOINT_INCONSISTENT, or what `refuse` does, for blocks of one name, an input that is unknown or stands
 *   behind what takes it, widths that do not fit, a block that nothing takes, and a head without outputs.
 */
export function headOf(architecture: ModelArchitecture, refuse: RefuseHead = refuseArchitecture): Head {
  const { tables, denseFeatures } = architecture;
  const dims = tables.map(({ dim }) => dim);
  const dense: Value = { name: 'dense', vectors: [denseFeatures], width: denseFeatures };
  const pooled: Value = { name: 'pooled', vectors: dims, width: sum(dims) };
  const list = blocksOf(architecture);
  const values = new Map([[pooled.name, pooled]]);
  if (denseFeatures > 0) values.set(dense.name, dense);
  checkNames(list, values, refuse);
  const blocks: WiredBlock[] = [];
  const afterPooled = new Set(['pooled']);
  list.blocks.forEach((block, i) => {
    const inputs = block.inputs.map((name) => values.get(name) as Value);
    const vectors = inputs.flatMap((input) => input.vectors);
    const width = widthOf(block, vectors, (message) =>
      refuse(`/blocks/${i}`, `block ${quoted(block.name)}: ${message}`),
    );
    const output = { name: block.name, vectors: [width], width };
    values.set(block.name, output);
    if (block.inputs.some((name) => afterPooled.has(name))) afterPooled.add(block.name);
    const part = block.part ?? partOf(block.name, list.outputs, afterPooled);
    blocks.push({ block, part, inputs, vectors, output });
  });
  const outputs = list.outputs.map((name) => values.get(name) as Value);
  return { blocks, outputs, answer: answerOf(outputs), pooled, ...(denseFeatures > 0 ? { dense } : {}) };
}

function answerOf(outputs: readonly Value[]): Answer {
  const [only] = outputs;
  if (only === undefined || outputs.length > 1) return 'outputs';
  if (only.name === 'pooled') return 'pooled';
  return only.width === 1 ? 'probabilities' : 'outputs';
}

function partOf(name: string, outputs: readonly string[], afterPooled: ReadonlySet<string>): Part {
  if (!afterPooled.has(name)) return 'bottom';
  return outputs.includes(name) ? 'top' : 'interaction';
}

function widthOf(block: Block, vectors: readonly number[], refuse: (message: string) => never): number {
  try {
    const width = kindOf(block).width(block, vectors);
    return width > 0 ? width : refuse('gives nothing');
  } catch (error) {
    if (!(error instanceof ModelError) || error.code !== 'CHECKPOINT_INCONSISTENT') throw error;
    return refuse(error.message);
  }
}

/** Every name means one thing, stands before what takes it, and is used. */
function checkNames(
  { blocks, outputs }: BlockList,
  inputs: ReadonlyMap<string, Value>,
  refuse: RefuseHead,
): void {
  if (blocks.length > MOST_BLOCKS) refuse('/blocks', `has ${blocks.length} blocks, at most ${MOST_BLOCKS}`);
  const own = new Map(blocks.map(({ name }, i) => [name, i]));
  const known = [...inputs.keys()].join(', ');
  const used = new Set<string>();
  const seen = new Set<string>(INPUTS);
  blocks.forEach(({ name }, i) => {
    if (seen.has(name)) refuse(`/blocks/${i}/name`, `${quoted(name)} stands for two things`);
    seen.add(name);
  });
  blocks.forEach((block, i) => {
    const what = `block ${quoted(block.name)}`;
    if (block.inputs.length === 0) refuse(`/blocks/${i}/inputs`, `${what} takes nothing`);
    block.inputs.forEach((name, j) => {
      const key = `/blocks/${i}/inputs/${j}`;
      if (block.inputs.indexOf(name) < j) refuse(key, `${what} takes ${quoted(name)} twice`);
      if ((own.get(name) ?? -1) >= i)
        refuse(key, `${what} takes ${quoted(name)}, which does not stand before it: there may be no cycle`);
      if (!own.has(name) && !inputs.has(name))
        refuse(
          key,
          `${what} takes ${quoted(name)}, which is none of the model's inputs (${known}), nor a block`,
        );
      used.add(name);
    });
  });
  if (outputs.length === 0) refuse('/outputs', 'the model has no output');
  outputs.forEach((name, i) => {
    const key = `/outputs/${i}`;
    if (outputs.indexOf(name) < i) refuse(key, `output ${quoted(name)} stands twice`);
    if (!own.has(name) && name !== 'pooled') refuse(key, `output ${quoted(name)} is no block, nor pooled`);
    used.add(name);
  });
  const idle = blocks.findIndex(({ name }) => !used.has(name));
  if (idle >= 0)
    refuse(
      `/blocks/${idle}`,
      `nothing takes what block ${quoted(at(blocks, idle).name)} gives, and it is no output`,
    );
  for (const name of inputs.keys()) if (!used.has(name)) refuse('/blocks', `no block takes ${quoted(name)}`);
}

const quoted = (text: string) => JSON.stringify(text);
