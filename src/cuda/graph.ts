import type { CudaDriver } from '../ffi/cuda-driver.ts';
import type { LaunchShape } from '../ffi/cuda-structs.ts';
import type { GraphExecHandle, GraphHandle, GraphNodeHandle, StreamHandle } from '../ffi/cuda-symbols.ts';
import type { HandlePlace, OwnedHandle } from '../ffi/owned-handles.ts';
import type { ParameterBlock } from '../ffi/parameter-block.ts';
import type { CudaDevice } from './device.ts';
import type { CudaKernel } from './module.ts';
import { Resource } from './resource.ts';

/** Captured work, ready to be launched again and again in one call. Made by `CudaStream.capture`. */
export class CudaGraph extends Resource<GraphExecHandle> {
  /** Owned too: the nodes that updates name are this graph's. */
  readonly #template: GraphHandle;
  readonly #ownedTemplate: OwnedHandle;

  /** For CudaStream.capture; takes `template` over, also when it throws. `owned`: what this thread owes of it. */
  constructor(device: CudaDevice, template: GraphHandle, owned: OwnedHandle) {
    super(device, 'graph', (driver, place) => instantiate(driver, template, owned, place));
    this.#template = template;
    this.#ownedTemplate = owned;
  }

  launch(stream: Resource<StreamHandle>): void {
    this.device.enter().launchGraph(this.handle, stream.handle);
  }

  /** Changes a captured kernel launch, for the launches of the graph that come after. */
  updateKernel(
    node: GraphNodeHandle,
    kernel: CudaKernel,
    shape: LaunchShape,
    parameters: ParameterBlock,
  ): void {
    this.device.enter().updateKernelNode(this.handle, node, kernel.handle, shape, parameters.pointers);
  }

  protected free(driver: CudaDriver, handle: GraphExecHandle): void {
    driver.destroyGraphExec(handle);
    this.#ownedTemplate[Symbol.dispose]();
    driver.destroyGraph(this.#template);
  }
}

function instantiate(
  driver: CudaDriver,
  template: GraphHandle,
  owned: OwnedHandle,
  place: HandlePlace,
): GraphExecHandle {
  try {
    return driver.instantiateGraph(template, place);
  } catch (error) {
    owned[Symbol.dispose]();
    driver.destroyGraph(template);
    throw error;
  }
}
