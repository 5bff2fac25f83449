/** Turns the statuses of CUDA's driver API into typed errors. */
import { CudaError, type DeviceErrorCode } from '../errors.ts';

export const CUDA_SUCCESS = 0;
export const CUDA_ERROR_NOT_READY = 600;

interface StatusFacts {
  readonly code: DeviceErrorCode;
  readonly hint: string;
  readonly contextLost?: true;
}

const FAULT_HINT =
  'the device context is lost with everything in it: start the process again; compute-sanitizer names the instruction at fault';

function fault(hint = FAULT_HINT): StatusFacts {
  return { code: 'KERNEL_FAILED', hint, contextLost: true };
}

/** Statuses with more to say than their name. */
const STATUSES: Readonly<Record<number, StatusFacts>> = {
  2: {
    code: 'OUT_OF_MEMORY',
    hint: 'use a smaller batch or 16-bit rows, or end other programs on this GPU (nvidia-smi lists them)',
  },
  4: { code: 'CUDA_FAILED', hint: 'the driver is shutting down with the process', contextLost: true },
  34: {
    code: 'NATIVE_LIBRARY_INCOMPATIBLE',
    hint: "the library is the CUDA toolkit's stub: install an NVIDIA driver, and take the stubs folder out of LD_LIBRARY_PATH",
  },
  36: { code: 'NATIVE_LIBRARY_INCOMPATIBLE', hint: 'update the NVIDIA driver' },
  46: {
    code: 'DEVICE_UNAVAILABLE',
    hint: 'another process holds this GPU for itself (nvidia-smi -c sets the compute mode)',
  },
  100: {
    code: 'DEVICE_UNAVAILABLE',
    hint: 'no GPU is visible: check nvidia-smi, CUDA_VISIBLE_DEVICES, and --gpus of the container',
  },
  101: { code: 'DEVICE_UNAVAILABLE', hint: '`hotrow devices` lists the devices there are' },
  200: {
    code: 'CUDA_FAILED',
    hint: 'the module is no valid cubin, or was made by a newer CUDA than the driver knows: clear the kernel cache, or update the driver',
  },
  209: {
    code: 'CUDA_FAILED',
    hint: 'the module was compiled for another architecture: clear the kernel cache',
  },
  214: fault("the GPU's memory has an uncorrectable error: see nvidia-smi -q -d ECC; the GPU needs a reset"),
  218: { code: 'CUDA_FAILED', hint: "the driver's compiler refused the PTX: update the NVIDIA driver" },
  220: fault('NVLink had an uncorrectable error: see nvidia-smi nvlink -e; the GPU needs a reset'),
  221: {
    code: 'CUDA_FAILED',
    hint: 'libnvidia-ptxjitcompiler.so.1 is missing: install the whole NVIDIA driver',
  },
  222: {
    code: 'CUDA_FAILED',
    hint: 'the PTX is newer than the driver: update the NVIDIA driver, or use an older NVRTC',
  },
  226: fault(),
  700: fault(),
  701: {
    code: 'KERNEL_FAILED',
    hint: 'the block needs more registers or shared memory than a multiprocessor has: use a smaller block or a register cap in the plan',
  },
  702: fault(
    "the kernel ran longer than the GPU's watchdog allows, which display GPUs have: use a smaller batch, then start the process again",
  ),
  709: fault('the context was destroyed: start the process again'),
  710: fault(),
  714: fault(),
  715: fault(),
  716: fault(),
  717: fault(),
  718: fault(),
  719: fault(),
  721: fault(),
  802: {
    code: 'DEVICE_UNAVAILABLE',
    hint: 'the system is not ready: on NVSwitch machines nvidia-fabricmanager must be running',
  },
  803: {
    code: 'NATIVE_LIBRARY_INCOMPATIBLE',
    hint: "the driver's library and its kernel module differ: reboot after a driver update; in a container, unmount its own libcuda",
  },
  804: {
    code: 'NATIVE_LIBRARY_INCOMPATIBLE',
    hint: 'CUDA forward compatibility does not cover this GPU: take cuda-compat out of LD_LIBRARY_PATH',
  },
};

/** A failing call as an error. `name` and `text` are the driver's own for `status`. */
export function cudaStatusError(
  call: string,
  status: number,
  name: string,
  text: string,
  more = '',
): CudaError {
  const { code, hint, contextLost = false } = STATUSES[status] ?? { code: 'CUDA_FAILED' as const };
  const message = `${call} failed: ${name} (${status}), ${text}`;
  return new CudaError(
    code,
    message,
    { call, status: name, contextLost },
    { ...(hint === undefined ? {} : { hint }), ...(more === '' ? {} : { log: more }) },
  );
}
