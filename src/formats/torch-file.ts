/** Files of torch.save, in either format. */
import { expectKind } from './file-kind.ts';
import type { PickledValue } from './pickled-value.ts';
import { readTorchLegacy } from './torch-legacy.ts';
import { readTorchZip } from './torch-zip.ts';

/**
 * Reads what torch.save wrote: tuples and lists as arrays, dicts as Maps, tensors as StoredTensors that are not read yet.
 * Nothing in the file is executed.
 * @throws UsageError FILE_*; FormatError FILE_TRUNCATED, PICKLE_FORBIDDEN, PICKLE_INVALID, TORCH_FILE_INVALID, TORCH_FORMAT_UNSUPPORTED.
 */
export async function readTorchFile(file: string): Promise<PickledValue> {
  const { kind } = await expectKind(file, 'torch');
  return kind === 'torch' ? readTorchZip(file) : readTorchLegacy(file);
}
