/** Architectures of callers, checked and copied before anything is placed: every block fits those before. */
import {
  kindsOf,
  listOf,
  type Members,
  membersOf,
  oneOf,
  optional,
  reading,
  record,
  text,
} from '../checks/value.ts';
import { BLOCK_NAMES, BLOCKS } from '../dense/blocks.ts';
import { linearLayer } from '../dense/linear.ts';
import { inconsistent } from '../dense/weights.ts';
import type { BlocksArchitecture, DlrmArchitecture, Interaction, ModelArchitecture } from './architecture.ts';
import { type Block, PARTS } from './block-list.ts';
import { checkInputsFit, MODEL_MEMBERS } from './check-model.ts';
import { headOf } from './head.ts';

const interaction = kindsOf<Interaction['kind'], Interaction>('kind', {
  dot: membersOf(BLOCKS.dot.members),
  cat: membersOf<Extract<Interaction, { kind: 'cat' }>>({ kind: oneOf(['cat']) }),
  cross: membersOf(BLOCKS.cross.members),
});

const common = {
  ...MODEL_MEMBERS,
  output: optional(oneOf(['probability', 'logit'] as const)),
  notes: optional(listOf(text)),
};

const dlrm = membersOf<DlrmArchitecture>({
  ...common,
  bottom: listOf(linearLayer),
  interaction,
  top: listOf(linearLayer),
} satisfies Members<DlrmArchitecture>);

const place = { name: text, inputs: listOf(text), part: optional(oneOf(PARTS)) };

/** A block of any kind. */
const block = kindsOf(
  'kind',
  Object.fromEntries(
    BLOCK_NAMES.map((kind) => [kind, membersOf({ ...place, ...BLOCKS[kind].members } as Members<Block>)]),
  ),
);

const general = membersOf<BlocksArchitecture>({
  ...common,
  blocks: listOf(block),
  outputs: listOf(text),
} satisfies Members<BlocksArchitecture>);

/**
 * The architecture that a value is, read once, frozen: one with `blocks`, or else a DLRM's.
 * @throws UsageError OPTION_INVALID for members that are not what they must be, RequestError TENSOR_* for tensors; ModelError
 *   CHECKPOINT_INCONSISTENT for blocks that do not fit each other.
 */
export function checkArchitecture(value: unknown): ModelArchitecture {
  const given = record(value, 'architecture');
  const isGeneral = reading('architecture', () => given.blocks !== undefined);
  const own = (isGeneral ? general : dlrm)(value, 'architecture');
  const head = headOf(own);
  if (!isGeneral && head.outputs[0]?.width !== 1)
    inconsistent(`the top MLP ends with ${head.outputs[0]?.width} outputs, a click model has 1`);
  if (own.output === 'logit' && head.answer !== 'probabilities')
    inconsistent('the output is to be a logit, and the model has another one than a single column');
  checkInputsFit(own);
  return Object.freeze(own);
}
