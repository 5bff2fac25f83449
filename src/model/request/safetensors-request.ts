/** Requests in safetensors files. docs/requests.md lists their forms. */
import { at } from '../../at.ts';
import { type FilePath, path } from '../../checks/value.ts';
import type { IndexArray } from '../../embedding/bag.ts';
import { fromFile } from '../../errors.ts';
import { writeSafetensors } from '../../formats/safetensors.ts';
import type { HostTensor } from '../../tensor.ts';
import { modelInputs } from '../check-inputs.ts';
import type { ModelInputs } from '../inputs.ts';
import { bindRequest } from './bind-request.ts';
import { checkRequest } from './check-request.ts';
import { readRequestParts } from './read-request-parts.ts';
import type { DlrmRequest } from './request.ts';

/**
 * Reads a request from a safetensors file. With the model's `inputs`, features go by name or number, ids become rows, raw
 * dense features are preprocessed; without, tables go by number and hold rows. Index values are checked when the request
 * runs, against the model's tables.
 * @throws UsageError FILE_*; FormatError SAFETENSORS_INVALID; RequestError naming file and tensor; WorkloadError
 *   VOCABULARY_INVALID.
 */
export async function readRequest(given: FilePath, inputs?: ModelInputs): Promise<DlrmRequest> {
  const file = path(given, 'readRequest: file');
  const own = inputs === undefined ? undefined : modelInputs(inputs, 'readRequest: inputs');
  return fromFile(file, async () => bindRequest(await readRequestParts(file), own));
}

/**
 * Writes a request with tensors per table; bags of users under `user.`, with `users` [U], the candidates of each.
 * @throws UsageError FILE_UNWRITABLE, OPTION_INVALID; RequestError for what no model takes.
 */
export async function writeRequest(given: FilePath, request: DlrmRequest): Promise<void> {
  const file = path(given, 'writeRequest: file');
  const { batchSize, dense, denseFeatures, bags, users } = checkRequest(request);
  const tensors = new Map<string, HostTensor>([
    ['dense', { dtype: 'float32', shape: [batchSize, denseFeatures], data: dense }],
  ]);
  bags.forEach(({ indices, offsets, weights, perUser }, t) => {
    const prefix = perUser === true ? 'user.' : '';
    tensors.set(`${prefix}indices.${t}`, integers(indices));
    tensors.set(`${prefix}offsets.${t}`, integers(offsets));
    if (weights !== undefined)
      tensors.set(`${prefix}weights.${t}`, { dtype: 'float32', shape: [weights.length], data: weights });
  });
  if (users !== undefined) tensors.set('users', integers(candidateCounts(users)));
  await writeSafetensors(file, tensors);
}

function candidateCounts(users: Int32Array): Int32Array {
  return users.subarray(1).map((end, u) => end - at(users, u));
}

function integers(data: IndexArray): HostTensor {
  return { dtype: data instanceof BigInt64Array ? 'int64' : 'int32', shape: [data.length], data };
}
