/**
 * The golden models and requests, put together by hand from their tensors, so that they share nothing with the
 * loaders in src/model.
 */
import type { Bags, EmbeddingTable, IndexArray } from '../../src/embedding/bag.ts';
import type { DlrmArchitecture, Interaction, LinearLayer } from '../../src/model/architecture.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import { type HostTensor, toFloat32 } from '../../src/tensor.ts';
import { goldenPath } from './golden.ts';
import { readSafetensors } from './safetensors.ts';

type Tensors = ReadonlyMap<string, HostTensor>;

export interface GoldenModel {
  /** The model's safetensors file. */
  readonly file: string;
  readonly architecture: DlrmArchitecture;
  readonly request: DlrmRequest;
  readonly expected: Tensors;
}

function get(tensors: Tensors, name: string): HostTensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  return tensor;
}

/** Layers named by `names`, ReLU between them and `last` after them. */
function layers(tensors: Tensors, names: readonly string[], last: 'relu' | 'sigmoid'): LinearLayer[] {
  return names.map((name, i) => {
    const weight = get(tensors, `${name}.weight`);
    const [outputs, inputs] = weight.shape as [number, number];
    const activation = i === names.length - 1 ? last : 'relu';
    return { name, weight, bias: get(tensors, `${name}.bias`), inputs, outputs, activation };
  });
}

function tables(tensors: Tensors, nameOf: (t: number) => string): EmbeddingTable[] {
  const found: EmbeddingTable[] = [];
  for (let t = 0; tensors.has(nameOf(t)); t++) {
    const weight = get(tensors, nameOf(t));
    const [rows, dim] = weight.shape as [number, number];
    found.push({ name: nameOf(t), weight, rows, dim, rowFormat: 'float32', mode: 'sum' });
  }
  return found;
}

function readRequest(tensors: Tensors, tableCount: number): DlrmRequest {
  const dense = get(tensors, 'dense');
  const [batchSize, denseFeatures] = dense.shape as [number, number];
  const bags = Array.from(
    { length: tableCount },
    (_, t): Bags => ({
      indices: get(tensors, `indices.${t}`).data as IndexArray,
      offsets: get(tensors, `offsets.${t}`).data as IndexArray,
    }),
  );
  return { batchSize, denseFeatures, dense: toFloat32(dense), bags };
}

function multihot(tensors: Tensors): DlrmArchitecture {
  return {
    naming: 'dlrm',
    denseFeatures: 20,
    tables: tables(tensors, (t) => `emb_l.${t}.weight`),
    bottom: layers(tensors, ['bot_l.0', 'bot_l.2'], 'relu'),
    interaction: { kind: 'dot', diagonal: false, order: 'lower' },
    top: layers(tensors, ['top_l.0', 'top_l.2', 'top_l.4'], 'sigmoid'),
  };
}

function dcnv2(tensors: Tensors): DlrmArchitecture {
  const interaction: Interaction = {
    kind: 'cross',
    layers: [0, 1, 2].map((i) => {
      const v = get(tensors, `inter_arch.crossnet.V_kernels.${i}`);
      const [rank, width] = v.shape as [number, number];
      return {
        name: `inter_arch.crossnet.${i}`,
        v,
        w: get(tensors, `inter_arch.crossnet.W_kernels.${i}`),
        bias: get(tensors, `inter_arch.crossnet.bias.${i}`),
        width,
        rank,
      };
    }),
  };
  const bottom = [0, 1].map((i) => `dense_arch.model._mlp.${i}._linear`);
  const over = [0, 1].map((i) => `over_arch.model.0._mlp.${i}._linear`);
  return {
    naming: 'torchrec',
    denseFeatures: 10,
    tables: tables(tensors, (t) => `sparse_arch.embedding_bag_collection.embedding_bags.t_cat_${t}.weight`),
    bottom: layers(tensors, bottom, 'relu'),
    interaction,
    top: layers(tensors, [...over, 'over_arch.model.1'], 'sigmoid'),
  };
}

const ARCHITECTURES = { dlrm_multihot: multihot, dlrm_dcnv2: dcnv2 };
export type GoldenModelName = keyof typeof ARCHITECTURES;
export const GOLDEN_MODELS = Object.keys(ARCHITECTURES) as GoldenModelName[];

/** The golden model `name` with its request and outputs; undefined where its files are not. */
export function readGoldenModel(name: GoldenModelName): GoldenModel | undefined {
  const [model, request, expected] = ['model', 'request', 'expected'].map((part) =>
    goldenPath(`${name}.${part}.safetensors`),
  );
  if (model === undefined || request === undefined || expected === undefined) return undefined;
  const architecture = ARCHITECTURES[name](readSafetensors(model).tensors);
  return {
    file: model,
    architecture,
    request: readRequest(readSafetensors(request).tensors, architecture.tables.length),
    expected: readSafetensors(expected).tensors,
  };
}
