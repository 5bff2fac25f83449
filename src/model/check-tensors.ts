/** The tensors of a checkpoint, as callers give them. */
import { checkTensor } from '../checks/tensor.ts';
import {
  type Check,
  listOf,
  membersOf,
  oneOf,
  optional,
  reading,
  refuseOption,
  shown,
  text,
  whole,
} from '../checks/value.ts';
import { POOLING_MODES } from '../embedding/bag.ts';
import { isStored, type StoredTensor, type StoredTensors } from '../tensor.ts';
import type { ModelArchitecture } from './architecture.ts';
import type { TableOrder } from './checkpoint/table-order.ts';
import {
  type ArchitectureOptions,
  type ArchitectureOverrides,
  inferArchitecture,
} from './infer-architecture.ts';

/** What may be said of a checkpoint's model. */
export const OVERRIDE_MEMBERS = {
  interaction: optional(oneOf(['dot', 'dot-diagonal', 'cat'] as const)),
  mode: optional(oneOf(POOLING_MODES)),
  paddingIdx: optional(whole()),
};

const NAMED_ORDER = membersOf<Extract<TableOrder, object>>({ names: listOf(text), from: text });

const order: Check<TableOrder> = (value, at) =>
  typeof value === 'string' ? oneOf(['saved', 'unsaved'] as const)(value, at) : NAMED_ORDER(value, at);

const OPTIONS = membersOf<ArchitectureOverrides & Pick<ArchitectureOptions, 'order'>>({
  ...OVERRIDE_MEMBERS,
  order: optional(order),
});

/** Named tensors in files; names that share one still do. @throws UsageError OPTION_INVALID; RequestError TENSOR_*. */
export const storedTensors: Check<StoredTensors> = (value, at) => {
  const entries = reading(at, () =>
    value instanceof Map ? [...Map.prototype.entries.call(value)] : undefined,
  );
  if (entries === undefined) return refuseOption(at, value, 'a Map of tensors by name');
  return new Map(
    entries.map(([key, tensor]: [unknown, unknown]): [string, StoredTensor] => {
      if (typeof key !== 'string') return refuseOption(at, key, 'the name of a tensor');
      const own = checkTensor(tensor, `${at} ${shown(key)}`, key);
      return isStored(own) ? [key, own] : refuseOption(at, tensor, `for ${shown(key)} a tensor in files`);
    }),
  );
};

/**
 * Infers the architecture of a checkpoint from its tensors, and checks that everything fits together.
 * @throws ModelError CHECKPOINT_UNRECOGNISED, CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT, ARCHITECTURE_AMBIGUOUS;
 *   UsageError OPTION_INVALID, FILE_*; RequestError TENSOR_* for tensors that are none.
 */
export async function checkedArchitecture(
  tensors: StoredTensors,
  options: ArchitectureOverrides & Pick<ArchitectureOptions, 'order'> = {},
): Promise<ModelArchitecture> {
  const own = OPTIONS(options, 'inferArchitecture');
  return inferArchitecture(storedTensors(tensors, 'inferArchitecture: tensors'), own);
}
