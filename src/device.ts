/** The devices that Hotrow runs on, as plans and results describe them. */

export type DeviceKind = 'cpu' | 'cuda';

/** The kinds of device that there are. */
export const DEVICE_KINDS = ['cpu', 'cuda'] as const satisfies readonly DeviceKind[];

/** What a device is; goes into plans and results. */
export interface DeviceDescription {
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

export interface GpuLimits {
  readonly multiprocessors: number;
  readonly l2Bytes: number;
  /** The most of L2 that persisting accesses can have; 0: none. */
  readonly persistingL2Bytes: number;
}
