/** Tensors that PyTorch spreads over processes: ShardedTensor and DTensor. A file holds one process's part. */
import type { StoredTensor } from '../../tensor.ts';
import { attribute, attributeOf, InertObject, type PickledValue, type Stateful } from './pickled-value.ts';
import { isCounts, SavedTensor, StridedTensor, unsupported } from './saved-tensor.ts';

const GATHER =
  'gather it before saving: torch.distributed.checkpoint.state_dict.get_model_state_dict(model, ' +
  'options=StateDictOptions(full_state_dict=True, cpu_offload=True)), or DTensor.full_tensor(); save that on one process';

/** One process's part of a tensor. It can be had where that is all of it. */
export class DistributedTensor extends SavedTensor implements Stateful {
  #state: PickledValue | undefined;

  /** `type` is the class's name; `size` the whole tensor's shape, where it is known before the state. */
  constructor(
    file: string,
    readonly type: string,
    readonly size?: PickledValue,
  ) {
    super(file);
  }

  setState(state: PickledValue): void {
    this.#state = state;
  }

  stored(name?: string): StoredTensor {
    const { parts, size } = this.#parts();
    const [part] = parts;
    if (parts.length === 1 && part !== undefined && isWhole(part, size)) return part.stored(name);
    const shape = part?.described.shape;
    const held = isCounts(shape) && isCounts(size) ? `; here is [${shape}] of [${size}]` : '';
    const message = `is a ${this.type.split('.').at(-1)}: the state dict is sharded over processes${held}`;
    throw this.refused(unsupported(message, GATHER), name);
  }

  /** This process's parts, and the shape of the whole. */
  #parts(): { parts: StridedTensor[]; size: PickledValue | undefined } {
    const state = this.#state;
    const local = attributeOf(state, '_local_tensor');
    if (local !== undefined) {
      const spec = attributeOf(state, '_spec');
      const size = this.size ?? attribute(attribute(spec, 'tensor_meta'), 'shape');
      const isPart = local instanceof StridedTensor && isPlaced(attribute(spec, 'placements'));
      return { parts: isPart ? [local] : [], size };
    }
    // ShardedTensor's state is (local shards, metadata, process group, sharding spec, …).
    const isTuple = Array.isArray(state) && state.length > 2;
    const shards = isTuple ? state[0] : attributeOf(state, '_local_shards');
    const metadata = isTuple ? state[1] : attributeOf(state, '_metadata');
    const tensors = (Array.isArray(shards) ? shards.slice(0, 2) : []).map((shard) =>
      attribute(shard, 'tensor'),
    );
    return {
      parts: tensors.filter((tensor) => tensor instanceof StridedTensor),
      size: attribute(metadata, 'size') ?? this.size,
    };
  }
}

/** True where every process holds elements, and none holds an addend of them. */
function isPlaced(placements: PickledValue | undefined): boolean {
  return (
    Array.isArray(placements) &&
    placements.every(
      (placement) => placement instanceof InertObject && /\.(Replicate|Shard)$/.test(placement.type),
    )
  );
}

function isWhole(part: StridedTensor, size: PickledValue | undefined): boolean {
  const { shape } = part.described;
  return (
    isCounts(shape) &&
    isCounts(size) &&
    shape.length === size.length &&
    shape.every((extent, axis) => extent === size[axis])
  );
}
