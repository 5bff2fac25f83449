/** Chooses and opens a device. */
import { type Members, membersOf, optional, shown, text, whole } from '../checks/value.ts';
import { cudaDevices } from '../cuda/discover.ts';
import { UsageError } from '../errors.ts';
import { ADMISSION_MEMBERS, type AdmissionLimits } from './admission.ts';
import type { Backend } from './backend.ts';
import { CpuBackend } from './cpu/cpu-backend.ts';
import { CudaBackend } from './cuda/cuda-backend.ts';
import type { CudaSwitches } from './cuda-switches.ts';
import { GuardedBackend } from './guarded/backend.ts';
import { STREAM_MEMBERS, type StreamOptions } from './stream-options.ts';

export interface OpenOptions {
  /** `auto` (default), `cpu`, `cuda`, `cuda:N`. */
  readonly device?: string;
  /** Threads of the CPU; default: all cores. */
  readonly threads?: number;
  /** How much is under way at once, and how much may wait. */
  readonly limits?: AdmissionLimits;
  /** Of a GPU: how many batches run side by side, and what goes first. */
  readonly streams?: StreamOptions;
}

/** What parts of Hotrow may say besides. */
interface OwnOpenOptions extends OpenOptions {
  /** Of the CPU: whether the thread does nothing else, and may be kept from its event loop for 2 ms at a time. Default: false. */
  readonly ownsThread?: boolean;
  /** Of a GPU: whether the thread rests after calls that keep other threads out of the driver. Default: false. */
  readonly letsOthersIn?: boolean;
  /** Of a GPU. */
  readonly switches?: CudaSwitches;
}

export interface OpenedBackend {
  readonly backend: Backend;
  /** Why this device was chosen, for people; set for `auto`. */
  readonly reason?: string;
}

/** The most threads of the CPU. */
const MOST_THREADS = 1024;

/** What opens a device, by member. */
export const OPEN_MEMBERS: Members<OpenOptions> = {
  device: optional(text),
  threads: optional(whole(1, MOST_THREADS)),
  limits: optional(membersOf(ADMISSION_MEMBERS)),
  streams: optional(membersOf(STREAM_MEMBERS)),
};
const OPEN_OPTIONS = membersOf<OpenOptions>(OPEN_MEMBERS);

/**
 * Opens the device that `options.device` names. `auto`: the first GPU that kernels can be compiled for, else the CPU. The backend
 * checks what it is given.
 * @throws UsageError USAGE for an unknown name, OPTION_INVALID; DeviceError when it is not available.
 */
export function openBackend(options: OpenOptions = {}): OpenedBackend {
  const { backend, ...reason } = openDevice(OPEN_OPTIONS(options, 'openBackend'));
  return { backend: new GuardedBackend(backend), ...reason };
}

/** As openBackend, for Hotrow's own parts: the backend trusts them. */
export function openDevice(options: OwnOpenOptions = {}): OpenedBackend {
  const { device = 'auto', threads, limits, streams } = options;
  const { ownsThread = false, letsOthersIn = false, switches = {} } = options;
  const own = limits === undefined ? {} : { limits };
  const ofGpu = { ...own, letsOthersIn, switches, ...(streams === undefined ? {} : { streams }) };
  const openCpu = () => {
    if (streams !== undefined)
      throw new UsageError('OPTION_INVALID', 'streams are of GPUs, and the device is the CPU', {
        option: 'streams',
      });
    return new CpuBackend({ ...own, ownsThread, ...(threads === undefined ? {} : { threads }) });
  };
  if (device === 'cpu') return { backend: openCpu() };
  if (device === 'auto') {
    const refusal = refuseCuda();
    if (refusal === undefined) return { backend: new CudaBackend(ofGpu), reason: 'auto: the first GPU' };
    return { backend: openCpu(), reason: `auto: the CPU, because ${/^[^;\n]*/.exec(refusal)?.[0]}` };
  }
  const cuda = /^cuda(?::(\d{1,9}))?$/.exec(device);
  if (cuda !== null) return { backend: new CudaBackend({ ...ofGpu, ordinal: Number(cuda[1] ?? 0) }) };
  throw new UsageError('USAGE', `unknown device ${shown(device)}`, {
    hint: 'devices are auto, cpu, cuda and cuda:N; `hotrow devices` lists them',
  });
}

/** Why no GPU can run kernels here; undefined: one can. */
function refuseCuda(): string | undefined {
  const found = cudaDevices();
  if ('reason' in found) return found.reason;
  return found.missing.find(({ library }) => library === 'nvrtc')?.reason.message;
}
