/** Heads of other models than DLRMs: as a description has them, TorchRec's SimpleDeepFMNN, tables alone. */
import { at } from '../at.ts';
import type { StoredLayer } from '../dense/block.ts';
import { BLOCKS, type BlockContent, type BlockName, kindOf } from '../dense/blocks.ts';
import { ModelError } from '../errors.ts';
import type { BlocksArchitecture } from './architecture.ts';
import type { Block, BlockList } from './block-list.ts';
import type { CheckpointParts } from './checkpoint/checkpoint-parts.ts';
import { badDescription, type DescribedBlock, type ModelDescription } from './description/description.ts';
import { headOf, type RefuseHead } from './head.ts';

/** Blocks that DLRMs have; what has others is none. */
const DLRM_BLOCKS = new Set(['bottom', 'cross', 'top']);

type Layers = CheckpointParts['layers'];
type Description = Pick<ModelDescription, 'blocks' | 'outputs' | 'output' | 'dense'>;

/**
 * The head of a model that is no DLRM; undefined: it is one.
 * @throws ModelError DESCRIPTION_INVALID naming the block; CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT.
 */
export function generalHead(layers: Layers, description: Description): BlockList | undefined {
  if (description.blocks !== undefined) return describedHead(layers, description.blocks, description);
  if (layers.size === 0) return { blocks: [], outputs: ['pooled'] };
  if (layers.has('deep')) return deepFmHead(layers, description);
  const odd = [...layers.keys()].find((name) => !DLRM_BLOCKS.has(name));
  if (odd === undefined) return undefined;
  const [parameter] = parametersOf(layers, odd);
  throw new ModelError(
    'CHECKPOINT_UNSUPPORTED',
    `${parameter} belongs to block ${JSON.stringify(odd)}, and nothing says what that takes`,
    {
      hint: 'describe the head in a model description: "blocks" and "outputs" (docs/model-description.md)',
      ...(parameter === undefined ? {} : { tensor: parameter }),
    },
  );
}

/**
 * TorchRec's SimpleDeepFMNN (torchrec/models/deepfm.py): of the bottom MLP's output and all pooled rows, side by side, the deep
 * interaction is an MLP and the FM interaction one number; both stand behind the bottom MLP's output in front of the top layer.
 */
function deepFmHead(layers: Layers, { output }: Description): BlockList {
  const vectors = ['bottom', 'pooled'];
  const mlp = (name: string, inputs: readonly string[], last: 'relu' | 'sigmoid' | 'none'): Block => ({
    ...BLOCKS.mlp.stored({ described: {}, layers: layers.get(name) ?? [], last }),
    name,
    inputs,
  });
  return {
    blocks: [
      mlp('bottom', ['dense'], 'relu'),
      mlp('deep', vectors, 'relu'),
      { name: 'fm', kind: 'factorization-machine', inputs: vectors },
      mlp('top', ['bottom', 'deep', 'fm'], output === 'logit' ? 'none' : 'sigmoid'),
    ],
    outputs: ['top'],
  };
}

/** Members of a described block that are no option of its kind. */
const PLACE = new Set(['name', 'kind', 'inputs', 'part']);

function describedHead(
  layers: Layers,
  blocks: readonly DescribedBlock[],
  { outputs = [], output }: Description,
): BlockList {
  const known = new Set(blocks.map(({ name }) => name));
  const left = [...layers.keys()].find((name) => !known.has(name));
  if (left !== undefined) {
    const [parameter] = parametersOf(layers, left);
    throw badDescription('/blocks', `has no block ${JSON.stringify(left)}, to which ${parameter} belongs`);
  }
  const ends = output === 'logit' ? 'none' : 'sigmoid';
  return {
    outputs,
    blocks: blocks.map((given, i): Block => {
      const { name, kind, inputs, part } = given;
      const described = Object.fromEntries(Object.entries(given).filter(([key]) => !PLACE.has(key)));
      const last = outputs.includes(name) ? ends : 'relu';
      const stored = { described, layers: layers.get(name) ?? [], last } as const;
      const content = atBlock(i, () => BLOCKS[kind as BlockName].stored(stored) as BlockContent);
      return { ...content, name, inputs, ...(part === undefined ? {} : { part }) };
    }),
  };
}

/** Runs `work`; parameters that do not fit a described block are told by its place. */
function atBlock<T>(i: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ModelError) || error.code !== 'CHECKPOINT_INCONSISTENT') throw error;
    throw badDescription(`/blocks/${i}`, `does not fit the checkpoint: ${error.message}`);
  }
}

function parametersOf(layers: Layers, name: string): string[] {
  const parts = (layers.get(name) ?? []).flatMap((layer: StoredLayer) => Object.values(layer));
  return parts.flatMap((parameter) => (parameter === undefined ? [] : [parameter.name]));
}

/** How many dense features a head takes. @throws ModelError DESCRIPTION_INVALID where nothing says it. */
export function denseFeaturesOf({ blocks }: BlockList, { dense }: Description): number {
  const takers = blocks.filter(({ inputs }) => inputs.includes('dense'));
  if (takers.length === 0) return 0;
  for (const block of takers) {
    if (block.inputs.length > 1) continue;
    if (block.kind === 'mlp' && block.layers.length > 0) return at(block.layers, 0).inputs;
    if (block.kind === 'cross' && block.layers.length > 0) return at(block.layers, 0).width;
  }
  if (dense !== undefined) return dense.length;
  throw badDescription('/dense', 'is missing: nothing else says how many dense features the model takes');
}

/**
 * Checks that a head fits its tables, and that what it gives is what predictions say of it.
 * @throws ModelError DESCRIPTION_INVALID naming the member of a described head; CHECKPOINT_INCONSISTENT, CHECKPOINT_UNSUPPORTED.
 */
export function checkHead(
  architecture: BlocksArchitecture,
  { blocks: described, output }: Description,
): void {
  const refuse: RefuseHead = (key, message) => {
    throw badDescription(key, message);
  };
  if (described === undefined) {
    headOf(architecture, (_, message) => {
      throw new ModelError('CHECKPOINT_INCONSISTENT', message, {
        hint: 'where features share a table, list them in a model description: hotrow inspect MODEL --write-description FILE',
      });
    });
    return;
  }
  const head = headOf(architecture, refuse);
  if (head.answer !== 'probabilities') {
    if (output !== undefined) refuse('/output', 'is said of models with one output of one column');
    return;
  }
  const last = architecture.blocks.findIndex(({ name }) => name === architecture.outputs[0]);
  const block = at(architecture.blocks, last);
  const ends = block.kind === 'mlp' ? block.layers.at(-1)?.activation : 'none';
  const wanted = output === 'logit' ? 'none' : 'sigmoid';
  if (ends !== wanted)
    refuse(
      `/blocks/${last}`,
      `ends with ${ends}, which gives no ${output ?? 'probability'}: "output" may be "probability", after a sigmoid, or "logit", after none`,
    );
}

/** How a description has a block. */
export function describeBlock(block: Block): DescribedBlock {
  const { name, kind, inputs, part } = block;
  const place = { name, kind, inputs: [...inputs], ...(part === undefined ? {} : { part }) };
  return { ...place, ...kindOf(block).describe(block) };
}
