/** What became of samples: 1 or 0 each. */
import { fromFile, RequestError } from '../errors.ts';
import { readSafetensors } from '../formats/safetensors.ts';
import { readTensor } from '../stored-tensor.ts';

/** Names that the tensor may have. */
const NAMES = ['labels', 'label'];

/**
 * Labels from a safetensors file: `labels` of any number type, [N] or [N, 1], each 0 or 1.
 * @throws UsageError FILE_*; FormatError SAFETENSORS_INVALID; RequestError, each naming the file.
 */
export function readLabels(file: string): Promise<Uint8Array> {
  return fromFile(file, async () => {
    const { tensors } = await readSafetensors(file);
    const name = NAMES.find((one) => tensors.has(one));
    const stored = name === undefined ? undefined : tensors.get(name);
    if (name === undefined || stored === undefined)
      throw new RequestError('TENSOR_MISSING', `there is no tensor ${NAMES[0]}`, {
        tensor: NAMES[0] as string,
      });
    const { shape, data } = await readTensor(stored);
    const [count = 0, ...rest] = shape;
    if (shape.length === 0 || rest.some((extent) => extent !== 1))
      throw new RequestError('TENSOR_SHAPE', `${name} has shape [${shape}], not [N]`, { tensor: name });
    return binary(name, data as ArrayLike<number | bigint>, count);
  });
}

function binary(name: string, data: ArrayLike<number | bigint>, count: number): Uint8Array {
  const labels = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const label = Number(data[i]);
    if (label !== 0 && label !== 1)
      throw new RequestError('REQUEST_INVALID', `${name}[${i}] is ${label}, neither 0 nor 1`, {
        tensor: name,
        position: i,
        hint: 'labels say what became of a sample: 1 for a click, 0 for none',
      });
    labels[i] = label;
  }
  return labels;
}
