/**
 * Hotrow's public API: load a DLRM and predict, run an embedding collection by itself, read requests and traces, check
 * plans. Everything that holds device memory is disposable: close it, or declare it with `await using`.
 */
export { Admission, type AdmissionLimits } from './backend/admission.ts';
export type { Backend, Ceilings, HostMemory } from './backend/backend.ts';
export { hostBytes } from './backend/host-arrays.ts';
export { type OpenedBackend, type OpenOptions, openBackend } from './backend/open-backend.ts';
export type { FilePath } from './checks/value.ts';
export type {
  DensePrecision,
  DeviceCapabilities,
  DeviceDescription,
  DeviceKind,
  ElementFormat,
  RecordedDevice,
} from './device.ts';
export type {
  BagBatch,
  BagFindings,
  Bags,
  EmbeddingTable,
  IndexArray,
  IndexChecking,
  PoolingMode,
  RowFormat,
} from './embedding/bag.ts';
export {
  dequantizeRows,
  type QuantizationError,
  type QuantizedRows,
  quantizeRows,
  relativeRmsError,
} from './embedding/quantize.ts';
export { type QuantizedRowFormat, ROW_FORMATS, rowBytes } from './embedding/row-format.ts';
export type { RowValues } from './embedding/row-values.ts';
export {
  AbortError,
  type AbortErrorCode,
  ClientError,
  type ClientErrorCode,
  CudaError,
  type CudaFailure,
  DeviceError,
  type DeviceErrorCode,
  type ErrorCode,
  type ErrorDetails,
  FormatError,
  type FormatErrorCode,
  HotrowError,
  ModelError,
  type ModelErrorCode,
  PlanError,
  type PlanErrorCode,
  RequestError,
  type RequestErrorCode,
  ServeError,
  type ServeErrorCode,
  ServerError,
  UsageError,
  type UsageErrorCode,
  WorkloadError,
  type WorkloadErrorCode,
} from './errors.ts';
export type {
  BlocksArchitecture,
  CrossLayer,
  DlrmArchitecture,
  Interaction,
  LinearLayer,
  ModelArchitecture,
} from './model/architecture.ts';
export type { Block, Part } from './model/block-list.ts';
export { checkedArchitecture as inferArchitecture } from './model/check-tensors.ts';
export { loadCheckpoint } from './model/checkpoint/checkpoint.ts';
export { lossWarnings } from './model/checkpoint/quantization-loss.ts';
export {
  type QuantizedTable,
  type QuantizeOptions,
  quantizeCheckpoint,
} from './model/checkpoint/quantize-checkpoint.ts';
export {
  type CollectionOptions,
  EmbeddingCollection,
  type ForwardOptions,
  type PooledEmbeddings,
} from './model/collection.ts';
export { DlrmModel, type DlrmOptions, type ModelOverwrite } from './model/dlrm.ts';
export type { ArchitectureOverrides } from './model/infer-architecture.ts';
export {
  type DenseInput,
  defaultInputs,
  type FeatureInput,
  type IdHash,
  type IdRule,
  type MissingFeature,
  type ModelInputs,
  PREPROCESSING,
  type Preprocessing,
  type UnknownId,
} from './model/inputs.ts';
export { type LoadModelOptions, loadModel } from './model/load-model.ts';
export { PlacedRequest } from './model/placed-request.ts';
export type { Prediction, PredictOptions, StagedPrediction, StageTimes } from './model/prediction.ts';
export type { FeatureLookups, FeaturePart, FeatureRequest } from './model/request/feature-request.ts';
export { readJsonRequest } from './model/request/json-request.ts';
export { requestSchema } from './model/request/json-samples.ts';
export type { DlrmRequest } from './model/request/request.ts';
export { requestByFeature } from './model/request/request-by-feature.ts';
export { readRequest, writeRequest } from './model/request/safetensors-request.ts';
export { type CandidatePart, scoreRequest, type TableBags, type UserPart } from './model/request/score.ts';
export {
  devicePlacement,
  type Placement,
  parsePlacement,
  placementLabel,
  placementSchema,
} from './plan/placement.ts';
export {
  checkPlan,
  heuristicPlan,
  type Plan,
  parsePlan,
  plainPlan,
  planLabel,
  planSchema,
  readPlan,
  refusals,
  withTechniques,
} from './plan/plan.ts';
export { TECHNIQUES } from './plan/techniques/registry.ts';
export type {
  PlanContext,
  Technique,
  TechniqueCost,
  TechniqueOnDevice,
} from './plan/techniques/technique.ts';
export { renderReport } from './report/page.ts';
export { parseResults, type Results, readResults } from './report/read-results.ts';
export type {
  AssembledTensor,
  DType,
  FileTensor,
  HostTensor,
  StoredTensor,
  SyntheticTensor,
  Tensor,
} from './tensor.ts';
export { version } from './version.ts';
export {
  ACCESS_PATTERNS,
  type AccessPatternName,
  accessPattern,
  createStream,
  generateIndices,
} from './workload/access-patterns.ts';
export { type CategoryRows, type CriteoOptions, type CriteoRows, readCriteo } from './workload/criteo.ts';
export {
  type Coverage,
  countRows,
  coverageCurve,
  type Hotness,
  measureHotness,
  nearestPattern,
  type RowCounts,
} from './workload/hotness.ts';
export { type RequestFile, type RequestFileOptions, readRequestFile } from './workload/request-file.ts';
export { syntheticBags, syntheticRequest } from './workload/synthetic.ts';
export { readTrace, type Trace } from './workload/trace.ts';
export { type TrafficSource, trafficSources } from './workload/traffic/sources.ts';
export { readTraffic, type Traffic, type TrafficShape } from './workload/traffic/traffic.ts';
