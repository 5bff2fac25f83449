/** Inference over HTTP: what its requests say beside their bodies, and its answers. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { SlotArena } from '../engine/arena.ts';
import { nowMs, turnMs } from '../engine/clock.ts';
import type { InferAnswer } from '../protocol/answer.ts';
import type { KnownHeads } from '../protocol/known-heads.ts';
import { type BodyHeaders, parseInferRequest } from '../protocol/parse-infer.ts';
import { type Arrived, type InferModel, modelFor, type TransportForm } from '../requests/infer-model.ts';
import { receiveBody } from './receive-body.ts';
import { smallestRequest } from './smallest-request.ts';

/** Requests that a thread sends itself before the first one comes. */
const WARM_UP_REQUESTS = 400;
/** The same where code is compiled already, and the objects of a new model are used for the first time. */
const REPEATED_REQUESTS = 20;
const WARM_UP_MS = 2000;

/**
 * Answers a request; undefined: its client went away. `current`: the model that is served; the one that is when the body has come
 * answers, so that no slow body keeps a model that is replaced.
 * @throws what is wrong with the request: errors that `errorAnswer` knows; Refused; BatchFailedError; what `current` throws.
 */
export async function inferOverHttp(
  current: () => InferModel,
  request: IncomingMessage,
  response: ServerResponse,
  query: string,
  { arena, slaMs, tell }: Pick<Arrived, 'arena' | 'slaMs' | 'tell'>,
): Promise<InferAnswer | undefined> {
  const arrivedMs = turnMs();
  const received = await receiveBody(request, current().room(arena));
  if (received === undefined) return undefined;
  const model = modelFor(received, arena, current);
  const { headers } = request;
  const said = {
    contentType: headers['content-type'],
    contentEncoding: headers['content-encoding'],
    jsonLength: oneOf(headers['inference-header-content-length']),
    query,
  };
  const form = httpForm(model, said, model.heads);
  return model.answer(received, form, { arena, arrivedMs, slaMs, client: response, tell });
}

/**
 * Runs small requests, as a client would send them, through this thread and the engines: code that has run some hundred times is
 * compiled. A model that takes no such requests is not warmed up.
 */
export async function warmUp(
  model: InferModel,
  arena: SlotArena,
  isCompiled = false,
  requests = isCompiled ? REPEATED_REQUESTS : WARM_UP_REQUESTS,
): Promise<void> {
  const { body, jsonLength } = smallestRequest(model.served);
  // Each is read: all have the same JSON, as clients' requests need not.
  const form = httpForm(model, { jsonLength: String(jsonLength), query: '' });
  const { before, behind } = model.room(arena);
  const endMs = nowMs() + WARM_UP_MS;
  for (let i = 0; i < requests && nowMs() < endMs; i++) {
    const slot = arena.take(before + body.length + behind);
    if (slot === undefined) return;
    const own = slot.bytes.subarray(before, before + body.length);
    own.set(body);
    const request = { arena, arrivedMs: nowMs(), slaMs: undefined, client: undefined, tell: () => {} };
    try {
      await model.answer({ slot, body: own }, form, request);
    } catch {
      return;
    }
  }
}

function httpForm({ writer }: InferModel, said: BodyHeaders, known?: KnownHeads): TransportForm<InferAnswer> {
  return {
    read: (body) => parseInferRequest(body, said, known),
    write: (samples, arrays, given, id) => writer.write(samples, arrays, given, id),
  };
}

function oneOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}
