/** DCNv2 cross network, low-rank or full-rank, layer after layer: x ← x0 ⊙ (W·(V·x) + b) + x, or x ← x0 ⊙ (W·x + b) + x. */
import { formatOf, type Matrix, type Operation, type PlacedLinear } from '../backend/backend.ts';
import { keepingPlaced } from '../backend/keep-placed.ts';
import type { Workspace } from '../backend/workspace.ts';
import { type Check, listOf, membersOf, oneOf, optional, text } from '../checks/value.ts';
import { ModelError } from '../errors.ts';
import type { Tensor } from '../tensor.ts';
import {
  type BlockKind,
  type PlacementTarget,
  type StoredLayer,
  type StoredParameter,
  sum,
} from './block.ts';
import {
  checkScales,
  type LayerScales,
  layerScales,
  readWeight,
  storedScales,
  type WeightedLayer,
} from './layer-scales.ts';
import { placeLayer } from './place-layer.ts';
import { referenceLinear } from './reference.ts';
import { inconsistent, layerWidth, parameter, readFloat32 } from './weights.ts';

/** DCNv2 cross layer. */
export interface CrossLayer {
  readonly name: string;
  /** [rank, width]; undefined: the layer is full-rank. */
  readonly v?: Tensor;
  /** Of a float8_e4m3 `v`. */
  readonly vScales?: LayerScales;
  /** [width, rank], or [width, width] of a full-rank layer. */
  readonly w: Tensor;
  /** Of a float8_e4m3 `w`. */
  readonly wScales?: LayerScales;
  /** [width]. */
  readonly bias: Tensor;
  readonly width: number;
  /** Of a full-rank layer its width. */
  readonly rank: number;
}

type CrossParameters = Omit<CrossLayer, 'name' | 'width' | 'rank'>;

/**
 * A cross layer from its parameters; a bias may be [width, 1] too, as TorchRec's full-rank layers have it.
 * @throws ModelError CHECKPOINT_INCONSISTENT when the shapes do not fit together, CHECKPOINT_UNSUPPORTED for a vector.
 */
export function crossLayer(name: string, parameters: CrossParameters): CrossLayer {
  const { v, vScales, w, wScales, bias } = parameters;
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
  checkScales(name, w, wScales, width);
  if (v !== undefined) checkScales(`V of ${name}`, v, vScales, rank);
  return { name, ...parameters, width, rank };
}

const crossMembers = membersOf<CrossLayer>({
  name: text,
  v: optional(parameter),
  vScales: optional(layerScales),
  w: parameter,
  wScales: optional(layerScales),
  bias: parameter,
  width: layerWidth,
  rank: layerWidth,
});

/** A cross layer of a caller. */
const checkedLayer: Check<CrossLayer> = (value, at) => {
  const own = crossMembers(value, at);
  const { width: _, rank: __, name, ...parameters } = own;
  const fitting = crossLayer(name, parameters);
  if (fitting.width !== own.width || fitting.rank !== own.rank)
    inconsistent(
      `${at} is [${own.width}, ${own.rank}], its parameters say [${fitting.width}, ${fitting.rank}]`,
    );
  return fitting;
};

/** The layer of a checkpoint's parameters. @throws ModelError CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT. */
function storedLayer(layer: StoredLayer): CrossLayer {
  const { v, w, weight, bias } = layer;
  const matrix = weight ?? w;
  const { name } = (matrix ?? bias ?? v) as StoredParameter;
  if (matrix === undefined || bias === undefined || (weight === undefined) === (v === undefined)) {
    const there = Object.values(layer).map((parameter) => parameter?.name);
    return inconsistent(
      `${name} lacks its other parameters: ${there.join(', ')} alone make no cross layer`,
      name,
    );
  }
  const scales = {
    v: storedScales(layer, 'v'),
    w: storedScales(layer, weight === undefined ? 'w' : 'weight'),
  };
  return crossLayer(name, {
    ...(v === undefined ? {} : { v: v.tensor }),
    ...(scales.v === undefined ? {} : { vScales: scales.v }),
    w: matrix.tensor,
    ...(scales.w === undefined ? {} : { wScales: scales.w }),
    bias: bias.tensor,
  });
}

