/** Architectures of callers, checked and copied before anything is placed: every block fits those before. */
import {
  type Check,
  listOf,
  type Members,
  membersOf,
  oneOf,
  optional,
  record,
  text,
} from '../checks/value.ts';
import { BLOCKS } from '../dense/blocks.ts';
import { linearLayer } from '../dense/linear.ts';
import { inconsistent } from '../dense/weights.ts';
import type { DlrmArchitecture, Interaction } from './architecture.ts';
import { checkInputsFit, MODEL_MEMBERS } from './check-model.ts';
import { headOf } from './head.ts';

const INTERACTIONS: Readonly<{ [K in Interaction['kind']]: Check<Extract<Interaction, { kind: K }>> }> = {
  dot: membersOf(BLOCKS.dot.members),
  cat: membersOf<Extract<Interaction, { kind: 'cat' }>>({ kind: oneOf(['cat']) }),
  cross: membersOf(BLOCKS.cross.members),
};

const interaction: Check<Interaction> = (value, at) => {
  const kinds = Object.keys(INTERACTIONS) as Interaction['kind'][];
  return INTERACTIONS[oneOf(kinds)(record(value, at).kind, `${at}.kind`)](value, at);
};

const members = membersOf<DlrmArchitecture>({
  ...MODEL_MEMBERS,
  bottom: listOf(linearLayer),
  interaction,
  top: listOf(linearLayer),
  output: optional(oneOf(['probability', 'logit'])),
  notes: optional(listOf(text)),
} satisfies Members<DlrmArchitecture>);

/**
 * The architecture that a value is, read once, frozen.
 * @throws UsageError OPTION_INVALID for members that are not what they must be, RequestError TENSOR_* for tensors; ModelError
 *   CHECKPOINT_INCONSISTENT for blocks that do not fit each other.
 */
export function checkArchitecture(value: unknown): DlrmArchitecture {
  const own = members(value, 'architecture');
  const [output] = headOf(own).outputs;
  if (output?.width !== 1)
    inconsistent(`the top MLP ends with ${output?.width} outputs, a click model has 1`);
  checkInputsFit(own);
  return Object.freeze(own);
}
