/**
 * `hotrow/client`: asks a server for inference, from Node and from browsers. It needs `fetch` and nothing else; what it sends and reads
 * is binary.
 */
import {
  AbortError,
  ClientError,
  HotrowError,
  isErrorCode,
  ServeError,
  ServerError,
  UsageError,
} from '../errors.ts';
import { checkHeaders, checkTimeout, noAnswer, noRequest, withErrors } from './checks.ts';
import { type FeatureRequest, type JsonRequest, tensorsOf } from './request.ts';
import { RetryBudget, retryDelayMs } from './retries.ts';
import {
  decodeAnswer,
  encodeMessage,
  type InferAnswer,
  jsonIn,
  type Output,
  type RequestTensors,
} from './tensors.ts';

export {
  AbortError,
  ClientError,
  type ErrorCode,
  HotrowError,
  ServeError,
  ServerError,
  UsageError,
} from '../errors.ts';
export type { FeatureBags, FeatureRequest, Ids, JsonRequest, RequestPart } from './request.ts';
export type { InferAnswer, Output, RequestTensor, RequestTensors, TensorData } from './tensors.ts';

export interface ClientOptions {
  /** Bearer token. */
  readonly token?: string;
  /** In which a call must have its answer, its retries included; default: as long as it takes. The server is told. */
  readonly timeoutMs?: number;
  /** How often a request is sent again at most; default: 2. All calls share a budget: one retry for every ten requests, and ten beforehand. */
  readonly retries?: number;
  /** Fields that every request has. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Instead of the platform's: with certificates, or through a proxy. */
  readonly fetch?: typeof fetch;
}

export interface CallOptions {
  /** Instead of the client's. */
  readonly timeoutMs?: number;
  /** Gives the call up; the server does not run it then. */
  readonly signal?: AbortSignal;
  /** Fields of this request: `traceparent`. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface InferOptions extends CallOptions {
  /** Default: the one that the server has. */
  readonly version?: string;
  /** Comes back with the answer. */
  readonly id?: string;
  /** 1 goes first; default: the middle of the server's levels. */
  readonly priority?: number;
  /** Outputs that are wanted; default: all. */
  readonly outputs?: readonly string[];
}

/** What a model said of a request. */
export interface Prediction extends InferAnswer {
  /** Elements of the first output; of most models it is the only one, `probability` [B, 1]. */
  readonly scores: Float32Array;
}

/** A model as its server describes it. */
export interface ModelMetadata {
  readonly name: string;
  readonly versions?: readonly string[];
  readonly platform: string;
  readonly inputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly number[];
  }[];
  readonly outputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly number[];
  }[];
  readonly parameters?: {
    readonly dense_features: number;
    /** In the model's order: rows of its table, and what its ids are. */
    readonly features: readonly {
      readonly name: string;
      readonly rows: number;
      readonly kind: 'rows' | 'hash' | 'vocabulary';
    }[];
  };
}

/** A version in the server's repository. */
export interface ModelState {
  readonly name: string;
  readonly version: string;
  readonly state: string;
  readonly reason: string;
}

const USUAL_RETRIES = 2;
const NO_URL = { protocol: '', href: '', username: '', password: '' };

interface Sent {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: Uint8Array<ArrayBuffer> | string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether the server is told how long the answer is of use. */
  readonly hasDeadline?: boolean;
  /** Statuses that are answers. */
  readonly statuses?: readonly number[];
}

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ArrayBuffer;
}

export class Client {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #timeoutMs: number | undefined;
  readonly #retries: number;
  readonly #fetch: typeof fetch;
  readonly #budget = new RetryBudget();

