/** What clients say about a request beside its tensors: Triton's parameters, in its JSON or in the query. */
import { shown } from '../../checks/value.ts';
import type { InferParameters, OutputAsked } from './infer-request.ts';
import { invalid, listOf, objectOf, shortName } from './refuse.ts';

/** Timeouts are uint64: as a double the largest is 2^64. */
const LONGEST_TIMEOUT = 2 ** 64;
const LOWEST_PRIORITY = 2 ** 32 - 1;
/** Longer ids are refused: they are written into every answer. */
const MAX_ID_CHARACTERS = 4096;
/** More outputs than any model has. */
const MAX_OUTPUTS = 10_000;

/** Of a request that says nothing. */
export const NO_PARAMETERS: InferParameters = Object.freeze({
  id: undefined,
  timeoutMicros: undefined,
  priority: 0,
  outputs: undefined,
  binary: false,
});

/** The parameters of a query, for bodies that have no place for them: id, timeout, priority, binary_data_output. */
export function queryParameters(query: string): InferParameters {
  if (query === '') return NO_PARAMETERS;
  const given = new URLSearchParams(query);
  const number = (name: string): number | undefined => {
    const text = given.get(name);
    if (text === null) return undefined;
    return /^\d{1,20}$/.test(text) ? Number(text) : invalid(`${name} is ${shown(text)}, no whole number`);
  };
  const binary = given.get('binary_data_output');
  if (binary !== null && binary !== 'true' && binary !== 'false')
    invalid(`binary_data_output is ${shown(binary)}, must be true or false`);
  return checked({
    id: given.get('id') ?? undefined,
    timeout: number('timeout'),
    priority: number('priority'),
    outputs: undefined,
    binary: binary === 'true',
  });
}

/**
 * The parameters of a request in JSON. Those of the query count where it says nothing. Other parameters have no meaning here,
 * and are left alone, as other servers do.
 * @throws RequestError REQUEST_INVALID.
 */
export function jsonParameters(
  request: Readonly<Record<string, unknown>>,
  query: InferParameters,
): InferParameters {
  const parameters = objectOf(request.parameters, 'parameters');
  const { id = query.id } = request;
  const { timeout = query.timeoutMicros, priority = query.priority } = parameters;
  const { binary_data_output: binary = query.binary } = parameters;
  if (typeof binary !== 'boolean') invalid(`binary_data_output is ${shown(binary)}, must be true or false`);
  const outputs = request.outputs === undefined ? undefined : outputsOf(request.outputs, binary);
  return checked({ id, timeout, priority, outputs, binary });
}

function checked({
  id,
  timeout,
  priority = 0,
  outputs,
  binary,
}: {
  readonly id: unknown;
  readonly timeout: unknown;
  readonly priority: unknown;
  readonly outputs: readonly OutputAsked[] | undefined;
  readonly binary: boolean;
}): InferParameters {
  if (id !== undefined && (typeof id !== 'string' || id.length > MAX_ID_CHARACTERS))
    invalid(`id is ${shown(id)}, must be a string of at most ${MAX_ID_CHARACTERS} characters`);
  const timeoutMicros = timeout === undefined ? 0 : whole('timeout', timeout, LONGEST_TIMEOUT, ' µs');
  return {
    id,
    // As in Triton, 0 is none of its own.
    timeoutMicros: timeoutMicros === 0 ? undefined : timeoutMicros,
    priority: whole('priority', priority, LOWEST_PRIORITY),
    outputs,
    binary,
  };
}

function whole(name: string, value: unknown, most: number, unit = ''): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most) return value;
  return invalid(`${name} is ${shown(value)}, must be a whole number from 0 to ${most}${unit}`);
}

/** @throws RequestError REQUEST_INVALID. An empty list asks for all, as none does. */
function outputsOf(given: unknown, binary: boolean): readonly OutputAsked[] | undefined {
  const outputs = listOf(given, 'outputs');
  if (outputs.length > MAX_OUTPUTS) invalid(`outputs asks for ${outputs.length} tensors`);
  const names = new Set<string>();
  const asked = outputs.map((entry, i): OutputAsked => {
    const { name, parameters: own } = objectOf(entry, `outputs[${i}]`);
    if (typeof name !== 'string') return invalid(`outputs[${i}] has no name`);
    const what = `output ${shortName(name)}`;
    if (names.has(name)) invalid(`${what} is asked for twice`);
    names.add(name);
    const parameters = objectOf(own, `the parameters of ${what}`);
    refuseSharedMemory(parameters, what);
    if (Object.hasOwn(parameters, 'classification'))
      invalid(`${what}: classification is not there; outputs are numbers`);
    const { binary_data: asBytes = binary } = parameters;
    if (typeof asBytes !== 'boolean')
      invalid(`${what}: binary_data is ${shown(asBytes)}, must be true or false`);
    return { name, binary: asBytes };
  });
  return asked.length === 0 ? undefined : asked;
}

/** Tensors elsewhere than in the body would be missed silently. @throws RequestError REQUEST_INVALID. */
export function refuseSharedMemory(parameters: Readonly<Record<string, unknown>>, what: string): void {
  if (Object.hasOwn(parameters, 'shared_memory_region'))
    invalid(`${what}: shared memory is not there`, { hint: 'send tensors in the body' });
}
