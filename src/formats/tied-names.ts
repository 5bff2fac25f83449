/**
 * Tied parameters of safetensors, which holds each only once: metadata gives the others' names, `{"alias": "kept name"}`, as
 * safetensors.torch.save_model and huggingface_hub write it.
 */
import type { StoredTensors } from '../tensor.ts';

/** The tensors that `metadata` names once more, by those names; all else in it is no alias. */
export function tiedNames(
  metadata: Readonly<Record<string, unknown>>,
  tensors: StoredTensors,
): StoredTensors {
  const tied = Object.entries(metadata).flatMap(([alias, kept]) => {
    const tensor = typeof kept === 'string' && !tensors.has(alias) ? tensors.get(kept) : undefined;
    return tensor === undefined ? [] : [[alias, tensor] as const];
  });
  return new Map(tied);
}
