/** Linear layers and stacks of them (MLPs) on a device. */
import Type from 'typebox';
import { at } from '../at.ts';
import {
  ACTIVATIONS,
  type Activation,
  type Matrix,
  type Operation,
  type PlacedLinear,
} from '../backend/backend.ts';
import { keepingPlaced } from '../backend/keep-placed.ts';
import type { Workspace } from '../backend/workspace.ts';
import { type Check, listOf, membersOf, oneOf, optional, text } from '../checks/value.ts';
import { activationsOn } from '../device.ts';
import { ModelError } from '../errors.ts';
import { elementCount, type Tensor } from '../tensor.ts';
import {
  type BlockKind,
  type PlacementTarget,
  type StoredLayer,
  type StoredParameter,
  sum,
} from './block.ts';
import { checkScales, type LayerScales, layerScales, readWeight, storedScales } from './layer-scales.ts';
import { placeLayer } from './place-layer.ts';
import { referenceLinear } from './reference.ts';
import { inconsistent, layerWidth, parameter, readFloat32 } from './weights.ts';

/** y = activation(W·x + b). */
export interface LinearLayer {
  /** The layer's name in the checkpoint, without `.weight`. */
  readonly name: string;
  /** [outputs, inputs], a floating-point dtype; float8_e4m3 with scales. */
  readonly weight: Tensor;
  /** [outputs]. */
  readonly bias?: Tensor;
  /** Of a float8_e4m3 weight. */
  readonly scales?: LayerScales;
  readonly inputs: number;
  readonly outputs: number;
  readonly activation: Activation;
}

const layerMembers = membersOf<LinearLayer>({
  name: text,
  weight: parameter,
  bias: optional(parameter),
  scales: optional(layerScales),
  inputs: layerWidth,
  outputs: layerWidth,
  activation: oneOf(ACTIVATIONS),
});

/** A layer of a caller. @throws UsageError OPTION_INVALID; RequestError TENSOR_*; ModelError CHECKPOINT_INCONSISTENT. */
export const linearLayer: Check<LinearLayer> = (value, at) => {
  const own = layerMembers(value, at);
  const { weight, bias, inputs, outputs } = own;
  const { shape } = weight;
  if (shape.length !== 2 || shape[0] !== outputs || shape[1] !== inputs)
    inconsistent(`${at}.weight has shape [${shape}], expected [${outputs}, ${inputs}]`);
  if (bias !== undefined && elementCount(bias.shape) !== outputs)
    inconsistent(`${at}.bias has shape [${bias.shape}], expected [${outputs}]`);
  checkScales(`${own.name}.weight`, weight, own.scales, outputs);
  return own;
};

/**
 * The layers of a checkpoint's parameters: relu, and `last` at the end.
 * @throws ModelError CHECKPOINT_UNSUPPORTED, CHECKPOINT_INCONSISTENT.
 */
function storedLayers(layers: readonly StoredLayer[], last: Activation): LinearLayer[] {
  const biased = layers.find(({ bias }) => bias !== undefined)?.bias;
  return layers.map((layer, i) => {
    const { weight, bias } = layer;
    const [first] = Object.values(layer);
    if (weight === undefined) return inconsistent(`the weight of ${first?.name} is missing`, first?.name);
    if (biased !== undefined && bias === undefined) {
      const absent = weight.name.replace(/weight$/, 'bias');
      inconsistent(`${absent} is missing, while ${biased.name} is there`, absent);
    }
    const scales = storedScales(layer, 'weight');
    return storedLayer(weight, bias, scales, i === layers.length - 1 ? last : 'relu');
  });
}

function storedLayer(
  weight: StoredParameter,
  bias: StoredParameter | undefined,
  scales: LayerScales | undefined,
  activation: Activation,
): LinearLayer {
  for (const { name, tensor } of [weight, ...(bias === undefined ? [] : [bias])]) {
    if (/^b?float(16|32|64)$/.test(tensor.dtype)) continue;
    if (tensor === weight.tensor && tensor.dtype === 'float8_e4m3') continue;
    throw new ModelError(
      'CHECKPOINT_UNSUPPORTED',
      `${name} is ${tensor.dtype}; layers are float32, float64, float16, bfloat16, or float8_e4m3 with scales`,
      { tensor: name },
    );
  }
  const [outputs, inputs] = weight.tensor.shape;
  if (weight.tensor.shape.length !== 2 || !outputs || !inputs)
    return inconsistent(
      `${weight.name} has shape [${weight.tensor.shape}], not [outputs, inputs]`,
      weight.name,
    );
  if (bias !== undefined && (bias.tensor.shape.length !== 1 || bias.tensor.shape[0] !== outputs))
    inconsistent(`${bias.name} has shape [${bias.tensor.shape}] for ${outputs} outputs`, bias.name);
  checkScales(weight.name, weight.tensor, scales, outputs);
  return {
    name: weight.name.replace(/\.weight$/, ''),
    weight: weight.tensor,
    ...(scales === undefined ? {} : { scales }),
    ...(bias === undefined ? {} : { bias: bias.tensor }),
    inputs,
    outputs,
    activation,
  };
}

