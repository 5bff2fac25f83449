import { cudaDevices } from '../cuda/discover.ts';
import { UsageError } from '../errors.ts';

/** The devices that `--device` means: `cuda:all` is each GPU. @throws UsageError USAGE where there is none. */
export function devicesOf(device: string): string[] {
  if (device !== 'cuda:all') return [device];
  const found = cudaDevices();
  if ('reason' in found) throw new UsageError('USAGE', `--device cuda:all: ${found.reason}`);
  return found.devices.map((_, i) => `cuda:${i}`);
}
