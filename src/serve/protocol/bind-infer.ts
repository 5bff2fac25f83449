/** From an inference request in any form to the request that the model takes: names, ids, vocabularies, hashes, users. */
import type { ModelInputs } from '../../model/inputs.ts';
import { bindRequest } from '../../model/request/bind-request.ts';
import { samplesRequest } from '../../model/request/json-request.ts';
import { requestParts } from '../../model/request/read-request-parts.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import type { RequestTensor } from '../../model/request/request-tensors.ts';
import { elementsOf, type InferRequest, isInBody, type TensorRequest } from './infer-request.ts';

/**
 * The request that `request` is to a model with `inputs`. Its arrays may be views of the body. Index values, and offsets that
 * are given, are not checked yet.
 * @throws RequestError naming feature, sample or tensor; WorkloadError VOCABULARY_INVALID; UsageError USAGE for a hash that
 *   cannot be.
 */
export async function bindInferRequest(request: InferRequest, inputs: ModelInputs): Promise<DlrmRequest> {
  if ('samples' in request) return samplesRequest(request.samples, inputs);
  return bindRequest(await requestParts(tensorsInMemory(request), request.metadata), inputs);
}

function tensorsInMemory({ body, tensors }: TensorRequest): ReadonlyMap<string, RequestTensor> {
  const inMemory = new Map<string, RequestTensor>();
  for (const [name, tensor] of tensors)
    inMemory.set(name, isInBody(tensor) ? elementsOf(body, tensor) : tensor);
  return inMemory;
}
