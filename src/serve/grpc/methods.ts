/** The methods of the services: their messages, and how each is answered. */
import { ServeError } from '../../errors.ts';
import { health, modelMetadata, modelReady, repositoryIndex, serverMetadata } from '../protocol/documents.ts';
import { shortName } from '../protocol/refuse.ts';
import { checkLoadParameters, type ModelRepository } from '../protocol/repository.ts';
import type { ModelName, Route } from '../protocol/route.ts';
import type { FrontModels } from '../requests/front-models.ts';
import type { InferModel } from '../requests/infer-model.ts';
import { type Need, needOf } from '../security/guard.ts';
import type { Decoded, MessageType } from './codec/fields.ts';
import * as messages from './codec/messages.ts';

const INFERENCE = 'inference.GRPCInferenceService';
const PATCHES = 'hotrow.RowPatches';
const HEALTH = 'grpc.health.v1.Health';
const { SERVING_STATUS } = messages;

/** What methods ask of the server. */
export interface MethodContext {
  readonly models: FrontModels;
  readonly isLive: boolean;
  readonly isReady: boolean;
  /** JSON of HTTP's statistics, whose members have the names of the message's. */
  readonly statistics: (models: readonly InferModel[]) => Promise<string>;
  readonly repository: ModelRepository;
}

interface Described {
  /** What HTTP calls it; undefined: HTTP has no such thing. */
  readonly route: Route['kind'] | undefined;
  readonly need: Need;
}

/** A method that is asked one message and answers with one. */
interface UnaryMethod extends Described {
  readonly request: MessageType;
  readonly response: MessageType;
  /** The members of the answer. @throws what `errorAnswer` knows. */
  readonly answer: (request: never, context: MethodContext) => object | Promise<object>;
}

/** Those with words for an answer are answered otherwise. */
export type Method =
  | UnaryMethod
  | (Described & { readonly answer: 'infer' })
  | (Described & { readonly answer: 'watch' });

const described = (kind: Route['kind']): Described => ({ route: kind, need: needOf({ kind }) });

function unary<Request extends MessageType>(
  kind: Route['kind'],
  request: Request,
  response: MessageType,
  answer: (request: Decoded<Request>, context: MethodContext) => object | Promise<object>,
): UnaryMethod {
  return { ...described(kind), request, response, answer };
}

/** A model, and a version where the message says one. */
export function modelName(model: string, version: string): ModelName {
  return version === '' ? { model } : { model, version };
}

/** The status of a service, of the server, or of a model by its name; undefined: there is none of that name. */
export function servingStatus(service: string, { models, isReady }: MethodContext): number | undefined {
  const isServer = service === '' || service === INFERENCE;
  if (!isServer && !models.isKnown(service)) return undefined;
  return isReady && (isServer || models.served(service) !== undefined)
    ? SERVING_STATUS.SERVING
    : SERVING_STATUS.NOT_SERVING;
}

/** By path. */
export const METHODS: ReadonlyMap<string, Method> = new Map<string, Method>(
  Object.entries<Method>({
    [`/${INFERENCE}/ModelInfer`]: { ...described('infer'), answer: 'infer' },
    [`/${INFERENCE}/ServerLive`]: unary(
      'live',
      messages.ServerLiveRequest,
      messages.ServerLiveResponse,
      (_, { isLive }) => health('live', isLive),
    ),
    [`/${INFERENCE}/ServerReady`]: unary(
      'ready',
      messages.ServerReadyRequest,
      messages.ServerReadyResponse,
      (_, { isReady }) => health('ready', isReady),
    ),
    [`/${INFERENCE}/ModelReady`]: unary(
      'model-ready',
      messages.ModelReadyRequest,
      messages.ModelReadyResponse,
      ({ name, version }, { models, isReady }) =>
        modelReady(models.find(modelName(name, version)).served, isReady),
    ),
    [`/${INFERENCE}/ServerMetadata`]: unary(
      'server-metadata',
      messages.ServerMetadataRequest,
      messages.ServerMetadataResponse,
      () => serverMetadata(),
    ),
    [`/${INFERENCE}/ModelMetadata`]: unary(
      'model-metadata',
      messages.ModelMetadataRequest,
      messages.ModelMetadataResponse,
      ({ name, version }, { models }) => modelMetadata(models.find(modelName(name, version)).served),
    ),
    [`/${INFERENCE}/ModelStatistics`]: unary(
      'statistics',
      messages.ModelStatisticsRequest,
      messages.ModelStatisticsResponse,
      async ({ name, version }, { models, statistics }) => {
        const asked = name === '' ? models.all : [models.find(modelName(name, version))];
        return JSON.parse(await statistics(asked));
      },
    ),
    [`/${INFERENCE}/RepositoryIndex`]: unary(
      'repository-index',
      messages.RepositoryIndexRequest,
      messages.RepositoryIndexResponse,
      async ({ ready }, { repository }) => ({
        models: repositoryIndex(await repository.index(), { ready }),
      }),
    ),
    [`/${INFERENCE}/RepositoryModelLoad`]: unary(
      'load',
      messages.RepositoryModelLoadRequest,
      messages.RepositoryModelLoadResponse,
      async ({ model_name, parameters }, { repository }) => {
        checkLoadParameters(parameters.keys());
        await repository.load(model_name);
        return {};
      },
    ),
    [`/${INFERENCE}/RepositoryModelUnload`]: unary(
      'unload',
      messages.RepositoryModelUnloadRequest,
      messages.RepositoryModelUnloadResponse,
      async ({ model_name }, { repository }) => {
        await repository.unload(model_name);
        return {};
      },
    ),
    [`/${PATCHES}/Apply`]: unary(
      'patch',
      messages.ApplyRowPatchRequest,
      messages.ApplyRowPatchResponse,
      // A copy: what goes to another thread takes all of the memory along that it is a view of.
      ({ model_name, patch }, { repository }) => repository.patch(model_name, patch.slice()),
    ),
    [`/${HEALTH}/Check`]: unary(
      'ready',
      messages.HealthCheckRequest,
      messages.HealthCheckResponse,
      ({ service }, context) => {
        const status = servingStatus(service, context);
        if (status !== undefined) return { status };
        throw new ServeError('MODEL_UNKNOWN', `there is no service or model ${shortName(service)}`);
      },
    ),
    [`/${HEALTH}/Watch`]: { ...described('ready'), answer: 'watch' },
  }),
);
