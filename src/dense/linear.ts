/** Linear layers and stacks of them (MLPs) on a device. */
import type { Activation, Backend, Matrix, Operation, PlacedLinear } from '../backend/backend.ts';
import type { Workspace } from '../backend/workspace.ts';
import type { DensePrecision } from '../device.ts';
import type { Tensor } from '../tensor.ts';
import { readFloat32 } from './weights.ts';

/** y = activation(W·x + b). */
export interface LinearLayer {
  /** The layer's name in the checkpoint, without `.weight`. */
  readonly name: string;
  /** [outputs, inputs], a floating-point dtype. */
  readonly weight: Tensor;
  /** [outputs]. */
  readonly bias?: Tensor;
  readonly inputs: number;
  readonly outputs: number;
  readonly activation: Activation;
}

/** y = activation(x·Wᵀ + b), layer after layer. */
export class Mlp implements Disposable {
  readonly #layers: readonly { readonly placed: PlacedLinear; readonly activation: Activation }[];

  private constructor(layers: readonly { placed: PlacedLinear; activation: Activation }[]) {
    this.#layers = layers;
  }

  /** Reads the layers' weights and places them, to multiply in `precision`. */
  static async place(
    backend: Backend,
    layers: readonly LinearLayer[],
    precision: DensePrecision,
  ): Promise<Mlp> {
    const placed: { placed: PlacedLinear; activation: Activation }[] = [];
    for (const { weight, bias, inputs, outputs, activation } of layers) {
      const values = await readFloat32(weight);
      const offsets = bias === undefined ? undefined : await readFloat32(bias);
      placed.push({ placed: backend.placeLinear(values, offsets, outputs, inputs, precision), activation });
    }
    return new Mlp(placed);
  }

  /** Operations from `input` [B, inputs] to `output` [B, outputs]; the layers between live in the workspace. */
  operations(input: Matrix, output: Matrix, workspace: Workspace): Operation[] {
    let from = input;
    return this.#layers.map(({ placed, activation }, i) => {
      const last = i === this.#layers.length - 1;
      const to = last ? output : workspace.matrix(input.rows, placed.outputs);
      const operation: Operation = { op: 'linear', layer: placed, input: from, output: to, activation };
      from = to;
      return operation;
    });
  }

  [Symbol.dispose](): void {
    for (const { placed } of this.#layers) placed[Symbol.dispose]();
  }
}
