/** DCNv2 cross network, low-rank or full-rank, layer after layer: x ← x0 ⊙ (W·(V·x) + b) + x, or x ← x0 ⊙ (W·x + b) + x. */
import type { Backend, Matrix, Operation, PlacedLinear } from '../backend/backend.ts';
import type { Workspace } from '../backend/workspace.ts';
import type { DensePrecision } from '../device.ts';
import { ModelError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import { readFloat32 } from './weights.ts';

/** DCNv2 cross layer. */
export interface CrossLayer {
  readonly name: string;
  /** [rank, width]; undefined: the layer is full-rank. */
  readonly v?: Tensor;
  /** [width, rank], or [width, width] of a full-rank layer. */
  readonly w: Tensor;
  /** [width]. */
  readonly bias: Tensor;
  readonly width: number;
  /** Of a full-rank layer its width. */
  readonly rank: number;
}

/**
 * A cross layer from its parameters; a bias may be [width, 1] too, as TorchRec's full-rank layers have it.
 * @throws ModelError CHECKPOINT_INCONSISTENT when the shapes do not fit together, CHECKPOINT_UNSUPPORTED for a vector.
 */
export function crossLayer(name: string, { v, w, bias }: Pick<CrossLayer, 'v' | 'w' | 'bias'>): CrossLayer {
  const [width, rank] = w.shape;
  if (v === undefined && width !== 1 && rank === 1)
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `${name} is [${w.shape}]: vector cross layers (DCN, before DCNv2) are not supported`,
      { tensor: name },
    );
  const fits =
    w.shape.length === 2 &&
    width &&
    rank &&
    (v === undefined
      ? rank === width
      : v.shape.length === 2 && v.shape[0] === rank && v.shape[1] === width) &&
    bias.shape[0] === width &&
    (bias.shape.length === 1 || (bias.shape.length === 2 && bias.shape[1] === 1));
  if (!fits) {
    const shapes =
      v === undefined
        ? `W [${w.shape}], bias [${bias.shape}] are not [width, width], [width]`
        : `V [${v.shape}], W [${w.shape}], bias [${bias.shape}] are not [rank, width], [width, rank], [width]`;
    throw new ModelError('CHECKPOINT_INCONSISTENT', `${name}: ${shapes}`, { tensor: name });
  }
  return { name, ...(v === undefined ? {} : { v }), w, bias, width, rank };
}

interface PlacedCross {
  readonly v?: PlacedLinear;
  readonly w: PlacedLinear;
}

export class CrossNetwork implements Disposable {
  readonly #layers: readonly PlacedCross[];

  private constructor(layers: readonly PlacedCross[]) {
    this.#layers = layers;
  }

  static async place(
    backend: Backend,
    layers: readonly CrossLayer[],
    precision: DensePrecision,
  ): Promise<CrossNetwork> {
    const place = (weight: Float32Array, bias: Float32Array | undefined, outputs: number, inputs: number) =>
      backend.placeLinear(weight, bias, outputs, inputs, precision);
    const placed: PlacedCross[] = [];
    for (const { v, w, bias, width, rank } of layers) {
      placed.push({
        ...(v === undefined ? {} : { v: place(await readFloat32(v), undefined, rank, width) }),
        w: place(await readFloat32(w), await readFloat32(bias), width, rank),
      });
    }
    return new CrossNetwork(placed);
  }

  /** Operations over `x0` [B, width]; the last layer's output is `result`. */
  operations(x0: Matrix, workspace: Workspace): { operations: Operation[]; result: Matrix } {
    let x = x0;
    const operations = this.#layers.flatMap(({ v, w }): Operation[] => {
      const cross = { x0, x };
      const low = v === undefined ? x : workspace.matrix(x0.rows, v.outputs);
      const next = workspace.matrix(x0.rows, w.outputs);
      const down: Operation[] =
        v === undefined ? [] : [{ op: 'linear', layer: v, input: x, output: low, activation: 'none' }];
      x = next;
      return [...down, { op: 'linear', layer: w, input: low, output: next, activation: 'none', cross }];
    });
    return { operations, result: x };
  }

  [Symbol.dispose](): void {
    for (const { v, w } of this.#layers) {
      v?.[Symbol.dispose]();
      w[Symbol.dispose]();
    }
  }
}