/** DCNv2 cross layers over all vectors side by side. */
export interface CrossBlock {
  readonly kind: 'cross';
  readonly layers: readonly CrossLayer[];
}

export const crossBlock: BlockKind<CrossBlock> = {
  schema: {},
  stored: ({ layers }) => ({ kind: 'cross', layers: layers.map(storedLayer) }),
  describe: () => ({}),
  members: { kind: oneOf(['cross']), layers: listOf(checkedLayer) },
  width({ layers }, vectors) {
    const width = sum(vectors);
    if (layers.length === 0) inconsistent('a cross network has no layer');
    const odd = layers.find((layer) => layer.width !== width);
    if (odd !== undefined)
      inconsistent(`cross layers are as wide as what they cross, ${width}; ${odd.name} is ${odd.width} wide`);
    return width;
  },
  title: ({ layers }) =>
    `DCNv2 cross, ${layers.length} layers of rank ${layers.map(({ v, rank }) => (v === undefined ? 'full' : rank)).join(', ')}`,
  parameters: ({ layers }) =>
    sum(layers.map(({ v, width, rank }) => (v === undefined ? 1 : 2) * width * rank + width)),
  layers: ({ layers }) => layers.flatMap((layer) => Object.values(weightsOf(layer))),
  place: (on, { layers }) => CrossNetwork.place(on, layers),
  async reference({ layers }, { batch, values: x0 }) {
    let x = x0;
    for (const layer of layers) {
      const { bias, width, rank } = layer;
      const { v, w } = weightsOf(layer);
      const shape = { batch, activation: 'none' } as const;
      const down = v === undefined ? undefined : await readWeight(v);
      const input =
        down === undefined
          ? x
          : referenceLinear({ ...shape, inputs: width, outputs: rank, input: x, weight: down });
      const [weight, offsets] = [await readWeight(w), await readFloat32(bias)];
      const cross = { x0, x };
      x = referenceLinear({ ...shape, inputs: rank, outputs: width, input, weight, bias: offsets, cross });
    }
    return x;
  },
};

/** The weights of a layer, in the order of their products. */
function weightsOf({ name, v, vScales, w, wScales, bias, width, rank }: CrossLayer): {
  readonly v?: WeightedLayer;
  readonly w: WeightedLayer;
} {
  const scaled = (scales: LayerScales | undefined) => (scales === undefined ? {} : { scales });
  const up = { name, weight: w, ...scaled(wScales), bias, inputs: rank, outputs: width };
  if (v === undefined) return { w: up };
  return { v: { name: `V of ${name}`, weight: v, ...scaled(vScales), inputs: width, outputs: rank }, w: up };
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

  static async place(on: PlacementTarget, layers: readonly CrossLayer[]): Promise<CrossNetwork> {
    return keepingPlaced(async (keep) => {
      const place = async (layer: WeightedLayer) => keep(await placeLayer(on, layer));
      const placed: PlacedCross[] = [];
      for (const layer of layers) {
        const { v, w } = weightsOf(layer);
        placed.push({ ...(v === undefined ? {} : { v: await place(v) }), w: await place(w) });
      }
      return new CrossNetwork(placed);
    });
  }

  /** Operations from `x0` [B, width] to `output` [B, width], of one format; the layers between live in the workspace. */
  operations(x0: Matrix, output: Matrix, workspace: Workspace): Operation[] {
    let x = x0;
    return this.#layers.flatMap(({ v, w }, i): Operation[] => {
      const cross = { x0, x };
      const format = formatOf(x0);
      const low = v === undefined ? x : workspace.matrix(x0.rows, v.outputs, format);
      const next = i === this.#layers.length - 1 ? output : workspace.matrix(x0.rows, w.outputs, format);
      const down: Operation[] =
        v === undefined ? [] : [{ op: 'linear', layer: v, input: x, output: low, activation: 'none' }];
      x = next;
      return [...down, { op: 'linear', layer: w, input: low, output: next, activation: 'none', cross }];
    });
  }

  [Symbol.dispose](): void {
    for (const { v, w } of this.#layers) {
      v?.[Symbol.dispose]();
      w[Symbol.dispose]();
    }
  }
}
