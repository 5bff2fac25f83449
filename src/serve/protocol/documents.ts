/** What a server says of itself and of its models. Each function gives a document's JSON as a value. */
import { at } from '../../at.ts';
import type { FeatureInput, ModelInputs } from '../../model/inputs.ts';
import { version as hotrowVersion } from '../../version.ts';
import type { ServedOutput } from './answer.ts';

/** A version of a model, as its documents describe it. */
export interface ServedModel {
  readonly name: string;
  readonly version: string;
  readonly inputs: ModelInputs;
  /** Rows of each table, in the order of the features. */
  readonly tableRows: readonly number[];
  readonly outputs: readonly ServedOutput[];
}

/** What of Triton's extensions is there. */
const EXTENSIONS = ['binary_tensor_data', 'schedule_policy', 'statistics', 'model_repository'];

/** GET /v2. */
export function serverMetadata(): object {
  return { name: 'hotrow', version: hotrowVersion, extensions: EXTENSIONS };
}

/**
 * GET /v2/models/{model}. Inputs are those of the form in one piece; of a model with a vocabulary of strings, those by feature,
 * where BYTES may stand. `features` says of each what its ids are (`rows`, `hash`, `vocabulary`), and how many rows its table has.
 */
export function modelMetadata({ name, version, inputs, tableRows, outputs }: ServedModel): object {
  const { features, dense } = inputs;
  return {
    name,
    versions: [version],
    platform: 'hotrow',
    inputs: [
      ...(dense.length === 0 ? [] : [{ name: 'dense', datatype: 'FP32', shape: [-1, dense.length] }]),
      ...(features.some(hasStrings) ? features.flatMap(inputsByFeature) : inputsInOnePiece(features.length)),
    ],
    outputs: outputs.map(({ name, width }) => ({ name, datatype: 'FP32', shape: [-1, width] })),
    parameters: {
      dense_features: dense.length,
      features: features.map(({ name, ids }, table) => ({
        name,
        rows: at(tableRows, table),
        kind: ids.kind,
      })),
    },
  };
}

function inputsInOnePiece(features: number): object[] {
  return [
    { name: 'values', datatype: 'INT64', shape: [-1] },
    { name: 'lengths', datatype: 'INT32', shape: [features, -1] },
  ];
}

function inputsByFeature(feature: FeatureInput): object[] {
  const { name } = feature;
  return [
    { name: `values.${name}`, datatype: hasStrings(feature) ? 'BYTES' : 'INT64', shape: [-1] },
    { name: `lengths.${name}`, datatype: 'INT32', shape: [-1] },
  ];
}

function hasStrings({ ids }: FeatureInput): boolean {
  return ids.kind === 'vocabulary' && typeof ids.values[0] === 'string';
}

/** GET /v2/models/{model}/ready; not ready goes with status 503. */
export function modelReady({ name }: Pick<ServedModel, 'name'>, ready: boolean): object {
  return { name, ready };
}

/** GET /v2/health/live and /ready; not so goes with status 503. */
export function health(kind: 'live' | 'ready', is: boolean): object {
  return { [kind]: is };
}

/** A version in the repository. */
export interface RepositoryEntry {
  readonly name: string;
  readonly version: string;
  readonly state: 'READY' | 'LOADING' | 'UNLOADING' | 'UNAVAILABLE';
  /** Why it is not ready; else empty. */
  readonly reason: string;
}

/** POST /v2/repository/index. `request`: its body's JSON, `{"ready": true}` for those that are ready alone. */
export function repositoryIndex(
  entries: readonly RepositoryEntry[],
  request?: unknown,
): readonly RepositoryEntry[] {
  const onlyReady =
    typeof request === 'object' && request !== null && 'ready' in request && request.ready === true;
  return onlyReady ? entries.filter(({ state }) => state === 'READY') : entries;
}
