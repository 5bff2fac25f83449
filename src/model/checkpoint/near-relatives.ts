/** Models that compute something else than a DLRM, known by their parameters' names; and names that compute nothing. */
import { ModelError } from '../../errors.ts';

interface Relative {
  readonly names: RegExp;
  /** Said only of models whose tables are known: others have such layers too. */
  readonly within?: true;
  /** What it is, in the plural or as a noun: "… are not supported". */
  readonly what: string;
  readonly hint?: string;
}

const RELATIVES: readonly Relative[] = [
  { names: /(^|\.)emb_l\.\d+\.(weight_[qr]|weight_hsh)/, what: 'quotient-remainder embeddings' },
  { names: /(^|\.)emb_l\.\d+\.(embs|proj)\./, what: 'mixed-dimension embeddings with projections' },
  {
    names: /(^|\.)inter_arch\.interaction_branch/,
    what: "interaction branches (TorchRec's DLRM_Projection)",
  },
  {
    names: /(^|\.)inter_arch\.crossnet\.(U_kernels|gates|experts)/,
    what: 'mixture-of-experts cross networks',
  },
  {
    names: /(^|\.)(deep_fm|deepfm|factorization_machine|fm)\./i,
    what: "DeepFM models of other names than TorchRec's SimpleDeepFMNN",
    hint: 'describe the head in a model description: "names", "blocks" and "outputs" (docs/model-description.md)',
  },
  {
    names: /(^|\.)_?(embedding_collection|ec)\.embeddings\./,
    what: 'sequence embeddings (an EmbeddingCollection, which does not pool)',
    hint: 'Hotrow pools bags: an EmbeddingBagCollection has what it needs',
  },
  {
    names:
      /(^|\.)(_?hstu[^.]*|_?embedding_module\._item_emb|_?output_postproc_module|sasrec|attention_layernorms)\./i,
    what: 'sequential recommenders (HSTU, SASRec)',
  },
  {
    names: /(^|\.)(running_mean|running_var)$/,
    within: true,
    what: 'batch normalisation layers',
    hint: 'fold them into the linear layers before (w · γ/√(σ² + ε), and the bias likewise), and save again',
  },
  { names: /(^|\.)(in_proj_weight|self_attn|attention|attn)(\.|$)/, within: true, what: 'attention layers' },
  {
    names: /(^|\.)(layer_?norm|ln_\d+|norm\d*)\.(weight|bias)$/i,
    within: true,
    what: 'layer normalisations',
  },
  {
    names: /(^|\.)(weight_(g|v|orig|mask|u)|parametrizations\.weight\.[^.]+(\.[^.]+)?)$/,
    within: true,
    what: 'parametrised weights (weight or spectral normalisation, pruning)',
    hint: 'make them plain weights before saving: torch.nn.utils.remove_weight_norm, .parametrize.remove_parametrizations or .prune.remove',
  },
  {
    names: /(^|\.)(zero_point|_packed_params(\.[^.]+)?)$/,
    within: true,
    what: 'layers that PyTorch quantised',
    hint: 'save the model as it was before; --precision float16 or bfloat16 makes layers faster',
  },
  {
    names: /(^|\.)_?flat_param(_\d+)?$/,
    what: "FSDP's flattened parameters",
    hint: 'save the full state dict: FullyShardedDataParallel.set_state_dict_type(model, StateDictType.FULL_STATE_DICT), or torch.distributed.checkpoint',
  },
  {
    names: /(^|\.)(weights_dev|weights_host|weights_uvm|split_embedding_weights)\b/,
    what: "the inner buffers of FBGEMM's table-batched embeddings, many tables in one tensor,",
    hint: "save the modules' split weights: EmbeddingBagCollection.state_dict()",
  },
];

/**
 * Refuses `names` of a model that computes something else. `known`: they are left over of one whose tables are known.
 * @throws ModelError CHECKPOINT_UNSUPPORTED naming the first such parameter.
 */
export function refuseRelatives(names: readonly string[], known: boolean): void {
  for (const { names: pattern, within, what, hint } of RELATIVES) {
    if (within && !known) continue;
    const name = names.find((candidate) => pattern.test(candidate));
    if (name === undefined) continue;
    throw new ModelError('CHECKPOINT_UNSUPPORTED', `${name}: ${what} are not supported`, {
      tensor: name,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** Left over without meaning for inference, whatever stands before. */
const COUNTERS =
  /(^|\.)(loss_ws|_extra_state|_metadata|num_batches_tracked|n_averaged|steps?|global_step|iterations?)$/;

const words = (text: string) => new Set(text.split(' '));

/** Words that only a module has that measures or trains. */
const MEASURING = words(
  'loss losses criterion criterions metric metrics auroc auc roc auprc logloss bce bceloss rmse confusion confmat optimizer optimizers optim scheduler',
);

/** Words that such modules have, and parts of models too: they count where they stand alone, or with a word of PHASES. */
const AMBIGUOUS = words('accuracy acc precision recall f1 mse mae ece ne meter meters monitor profiler');
const PHASES = words('train training val valid validation test eval best running mean');

/** Names of such modules whose words mean other things. */
const WHOLE = words('calibration_error normalized_entropy grad_scaler');

/** Whether a parameter belongs to a loss, a metric or an optimizer, or counts steps: it computes nothing of the answer. */
export function isBystander(name: string): boolean {
  if (COUNTERS.test(name)) return true;
  return name.split('.').some((part) => {
    const lower = part.toLowerCase();
    const own = lower.split('_');
    return (
      WHOLE.has(lower) ||
      own.some((word) => MEASURING.has(word)) ||
      (own.some((word) => AMBIGUOUS.has(word)) &&
        own.every((word) => AMBIGUOUS.has(word) || PHASES.has(word)))
    );
  });
}
