/** Models that compute something else than a DLRM, known by their parameters' names; and names that compute nothing. */
import { ModelError } from '../../errors.ts';

interface Relative {
  readonly names: RegExp;
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
  { names: /(^|\.)inter_arch\.(deep_fm|fm)\./, what: "DeepFM models (TorchRec's SimpleDeepFMNN)" },
  { names: /(^|\.)(deep_fm|deepfm|factorization_machine)\./i, what: 'DeepFM models' },
  {
    names: /(^|\.)embedding_collection\.embeddings\./,
    what: 'sequence embeddings (an EmbeddingCollection, which does not pool)',
    hint: 'Hotrow pools bags: an EmbeddingBagCollection has what it needs',
  },
  {
    names: /(^|\.)(_?hstu|_?embedding_module\._item_emb|_?output_postproc_module|sasrec)\b/i,
    what: 'sequential recommenders (HSTU, SASRec)',
  },
  {
    names: /(^|\.)(running_mean|running_var)$/,
    what: 'batch normalisation layers',
    hint: 'fold them into the linear layers before (w · γ/√(σ² + ε), and the bias likewise), and save again',
  },
  { names: /(^|\.)(in_proj_weight|self_attn|attention|attn)(\.|$)/, what: 'attention layers' },
  { names: /(^|\.)(layer_?norm|ln_\d+|norm\d*)\.(weight|bias)$/i, what: 'layer normalisations' },
  {
    names: /(^|\.)(weights_dev|weights_host|weights_uvm|split_embedding_weights)\b/,
    what: "the inner buffers of FBGEMM's table-batched embeddings, many tables in one tensor,",
    hint: "save the modules' split weights: EmbeddingBagCollection.state_dict()",
  },
  {
    names: /^(.+\.)?embedding_bags\.[^.]+\.weight$/,
    what: 'tables alone (an EmbeddingBagCollection without bottom and top MLP)',
    hint: 'save the whole model; from TypeScript, EmbeddingCollection.create runs tables by themselves. If MLPs are there under names of your own, map them in a model description: hotrow inspect MODEL --write-description FILE',
  },
];

/** @throws ModelError CHECKPOINT_UNSUPPORTED naming the first parameter of a model that computes something else. */
export function refuseRelatives(names: readonly string[]): void {
  for (const { names: pattern, what, hint } of RELATIVES) {
    const name = names.find((candidate) => pattern.test(candidate));
    if (name === undefined) continue;
    throw new ModelError('CHECKPOINT_UNSUPPORTED', `${name}: ${what} are not supported`, {
      tensor: name,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** Left over without meaning for inference, whatever stands before. */
const COUNTERS = /(^|\.)(loss_ws|_extra_state|_metadata|num_batches_tracked|steps?|global_step|iterations?)$/;

/** Words of a module that measures or trains. */
const MEASURING = new Set(
  'loss losses criterion criterions metric metrics auroc auc roc auprc accuracy acc precision recall f1 logloss bce bceloss mse mae rmse mean_metric calibration_error ece ne normalized_entropy confusion confmat meter meters monitor profiler optimizer optimizers optim lr_scheduler scheduler grad_scaler scaler'.split(
    ' ',
  ),
);

/** Whether a parameter belongs to a loss, a metric or an optimizer, or counts steps: it computes nothing of the answer. */
export function isBystander(name: string): boolean {
  if (COUNTERS.test(name)) return true;
  return name
    .split('.')
    .slice(0, -1)
    .some((part) => {
      const lower = part.toLowerCase();
      return MEASURING.has(lower) || lower.split('_').some((word) => MEASURING.has(word));
    });
}
