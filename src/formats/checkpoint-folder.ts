/** What a folder holds: the one checkpoint in it, or the files of a program whose checkpoints are not read. */
import { basename, join } from 'node:path';
import { at } from '../at.ts';
import { FormatError, UsageError } from '../errors.ts';
import { listFolder } from '../input-file.ts';
import { DCP_METADATA } from './dcp/dcp.ts';
import { isIndex } from './sharded-index.ts';

/** A program's folder, told by a name in it. */
interface ForeignFolder {
  readonly name: RegExp;
  /** "is …" */
  readonly what: string;
  readonly hint: string;
}

/** Nothing says how many shards there are, so none can be seen to be missing. */
const HUGGING_FACE_SHARDS: ForeignFolder = {
  name: /^shard-\d+-model-\d+-of-\d+\.safetensors$/,
  what: "holds the shards of torch.distributed.checkpoint's HuggingFaceStorageWriter, each with parts of tensors",
  hint: 'consolidate them with torch.distributed.checkpoint._consolidate_hf_safetensors.consolidate_safetensors_files, or save with enable_consolidation=True',
};

const FOREIGN: readonly ForeignFolder[] = [
  {
    name: /^\.snapshot_metadata$/,
    what: 'is a snapshot of torchsnapshot',
    hint: 'load it with torchsnapshot.Snapshot(path).get_state_dict_for_key("0/model"), then torch.save the state dict',
  },
  {
    name: /_(opt_)?(sparse|dense)_?\d*\.model$|^emb_vector$/,
    what: "holds a HugeCTR model's files (dense parameters, and a folder of keys and rows a sparse embedding)",
    hint: 'read key and emb_vector with numpy and write the rows in the order of your ids as emb_l.{t}.weight, with the dense layers, to one .safetensors',
  },
  {
    name: /^saved_model\.pb(txt)?$|\.data-\d{5}-of-\d{5}$/,
    what: 'is a model of TensorFlow',
    hint: 'read its variables with tf.saved_model.load or tf.train.load_checkpoint and write them with safetensors.numpy.save_file under the names that docs/file-formats.md lists',
  },
  {
    name: /^(zero_pp_rank_\d+_)?mp_rank_\d+(_\d+)*_(model|optim)_states\.pt$|^zero_to_fp32\.py$/,
    what: 'is a checkpoint of DeepSpeed',
    hint: 'run `python zero_to_fp32.py . OUT`, which stands in the folder or in the one above, and load OUT',
  },
  {
    name: /^latest_checkpointed_iteration\.txt$|^mp_rank_\d+(_\d+)*$/,
    what: 'is a checkpoint of Megatron-LM',
    hint: "convert it with Megatron's tools/checkpoint/convert.py, or gather the state dict there and torch.save it",
  },
  HUGGING_FACE_SHARDS,
];

/** What the files of torch.distributed.checkpoint's shards end in. */
const DCP_SHARD = '.distcp';

/** Names of files that hold a whole state dict. */
const MODEL_FILE = /\.(safetensors|pt|pth|bin|ckpt)$/;

/**
 * The checkpoint of a folder: the `.metadata` of torch.distributed.checkpoint, else the only index or model file.
 * @throws UsageError FILE_NOT_FOUND when there is none, FILE_UNREADABLE when there are several, naming them; FormatError
 * FORMAT_UNKNOWN for the folders of other programs, DCP_INVALID for shards without their metadata.
 */
export async function checkpointInFolder(folder: string): Promise<string> {
  const names = (await listFolder(folder)).map(({ name }) => name);
  if (names.includes(DCP_METADATA)) return join(folder, DCP_METADATA);
  const isForeign = (name: string) => FOREIGN.some((program) => program.name.test(name));
  const indexes = names.filter(isIndex);
  const models = names.filter((name) => MODEL_FILE.test(name) && !isForeign(name));
  const candidates = indexes.length > 0 ? indexes : models;
  if (candidates.length === 1) return join(folder, at(candidates, 0));
  if (candidates.length > 1) {
    const some = candidates.slice(0, 5).join(', ');
    throw new UsageError(
      'FILE_UNREADABLE',
      `${folder} holds ${candidates.length} checkpoints: ${some}${candidates.length > 5 ? ' …' : ''}`,
      { file: folder, hint: 'name the one to load' },
    );
  }
  const foreign = FOREIGN.find(({ name }) => names.some((candidate) => name.test(candidate)));
  if (foreign !== undefined)
    throw new FormatError('FORMAT_UNKNOWN', `${folder} ${foreign.what}, which is not read`, {
      file: folder,
      hint: foreign.hint,
    });
  if (names.some((name) => name.endsWith(DCP_SHARD))) {
    throw new FormatError('DCP_INVALID', `${folder} holds ${DCP_SHARD} files, but no ${DCP_METADATA}`, {
      file: folder,
      hint: `${DCP_METADATA} is hidden, and written last: copy it with the folder; where there is none, the checkpoint was not saved to its end`,
    });
  }
  throw new UsageError(
    'FILE_NOT_FOUND',
    `${folder} holds no checkpoint: no ${DCP_METADATA}, no index file and no .safetensors, .pt, .pth, .bin or .ckpt`,
    { file: folder },
  );
}

/** Refuses a file that holds parts of tensors, which only its folder can put together. @throws FormatError FORMAT_UNKNOWN. */
export function checkWhole(file: string): void {
  if (file.endsWith(DCP_SHARD)) {
    throw new FormatError('FORMAT_UNKNOWN', `${file} holds parts of a checkpoint's tensors`, {
      file,
      hint: `name its folder, in which ${DCP_METADATA} says where each part belongs`,
    });
  }
  if (HUGGING_FACE_SHARDS.name.test(basename(file))) {
    throw new FormatError('FORMAT_UNKNOWN', `${file} holds parts of a checkpoint's tensors`, {
      file,
      hint: HUGGING_FACE_SHARDS.hint,
    });
  }
}
