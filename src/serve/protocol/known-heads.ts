/**
 * The JSON of requests that came lately. Clients whose requests have one shape send the same text before their tensors, byte for byte:
 * what it says is worked out once.
 */
import { isInBody, type TensorRequest } from './infer-request.ts';

/** Texts that are remembered, and how long each may be. */
const MOST_HEADS = 4;
const MOST_BYTES = 16 << 10;

/** So many more unknown requests than known ones, and only each 64th is remembered: where each has an id, say, none comes again. */
const PATIENCE = 16;
const SELDOM = 64;

interface KnownHead {
  readonly json: Buffer;
  readonly bodyBytes: number;
  readonly query: string;
  /** Without its body. */
  readonly request: TensorRequest;
}

const NO_BODY = new Uint8Array();

export class KnownHeads {
  readonly #heads: KnownHead[] = [];
  /** Which one is forgotten next. */
  #oldest = 0;
  /** How many more requests were unknown than known. */
  #strangers = 0;

  /** The request of a body that begins with `jsonBytes` bytes of JSON, its tensors the same object each time; undefined: it is not known. */
  find(body: Uint8Array, jsonBytes: number, query: string): TensorRequest | undefined {
    for (const { json, bodyBytes, query: own, request } of this.#heads) {
      if (bodyBytes !== body.length || json.length !== jsonBytes || own !== query) continue;
      if (json.compare(body, 0, jsonBytes) !== 0) continue;
      this.#strangers = Math.max(0, this.#strangers - 1);
      const { id, timeoutMicros, priority, outputs, binary, tensors, metadata } = request;
      return { id, timeoutMicros, priority, outputs, binary, body, tensors, metadata };
    }
    return undefined;
  }

  /** Remembers a request whose tensors all are bytes in its body: of others the body says more than its length. */
  remember(request: TensorRequest, jsonBytes: number, query: string): void {
    this.#strangers += 1;
    if (this.#strangers > PATIENCE && this.#strangers % SELDOM !== 0) return;
    const { body, tensors } = request;
    if (jsonBytes > MOST_BYTES || ![...tensors.values()].every(isInBody)) return;
    const json = Buffer.from(body.subarray(0, jsonBytes));
    this.#heads[this.#oldest] = {
      json,
      bodyBytes: body.length,
      query,
      request: { ...request, body: NO_BODY },
    };
    this.#oldest = (this.#oldest + 1) % MOST_HEADS;
  }
}