  /** `url`: the server's, `http://localhost:8000`; a path before `/v2` may be in it. @throws UsageError OPTION_INVALID. */
  constructor(url: string | URL, options: ClientOptions = {}) {
    const { token, timeoutMs, retries = USUAL_RETRIES, headers } = options;
    const { protocol, href, username, password } = URL.canParse(String(url)) ? new URL(url) : NO_URL;
    if (protocol !== 'http:' && protocol !== 'https:')
      throw new UsageError('OPTION_INVALID', `${String(url)} is no URL of a server`, {
        hint: 'give the URL that the server says it listens on: http://localhost:8000',
      });
    // It stands in messages.
    if (username !== '' || password !== '')
      throw new UsageError('OPTION_INVALID', 'the URL of the server has a name or a password', {
        hint: 'give `token`, or `headers` with what the server wants to know',
      });
    checkTimeout(timeoutMs);
    if (!Number.isInteger(retries) || retries < 0)
      throw new UsageError('OPTION_INVALID', `retries is ${retries}, must be a whole number`);
    this.#url = href.replace(/[?#].*$/, '').replace(/\/+$/, '');
    this.#headers = { ...headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
    checkHeaders(this.#headers);
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /**
   * Scores a batch of samples, said by feature or as JSON.
   * @throws ServerError what the server says is wrong; ServeError DEADLINE_EXCEEDED when there is no answer in time; ClientError
   *   SERVER_UNREACHABLE, SERVER_ANSWER_INVALID; AbortError ABORTED; UsageError OPTION_INVALID.
   */
  async predict(
    model: string,
    request: FeatureRequest | JsonRequest,
    options: InferOptions = {},
  ): Promise<Prediction> {
    if (typeof request !== 'object' || request === null) throw noRequest(new Error('it is no object'));
    if ('samples' in request || 'candidates' in request) {
      const { id, priority, outputs } = options;
      if (outputs !== undefined)
        throw new UsageError('OPTION_INVALID', 'outputs are chosen of requests by feature alone');
      const query = new URLSearchParams({
        binary_data_output: 'true',
        ...(id === undefined ? {} : { id }),
        ...(priority === undefined ? {} : { priority: String(priority) }),
      });
      const headers = { 'content-type': 'application/json' };
      const body = withErrors(noRequest, () => JSON.stringify(request));
      return this.#infer(model, options, String(query), body, headers);
    }
    const { tensors, parameters } = withErrors(noRequest, () => tensorsOf(request));
    return this.infer(model, tensors, { ...options, parameters });
  }

  /** Scores tensors, named as docs/requests.md names them. @throws as `predict`. */
  async infer(
    model: string,
    tensors: RequestTensors,
    options: InferOptions & { readonly parameters?: Readonly<Record<string, unknown>> } = {},
  ): Promise<Prediction> {
    const { id, priority, outputs, parameters } = options;
    const { body, jsonBytes } = withErrors(noRequest, () =>
      encodeMessage(tensors, {
        ...(id === undefined ? {} : { id }),
        ...(outputs === undefined ? {} : { outputs }),
        parameters: { ...parameters, ...(priority === undefined ? {} : { priority }) },
      }),
    );
    const headers = {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(jsonBytes),
    };
    return this.#infer(model, options, '', body, headers);
  }

  /** A model's inputs, outputs and features. @throws as `predict`. */
  async metadata(
    model: string,
    { version, ...options }: CallOptions & { readonly version?: string } = {},
  ): Promise<ModelMetadata> {
    return (await this.#document({ method: 'GET', path: pathOf(model, version) }, options)) as ModelMetadata;
  }

  /** The models of the server, and their states. @throws as `predict`. */
  async models(options: CallOptions = {}): Promise<readonly ModelState[]> {
    const sent = { method: 'POST', path: '/v2/repository/index', body: '{}' } as const;
    return (await this.#document(sent, options)) as readonly ModelState[];
  }

  /** Whether the server takes requests. @throws ClientError SERVER_UNREACHABLE where there is none. */
  async ready(options: CallOptions = {}): Promise<boolean> {
    const sent = { method: 'GET', path: '/v2/health/ready', statuses: [200, 503] } as const;
    return (await this.#call(sent, options)).status === 200;
  }

  async #infer(
    model: string,
    options: InferOptions,
    query: string,
    body: NonNullable<Sent['body']>,
    headers: Readonly<Record<string, string>>,
  ): Promise<Prediction> {
    const path = `${pathOf(model, options.version)}/infer${query === '' ? '' : `?${query}`}`;
    const answer = await this.#call({ method: 'POST', path, body, headers, hasDeadline: true }, options);
    const said = answer.headers.get('inference-header-content-length');
    const decoded = withErrors(noAnswer, () =>
      decodeAnswer(answer.body, said === null ? undefined : Number(said)),
    );
    const [first] = Object.values<Output>(decoded.outputs);
    return { ...decoded, scores: first?.data ?? new Float32Array() };
  }

  async #document(sent: Sent, options: CallOptions): Promise<unknown> {
    const value = jsonIn(new Uint8Array((await this.#call(sent, options)).body));
    if (typeof value === 'object' && value !== null) return value;
    throw new ClientError('SERVER_ANSWER_INVALID', `the answer to ${sent.path} is no JSON`);
  }

  /** Sends a request until it has an answer that is not worth another try. */
  async #call(sent: Sent, { timeoutMs = this.#timeoutMs, signal, headers }: CallOptions): Promise<Answer> {
    checkTimeout(timeoutMs);
    if (headers !== undefined) checkHeaders(headers);
    const deadlineMs = timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    const giving = new AbortController();
    const late = new ServeError('DEADLINE_EXCEEDED', `no answer in ${timeoutMs} ms`);
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => giving.abort(late), timeoutMs);
    const giveUp = () => giving.abort(aborted(signal));
    if (signal?.aborted) giveUp();
    signal?.addEventListener('abort', giveUp, { once: true });
    this.#budget.earn();
    try {
      for (let tries = 1; ; tries++) {
        giving.signal.throwIfAborted();
        try {
          return await this.#send(sent, deadlineMs - performance.now(), giving.signal, headers);
        } catch (error) {
          giving.signal.throwIfAborted();
          if (!(error instanceof HotrowError) || tries > this.#retries) throw error;
          const delayMs = retryDelayMs(error, tries);
          if (delayMs === undefined || performance.now() + delayMs >= deadlineMs || !this.#budget.spend())
            throw error;
          await waited(delayMs, giving.signal);
        }
      }
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', giveUp);
    }
  }

  async #send(
    { method, path, body, headers, hasDeadline, statuses = [200] }: Sent,
    leftMs: number,
    signal: AbortSignal,
    more: Readonly<Record<string, string>> | undefined,
  ): Promise<Answer> {
    let url = `${this.#url}${path}`;
    if (hasDeadline && Number.isFinite(leftMs))
      url += `${path.includes('?') ? '&' : '?'}timeout=${Math.max(1, Math.floor(1000 * leftMs))}`;
    let answer: Answer;
    try {
      const response = await this.#fetch(url, {
        method,
        signal,
        headers: { ...this.#headers, ...headers, ...more },
        // Tokens go to this server alone.
        redirect: 'error',
        credentials: 'omit',
        ...(body === undefined ? {} : { body }),
      });
      answer = { status: response.status, headers: response.headers, body: await response.arrayBuffer() };
    } catch (cause) {
      const { message, cause: why } = cause as Error;
      const reason = why instanceof Error ? why.message : message;
      throw new ClientError('SERVER_UNREACHABLE', `${this.#url} cannot be reached: ${reason}`, { cause });
    }
    if (statuses.includes(answer.status)) return answer;
    throw serverError(answer);
  }
}

function pathOf(model: string, version: string | undefined): string {
  return withErrors(noRequest, () => {
    const path = `/v2/models/${encodeURIComponent(model)}`;
    return version === undefined ? path : `${path}/versions/${encodeURIComponent(version)}`;
  });
}

/** What the server says is wrong. */
function serverError({ status, headers, body }: Answer): ServerError {
  const value = jsonIn(new Uint8Array(body));
  const { error, code, hint } = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const known = isErrorCode(code) ? code : status < 500 ? 'SERVER_REFUSED' : 'SERVER_FAILED';
  const text = typeof error === 'string' ? error : `the server answered with status ${status}`;
  const seconds = Number(headers.get('retry-after') ?? Number.NaN);
  const ownHint = typeof hint === 'string' ? hint : undefined;
  return new ServerError(known, withoutFrame(text, code, ownHint), {
    status,
    retryAfterMs: seconds >= 0 ? 1000 * seconds : undefined,
    ...(ownHint === undefined ? {} : { hint: ownHint }),
  });
}

/** Hotrow's servers write `CODE: message (hint)`. */
function withoutFrame(text: string, code: unknown, hint: string | undefined): string {
  const [start, end] = [`${String(code)}: `, ` (${hint ?? ''})`];
  return text.startsWith(start) && text.endsWith(end) ? text.slice(start.length, -end.length) : text;
}

function aborted(signal: AbortSignal | undefined): AbortError {
  return new AbortError('ABORTED', 'the call was given up', { cause: signal?.reason });
}

/** Rejects with the signal's reason where it is aborted before. */
function waited(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', giveUp);
      resolve();
    }, ms);
    signal.addEventListener('abort', giveUp, { once: true });
  });
}
