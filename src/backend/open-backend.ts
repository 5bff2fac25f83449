/** Chooses and opens a device. */
import { DeviceError, UsageError } from '../errors.ts';
import type { Backend } from './backend.ts';
import { CpuBackend } from './cpu/cpu-backend.ts';

export interface OpenOptions {
  /** `auto` (default), `cpu`. */
  readonly device?: string;
  /** Threads of the CPU; default: all cores. */
  readonly threads?: number;
}

export interface OpenedBackend {
  readonly backend: Backend;
  /** Why this device was chosen, for people; set for `auto`. */
  readonly reason?: string;
}

/**
 * Opens the device that `options.device` names.
 * @throws UsageError USAGE for an unknown name; DeviceError when it is not available.
 */
export function openBackend(options: OpenOptions = {}): OpenedBackend {
  const { device = 'auto', threads } = options;
  const cpuOptions = threads === undefined ? {} : { threads };
  if (device === 'cpu') return { backend: new CpuBackend(cpuOptions) };
  if (device === 'auto') {
    return {
      backend: new CpuBackend(cpuOptions),
      reason: 'the CPU is the only device that this version has kernels for',
    };
  }
  if (/^cuda(:\d+)?$/.test(device)) {
    throw new DeviceError('DEVICE_UNAVAILABLE', `device ${device}: this version has no CUDA kernels`, {
      hint: 'use --device cpu',
    });
  }
  throw new UsageError('USAGE', `unknown device ${device}`, {
    hint: 'devices are auto and cpu; `hotrow devices` lists them',
  });
}