/** Layer after layer. */
export interface MlpBlock {
  readonly kind: 'mlp';
  readonly layers: readonly LinearLayer[];
}

export const mlpBlock: BlockKind<MlpBlock> = {
  takesFloat32: true,
  givesFloat32: true,
  schema: {
    activations: Type.Optional(
      Type.Array(Type.Enum([...ACTIVATIONS]), {
        description: 'one for each layer; default: relu, and sigmoid at the end of an output',
      }),
    ),
  },
  stored({ described, layers: stored, last }) {
    const layers = storedLayers(stored, last);
    const { activations } = described as { readonly activations?: readonly Activation[] };
    if (activations === undefined) return { kind: 'mlp', layers };
    if (activations.length !== layers.length)
      inconsistent(`${activations.length} activations are given for ${layers.length} layers`);
    return { kind: 'mlp', layers: layers.map((layer, i) => ({ ...layer, activation: at(activations, i) })) };
  },
  describe: ({ layers }) => ({ activations: layers.map(({ activation }) => activation) }),
  members: { kind: oneOf(['mlp']), layers: listOf(linearLayer) },
  width({ layers }, vectors) {
    if (layers.length === 0) inconsistent('an MLP has no layer');
    return layers.reduce((given, { name, inputs, outputs }) => {
      if (inputs !== given) inconsistent(`${name} takes ${inputs} inputs, it gets ${given}`);
      return outputs;
    }, sum(vectors));
  },
  title: ({ layers }, vectors) =>
    `MLP ${[sum(vectors), ...layers.map(({ outputs }) => outputs)].join(' → ')}`,
  parameters: ({ layers }) =>
    sum(layers.map(({ inputs, outputs, bias }) => outputs * (inputs + (bias === undefined ? 0 : 1)))),
  layers: ({ layers }) => layers,
  place: (on, { layers }) => Mlp.place(on, layers),
  async reference({ layers }, { batch, values }) {
    let input = values;
    for (const layer of layers) {
      const { bias, inputs, outputs, activation } = layer;
      const parameters = {
        weight: await readWeight(layer),
        bias: bias === undefined ? undefined : await readFloat32(bias),
      };
      input = referenceLinear({ batch, inputs, outputs, input, activation, ...parameters });
    }
    return input;
  },
};

/** y = activation(x·Wᵀ + b), layer after layer. */
export class Mlp implements Disposable {
  readonly #layers: readonly { readonly placed: PlacedLinear; readonly activation: Activation }[];

  private constructor(layers: readonly { placed: PlacedLinear; activation: Activation }[]) {
    this.#layers = layers;
  }

  /** Reads the layers' weights and places them. */
  static async place(on: PlacementTarget, layers: readonly LinearLayer[]): Promise<Mlp> {
    return keepingPlaced(async (keep) => {
      const placed: { placed: PlacedLinear; activation: Activation }[] = [];
      for (const layer of layers)
        placed.push({ placed: keep(await placeLayer(on, layer)), activation: layer.activation });
      return new Mlp(placed);
    });
  }

  /** Operations from `input` [B, inputs] to `output` [B, outputs]; the layers between live in the workspace. */
  operations(input: Matrix, output: Matrix, workspace: Workspace): Operation[] {
    let from = input;
    return this.#layers.map(({ placed, activation }, i) => {
      const last = i === this.#layers.length - 1;
      const format = activationsOn(placed.device, placed.precision);
      const to = last ? output : workspace.matrix(input.rows, placed.outputs, format);
      const operation: Operation = { op: 'linear', layer: placed, input: from, output: to, activation };
      from = to;
      return operation;
    });
  }

  [Symbol.dispose](): void {
    for (const { placed } of this.#layers) placed[Symbol.dispose]();
  }
}
