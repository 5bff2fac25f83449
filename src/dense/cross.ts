/** DCNv2 low-rank cross network: x ← x0 ⊙ (W·(V·x) + b) + x, layer after layer. */
import type { Backend, Matrix, Operation, PlacedLinear } from '../backend/backend.ts';
import type { Workspace } from '../backend/workspace.ts';
import { ModelError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import { readFloat32 } from './weights.ts';

/** DCNv2 low-rank cross layer: x ← x0 ⊙ (W·(V·x) + b) + x. */
export interface CrossLayer {
  readonly name: string;
  /** [rank, width]. */
  readonly v: Tensor;
  /** [width, rank]. */
  readonly w: Tensor;
  /** [width]. */
  readonly bias: Tensor;
  readonly width: number;
  readonly rank: number;
}

/**
 * A cross layer from its parameters.
 * @throws ModelError CHECKPOINT_INCONSISTENT when the shapes do not fit together.
 */
export function crossLayer(name: string, v: Tensor, w: Tensor, bias: Tensor): CrossLayer {
  const [rank, width] = v.shape;
  const fits =
    v.shape.length === 2 &&
    rank &&
    width &&
    w.shape.length === 2 &&
    w.shape[0] === width &&
    w.shape[1] === rank &&
    bias.shape.length === 1 &&
    bias.shape[0] === width;
  if (!fits) {
    const shapes = `V [${v.shape}], W [${w.shape}], bias [${bias.shape}]`;
    throw new ModelError(
      'CHECKPOINT_INCONSISTENT',
      `${name}: ${shapes} are not [rank, width], [width, rank], [width]`,
      { tensor: name },
    );
  }
  return { name, v, w, bias, width, rank };
}

interface PlacedCross {
  readonly v: PlacedLinear;
  readonly w: PlacedLinear;
}

export class CrossNetwork implements Disposable {
  readonly #layers: readonly PlacedCross[];

  private constructor(layers: readonly PlacedCross[]) {
    this.#layers = layers;
  }

  static async place(backend: Backend, layers: readonly CrossLayer[]): Promise<CrossNetwork> {
    const placed: PlacedCross[] = [];
    for (const { v, w, bias, width, rank } of layers) {
      placed.push({
        v: backend.placeLinear(await readFloat32(v), undefined, rank, width),
        w: backend.placeLinear(await readFloat32(w), await readFloat32(bias), width, rank),
      });
    }
    return new CrossNetwork(placed);
  }

  /** Operations over `x0` [B, width]; the last layer's output is `result`. */
  operations(x0: Matrix, workspace: Workspace): { operations: Operation[]; result: Matrix } {
    let x = x0;
    const operations = this.#layers.flatMap(({ v, w }): Operation[] => {
      const low = workspace.matrix(x0.rows, v.outputs);
      const next = workspace.matrix(x0.rows, w.outputs);
      const pair: Operation[] = [
        { op: 'linear', layer: v, input: x, output: low, activation: 'none' },
        { op: 'linear', layer: w, input: low, output: next, activation: 'none', cross: { x0, x } },
      ];
      x = next;
      return pair;
    });
    return { operations, result: x };
  }

  [Symbol.dispose](): void {
    for (const { v, w } of this.#layers) {
      v[Symbol.dispose]();
      w[Symbol.dispose]();
    }
  }
}
