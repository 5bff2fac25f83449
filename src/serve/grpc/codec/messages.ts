/** The messages of the .proto files in schemas/; a test holds that they are the same. */
import { type Decoded, many, map, message, one, oneOf } from './fields.ts';

const CHOICE = 'parameter_choice';

export const InferParameter = message('InferParameter', {
  bool_param: oneOf(CHOICE, 1, 'bool'),
  int64_param: oneOf(CHOICE, 2, 'int64'),
  string_param: oneOf(CHOICE, 3, 'string'),
  double_param: oneOf(CHOICE, 4, 'double'),
  uint64_param: oneOf(CHOICE, 5, 'uint64'),
});
export type InferParameter = Decoded<typeof InferParameter>;

export const InferTensorContents = message('InferTensorContents', {
  bool_contents: many(1, 'bool'),
  int_contents: many(2, 'int32'),
  int64_contents: many(3, 'int64'),
  uint_contents: many(4, 'uint32'),
  uint64_contents: many(5, 'uint64'),
  fp32_contents: many(6, 'float'),
  fp64_contents: many(7, 'double'),
  bytes_contents: many(8, 'bytes'),
});
export type InferTensorContents = Decoded<typeof InferTensorContents>;

/** Of requests, and with other names of answers. */
const TENSOR = {
  name: one(1, 'string'),
  datatype: one(2, 'string'),
  shape: many(3, 'int64'),
  parameters: map(4, InferParameter),
  contents: one(5, InferTensorContents),
};
export const InferInputTensor = message('ModelInferRequest.InferInputTensor', TENSOR);
export type InferInputTensor = Decoded<typeof InferInputTensor>;
const InferOutputTensor = message('ModelInferResponse.InferOutputTensor', TENSOR);

const InferRequestedOutputTensor = message('ModelInferRequest.InferRequestedOutputTensor', {
  name: one(1, 'string'),
  parameters: map(2, InferParameter),
});

export const ModelInferRequest = message('ModelInferRequest', {
  model_name: one(1, 'string'),
  model_version: one(2, 'string'),
  id: one(3, 'string'),
  parameters: map(4, InferParameter),
  inputs: many(5, InferInputTensor),
  outputs: many(6, InferRequestedOutputTensor),
  raw_input_contents: many(7, 'bytes'),
});
export type ModelInferRequest = Decoded<typeof ModelInferRequest>;

export const ModelInferResponse = message('ModelInferResponse', {
  model_name: one(1, 'string'),
  model_version: one(2, 'string'),
  id: one(3, 'string'),
  parameters: map(4, InferParameter),
  outputs: many(5, InferOutputTensor),
  raw_output_contents: many(6, 'bytes'),
});

export const ServerLiveRequest = message('ServerLiveRequest', {});
export const ServerLiveResponse = message('ServerLiveResponse', { live: one(1, 'bool') });
export const ServerReadyRequest = message('ServerReadyRequest', {});
export const ServerReadyResponse = message('ServerReadyResponse', { ready: one(1, 'bool') });

/** Without a version: any. */
const NAME = { name: one(1, 'string'), version: one(2, 'string') };
export const ModelReadyRequest = message('ModelReadyRequest', NAME);
export const ModelReadyResponse = message('ModelReadyResponse', { ready: one(1, 'bool') });

export const ServerMetadataRequest = message('ServerMetadataRequest', {});
export const ServerMetadataResponse = message('ServerMetadataResponse', {
  name: one(1, 'string'),
  version: one(2, 'string'),
  extensions: many(3, 'string'),
});

const TensorMetadata = message('ModelMetadataResponse.TensorMetadata', {
  name: one(1, 'string'),
  datatype: one(2, 'string'),
  shape: many(3, 'int64'),
});
export const ModelMetadataRequest = message('ModelMetadataRequest', NAME);
export const ModelMetadataResponse = message('ModelMetadataResponse', {
  name: one(1, 'string'),
  versions: many(2, 'string'),
  platform: one(3, 'string'),
  inputs: many(4, TensorMetadata),
  outputs: many(5, TensorMetadata),
});

const StatisticDuration = message('StatisticDuration', { count: one(1, 'uint64'), ns: one(2, 'uint64') });
const InferStatistics = message('InferStatistics', {
  success: one(1, StatisticDuration),
  fail: one(2, StatisticDuration),
  queue: one(3, StatisticDuration),
  compute_input: one(4, StatisticDuration),
  compute_infer: one(5, StatisticDuration),
  compute_output: one(6, StatisticDuration),
  cache_hit: one(7, StatisticDuration),
  cache_miss: one(8, StatisticDuration),
});
const InferBatchStatistics = message('InferBatchStatistics', {
  batch_size: one(1, 'uint64'),
  compute_input: one(2, StatisticDuration),
  compute_infer: one(3, StatisticDuration),
  compute_output: one(4, StatisticDuration),
});
const ModelStatistics = message('ModelStatistics', {
  name: one(1, 'string'),
  version: one(2, 'string'),
  last_inference: one(3, 'uint64'),
  inference_count: one(4, 'uint64'),
  execution_count: one(5, 'uint64'),
  inference_stats: one(6, InferStatistics),
  batch_stats: many(7, InferBatchStatistics),
});
export const ModelStatisticsRequest = message('ModelStatisticsRequest', NAME);
export const ModelStatisticsResponse = message('ModelStatisticsResponse', {
  model_stats: many(1, ModelStatistics),
});

const ModelIndex = message('RepositoryIndexResponse.ModelIndex', {
  name: one(1, 'string'),
  version: one(2, 'string'),
  state: one(3, 'string'),
  reason: one(4, 'string'),
});
export const RepositoryIndexRequest = message('RepositoryIndexRequest', {
  repository_name: one(1, 'string'),
  ready: one(2, 'bool'),
});
export const RepositoryIndexResponse = message('RepositoryIndexResponse', { models: many(1, ModelIndex) });

const ModelRepositoryParameter = message('ModelRepositoryParameter', {
  bool_param: oneOf(CHOICE, 1, 'bool'),
  int64_param: oneOf(CHOICE, 2, 'int64'),
  string_param: oneOf(CHOICE, 3, 'string'),
  bytes_param: oneOf(CHOICE, 4, 'bytes'),
});
const REPOSITORY_MODEL = {
  repository_name: one(1, 'string'),
  model_name: one(2, 'string'),
  parameters: map(3, ModelRepositoryParameter),
};
export const RepositoryModelLoadRequest = message('RepositoryModelLoadRequest', REPOSITORY_MODEL);
export const RepositoryModelLoadResponse = message('RepositoryModelLoadResponse', {});
export const RepositoryModelUnloadRequest = message('RepositoryModelUnloadRequest', REPOSITORY_MODEL);
export const RepositoryModelUnloadResponse = message('RepositoryModelUnloadResponse', {});

export const ApplyRowPatchRequest = message('ApplyRowPatchRequest', {
  model_name: one(1, 'string'),
  patch: one(2, 'bytes'),
});
export const ApplyRowPatchResponse = message('ApplyRowPatchResponse', {
  model: one(1, 'string'),
  version: one(2, 'string'),
  sequence: one(3, 'uint64'),
  rows: one(4, 'uint64'),
  applied: one(5, 'bool'),
});

export const HealthCheckRequest = message('HealthCheckRequest', { service: one(1, 'string') });
/** `status`: a number of `SERVING_STATUS`. */
export const HealthCheckResponse = message('HealthCheckResponse', { status: one(1, 'int32') });
export const SERVING_STATUS = { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } as const;
