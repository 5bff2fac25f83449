/** What wrappers add to names anywhere: DistributedDataParallel, torch.compile, FSDP, activation checkpointing, TorchRec, DeepSpeed. */
const WRAPPER_PARTS = new Set([
  'module',
  '_orig_mod',
  '_fsdp_wrapped_module',
  '_checkpoint_wrapped_module',
  '_dmp_wrapped_module',
  '_forward_module',
]);

/** A parameter's name, a prefix of names or a pattern of them, without the parts that wrappers add. */
export function withoutWrappers(name: string): string {
  const parts = name.split('.');
  return parts.some((part) => WRAPPER_PARTS.has(part))
    ? parts.filter((part) => !WRAPPER_PARTS.has(part)).join('.')
    : name;
}
