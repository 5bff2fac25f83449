/** Files of torch.save, in either format. */
import { expectKind } from '../file-kind.ts';
import type { PickledValue } from './pickled-value.ts';
import { readTorchLegacy } from './torch-legacy.ts';
import { objectRefused } from './torch-refusals.ts';
import { readTorchZip } from './torch-zip.ts';

export { dictOf, shown } from './pickled-value.ts';
export { isSavedTensor, SavedTensor } from './saved-tensor.ts';
export { noTensors } from './torch-refusals.ts';

/**
 * Reads what torch.save wrote: tuples and lists as arrays, dicts as Maps, tensors as SavedTensors, which say where they lie
 * when they are asked. All that only Python could make is an InertObject; nothing in the file is executed.
 * @throws UsageError FILE_*; FormatError FILE_TRUNCATED, PICKLE_INVALID, TORCH_FILE_INVALID, TORCH_FORMAT_UNSUPPORTED;
 * PICKLE_FORBIDDEN when the saved value as a whole is such an object.
 */
export async function readTorchFile(file: string): Promise<PickledValue> {
  const { kind } = await expectKind(file, 'torch');
  const value = await (kind === 'torch' ? readTorchZip(file) : readTorchLegacy(file));
  const refused = objectRefused(file, value);
  if (refused !== undefined) throw refused;
  return value;
}
