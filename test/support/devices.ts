/** What devices of tests can do. */
import type { DeviceCapabilities } from '../../src/device.ts';

export const CPU_CAPABILITIES: DeviceCapabilities = {
  precisions: ['float32'],
  hasOwnMemory: false,
  runsBesideHost: false,
  compilesKernels: false,
  launchesTableByTable: false,
  measuresLinear: false,
  exchangesWith: [],
};

export const GPU_CAPABILITIES: DeviceCapabilities = {
  ...CPU_CAPABILITIES,
  hasOwnMemory: true,
  runsBesideHost: true,
  compilesKernels: true,
  launchesTableByTable: true,
  exchangesWith: ['cpu', 'cuda'],
};
