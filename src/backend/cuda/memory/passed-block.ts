import type { CudaDevice } from '../../../cuda/device.ts';
import { CudaEvent } from '../../../cuda/event.ts';
import type { PinnedMemory } from '../../../cuda/memory.ts';

/** Pinned memory that is filled again and again, and the event after which the device has read what is in it. */
export interface PassedBlock {
  readonly memory: PinnedMemory;
  readonly passed: CudaEvent;
}

/** The memory that `take` gives, with its event. @throws CudaError; what `take` throws. Nothing is left of either then. */
export function passedBlock(device: CudaDevice, take: () => PinnedMemory): PassedBlock {
  const passed = new CudaEvent(device);
  try {
    return { memory: take(), passed };
  } catch (error) {
    passed[Symbol.dispose]();
    throw error;
  }
}
