/** Kinds of tensors that are not read, each with what to save instead. */
import { type Problem, unsupported } from './saved-tensor.ts';

const SPARSE: Problem = unsupported('is sparse', 'save it with tensor.to_dense()');
const FROM_DEVICE: Problem = unsupported("was saved as a device's numpy array", 'save it with tensor.cpu()');
const UNINITIALISED: Problem = unsupported(
  'was never initialised, so it has no values',
  'run one batch through the model before you save it: its lazy modules take their shapes from that',
);

/** What a tensor without values is. */
export const META: Problem = unsupported(
  'is on the meta device: it has a shape and no values',
  'load the weights into the model before you save it: model.to_empty(device="cpu"), then load_state_dict',
);

/** Kinds of tensors that are not read, by the function or class that makes them. */
export const UNREADABLE: Readonly<Record<string, Problem>> = {
  'torch._utils._rebuild_sparse_tensor': SPARSE,
  'torch._utils._rebuild_sparse_csr_tensor': SPARSE,
  'torch._utils._rebuild_nested_tensor': unsupported(
    'is nested: its rows have lengths of their own',
    'save it with torch.nested.to_padded_tensor(tensor, 0.0), or its values and offsets apart',
  ),
  'torch._utils._rebuild_qtensor': unsupported(
    'is quantised by PyTorch',
    'save it with tensor.dequantize(); `hotrow quantize` makes the rows of tables smaller',
  ),
  'torch._utils._rebuild_meta_tensor_no_storage': META,
  'torch._utils._rebuild_device_tensor_from_numpy': FROM_DEVICE,
  'torch._utils._rebuild_xla_tensor': FROM_DEVICE,
  'torch._utils._rebuild_mlc_tensor': FROM_DEVICE,
  'torch.nn.parameter.UninitializedParameter': UNINITIALISED,
  'torch.nn.parameter.UninitializedBuffer': UNINITIALISED,
};
