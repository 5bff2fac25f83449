/** Architectures of callers, checked and copied before anything is placed: every layer fits the one before. */
import { ACTIVATIONS } from '../backend/backend.ts';
import { checkTensor } from '../checks/tensor.ts';
import {
  type Check,
  flag,
  listOf,
  type Members,
  membersOf,
  oneOf,
  optional,
  record,
  text,
} from '../checks/value.ts';
import { crossLayer } from '../dense/cross.ts';
import { elementCount, isHost, isStored, type Tensor } from '../tensor.ts';
import {
  type CrossLayer,
  type DlrmArchitecture,
  type Interaction,
  interactionWidth,
  type LinearLayer,
} from './architecture.ts';
import { checkInputsFit, inconsistent, MODEL_MEMBERS, layerWidth as width } from './check-model.ts';

const FLOATS: readonly string[] = ['float32', 'float16', 'bfloat16', 'float64'];

/** A parameter of a dense layer: floating point, with values. @throws RequestError TENSOR_*; ModelError. */
const parameter: Check<Tensor> = (value, at) => {
  const tensor = checkTensor(value, at);
  if (!FLOATS.includes(tensor.dtype))
    inconsistent(`${at} is ${tensor.dtype}, must be one of ${FLOATS.join(', ')}`);
  if (!isStored(tensor) && !isHost(tensor))
    inconsistent(`${at} has no values: dense weights cannot be synthetic`);
  return tensor;
};

const layerMembers = membersOf<LinearLayer>({
  name: text,
  weight: parameter,
  bias: optional(parameter),
  inputs: width,
  outputs: width,
  activation: oneOf(ACTIVATIONS),
});

const layer: Check<LinearLayer> = (value, at) => {
  const own = layerMembers(value, at);
  const { weight, bias, inputs, outputs } = own;
  const { shape } = weight;
  if (shape.length !== 2 || shape[0] !== outputs || shape[1] !== inputs)
    inconsistent(`${at}.weight has shape [${shape}], expected [${outputs}, ${inputs}]`);
  if (bias !== undefined && elementCount(bias.shape) !== outputs)
    inconsistent(`${at}.bias has shape [${bias.shape}], expected [${outputs}]`);
  return own;
};

const crossMembers = membersOf<CrossLayer>({
  name: text,
  v: optional(parameter),
  w: parameter,
  bias: parameter,
  width,
  rank: width,
});

const cross: Check<CrossLayer> = (value, at) => {
  const own = crossMembers(value, at);
  const fitting = crossLayer(own.name, own);
  if (fitting.width !== own.width || fitting.rank !== own.rank)
    inconsistent(
      `${at} is [${own.width}, ${own.rank}], its parameters say [${fitting.width}, ${fitting.rank}]`,
    );
  return fitting;
};

const INTERACTIONS: Readonly<{ [K in Interaction['kind']]: Check<Extract<Interaction, { kind: K }>> }> = {
  dot: membersOf<Extract<Interaction, { kind: 'dot' }>>({
    kind: oneOf(['dot']),
    diagonal: flag,
    order: oneOf(['lower', 'upper']),
  }),
  cat: membersOf<Extract<Interaction, { kind: 'cat' }>>({ kind: oneOf(['cat']) }),
  cross: membersOf<Extract<Interaction, { kind: 'cross' }>>({
    kind: oneOf(['cross']),
    layers: listOf(cross),
  }),
};

const interaction: Check<Interaction> = (value, at) => {
  const kinds = Object.keys(INTERACTIONS) as Interaction['kind'][];
  return INTERACTIONS[oneOf(kinds)(record(value, at).kind, `${at}.kind`)](value, at);
};

const members = membersOf<DlrmArchitecture>({
  ...MODEL_MEMBERS,
  bottom: listOf(layer),
  interaction,
  top: listOf(layer),
  output: optional(oneOf(['probability', 'logit'])),
  notes: optional(listOf(text)),
} satisfies Members<DlrmArchitecture>);

/**
 * The architecture that a value is, read once, frozen.
 * @throws UsageError OPTION_INVALID for members that are not what they must be, RequestError TENSOR_* for tensors; ModelError
 *   CHECKPOINT_INCONSISTENT for layers that do not fit each other.
 */
export function checkArchitecture(value: unknown): DlrmArchitecture {
  const own = members(value, 'architecture');
  const { tables, bottom, top, denseFeatures } = own;
  const dims = tables.map(({ dim }) => dim);
  const bottomWidth = checkChain('bottom MLP', bottom, denseFeatures);
  if (own.interaction.kind === 'dot' && dims.some((dim) => dim !== bottomWidth))
    inconsistent(
      `the dot interaction needs tables of dim ${bottomWidth}, the bottom MLP's outputs; theirs are ${dims}`,
    );
  const met = interactionWidth(own.interaction, bottomWidth, dims);
  if (own.interaction.kind === 'cross' && own.interaction.layers.some((one) => one.width !== met))
    inconsistent(`cross layers are as wide as what they cross, ${met}`);
  const last = checkChain('top MLP', top, met);
  if (last !== 1) inconsistent(`the top MLP ends with ${last} outputs, a click model has 1`);
  checkInputsFit(own);
  return Object.freeze(own);
}

/** What the last layer gives. */
function checkChain(what: string, layers: readonly LinearLayer[], from: number): number {
  if (layers.length === 0) inconsistent(`the ${what} has no layer`);
  return layers.reduce((given, { name, inputs, outputs }) => {
    if (inputs !== given) inconsistent(`${what}: ${name} takes ${inputs} inputs, it gets ${given}`);
    return outputs;
  }, from);
}
