/** The devices that Hotrow runs on: what they are, as plans and results describe them, and what they can do. */
import { at } from './at.ts';
import { DeviceError } from './errors.ts';

export type DeviceKind = 'cpu' | 'cuda';

/** The kinds of device that there are. */
export const DEVICE_KINDS = ['cpu', 'cuda'] as const satisfies readonly DeviceKind[];

/**
 * How linear layers and the dot interaction multiply. Sums are float32; `activationFormat` says what matrices between them are.
 * - `float32`: float32 throughout.
 * - `tf32`: tensor cores; factors are rounded to 11 significant bits, with float32's range.
 * - `float16`: tensor cores; factors are rounded to 11 significant bits, at most 65,504 in size.
 * - `bfloat16`: tensor cores; factors are rounded to 8 significant bits, with float32's range.
 */
export type UnscaledPrecision = 'float32' | 'tf32' | 'float16' | 'bfloat16';

/**
 * Those, and `float8_e4m3`: factors of linear layers are rounded to 4 significant bits, weights by a scale for each output, inputs
 * by a scale for all of them or for each row. What else multiplies does so in the device's `widePrecision`.
 */
export type DensePrecision = UnscaledPrecision | 'float8_e4m3';

export const UNSCALED_PRECISIONS: readonly UnscaledPrecision[] = Object.freeze([
  'float32',
  'tf32',
  'float16',
  'bfloat16',
] as const);

export const DENSE_PRECISIONS: readonly DensePrecision[] = Object.freeze([
  ...UNSCALED_PRECISIONS,
  'float8_e4m3',
] as const);

/** How elements of matrices on a device are stored. */
export type ElementFormat = 'float32' | 'float16' | 'bfloat16';

export const ELEMENT_FORMATS: readonly ElementFormat[] = Object.freeze([
  'float32',
  'float16',
  'bfloat16',
] as const);

const ACTIVATION_FORMATS: Readonly<Record<UnscaledPrecision, ElementFormat>> = {
  float32: 'float32',
  tf32: 'float32',
  float16: 'float16',
  bfloat16: 'bfloat16',
};

/** The format of the matrices between operations of a precision: what one writes is what the next multiplies. */
export function activationFormat(precision: UnscaledPrecision): ElementFormat {
  return ACTIVATION_FORMATS[precision];
}

/** The same of any precision on a device: layers in 8 bits read and write what wide ones do, and round their inputs on the way. */
export function activationsOn(device: DeviceDescription, precision: DensePrecision): ElementFormat {
  return activationFormat(widePrecision(device, precision));
}

/** What a device is, as plans are checked against it and results record it. */
export interface RecordedDevice {
  readonly kind: DeviceKind;
  /** As `--device` takes it. */
  readonly id: string;
  /** The processor's own name. */
  readonly name: string;
  /** What the kernels were built for: an instruction set or a compute capability. */
  readonly architecture: string;
  /** Threads that run kernels at once. */
  readonly threads: number;
  readonly memoryBytes: number;
  /** Versions of drivers and libraries, by name. */
  readonly versions: Readonly<Record<string, string>>;
  /** What plans for a GPU are checked against. */
  readonly gpu?: GpuLimits;
}

/** A device to run on. */
export interface DeviceDescription extends RecordedDevice {
  readonly capabilities: DeviceCapabilities;
}

/** What whoever uses a device asks of it, instead of what kind it is. */
export interface DeviceCapabilities {
  /** How it can multiply in linear layers and the dot interaction; the default first. */
  readonly precisions: readonly DensePrecision[];
  /** Whether its memory is apart from the host's: arrays of batches come over, and can be placed ahead of time. */
  readonly hasOwnMemory: boolean;
  /** Whether the host's threads are free while it works, so that several batches can be under way. */
  readonly runsBesideHost: boolean;
  /** Whether it compiles kernels when tables and plans first need them, and captures programs: first batches take longer. */
  readonly compilesKernels: boolean;
  /** Whether lookups are launched table by table, and each launch can be timed. */
  readonly launchesTableByTable: boolean;
  /** Whether it measures how a shape of linear layer is computed fastest, and keeps that for processes to come. */
  readonly measuresLinear: boolean;
  /** Kinds of other devices whose memory its transfers reach. */
  readonly exchangesWith: readonly DeviceKind[];
}

export interface GpuLimits {
  readonly multiprocessors: number;
  readonly l2Bytes: number;
  /** The most of L2 that persisting accesses can have; 0: none. */
  readonly persistingL2Bytes: number;
}

/** What results record of a device. */
export function recordedDevice({ capabilities: _, ...device }: DeviceDescription): RecordedDevice {
  return device;
}

/** How a device multiplies unless told otherwise. */
export function defaultPrecision(device: DeviceDescription): UnscaledPrecision {
  return widePrecision(device, at(device.capabilities.precisions, 0));
}

/** How what is not in 8 bits multiplies in a precision: in float8_e4m3 in float16, or else as the device does by default. */
export function widePrecision(
  { capabilities }: DeviceDescription,
  precision: DensePrecision,
): UnscaledPrecision {
  if (precision !== 'float8_e4m3') return precision;
  const wide = UNSCALED_PRECISIONS.filter((own) => capabilities.precisions.includes(own));
  return wide.includes('float16') ? 'float16' : at(wide, 0);
}

/**
 * The precision that was asked for, or the device's default.
 * @throws DeviceError DEVICE_UNAVAILABLE, listing those that the device has.
 */
export function precisionOn(device: DeviceDescription, wanted?: DensePrecision): DensePrecision {
  const { precisions } = device.capabilities;
  const precision = wanted ?? defaultPrecision(device);
  if (precisions.includes(precision)) return precision;
  throw new DeviceError(
    'DEVICE_UNAVAILABLE',
    `${device.id} multiplies in ${precisions.join(', ')}, not in ${precision}`,
    {
      value: precision,
      hint: 'leave the precision out, or use another device; GPUs have every precision, float8_e4m3 from sm_89 on',
    },
  );
}
