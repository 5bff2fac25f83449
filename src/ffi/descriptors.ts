/** File descriptors of this process. */
import { DeviceError } from '../errors.ts';
import { library } from './native-library.ts';

/** Another descriptor of the same file or socket, which its owner closes. @throws DeviceError OUT_OF_MEMORY where no more can be opened. */
export function duplicateDescriptor(descriptor: number): number {
  const own = Number(library().duplicateDescriptor(descriptor));
  if (own >= 0) return own;
  throw new DeviceError('OUT_OF_MEMORY', `descriptor ${descriptor} cannot be duplicated`, {
    hint: 'raise the limit of open files (ulimit -n)',
  });
}
