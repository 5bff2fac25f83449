/** A client of HTTP that shares nothing with src: answers over connections that are kept, and bytes by hand. */
import assert from 'node:assert/strict';
import { Agent, type IncomingHttpHeaders, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { SentBody } from './infer-bodies.ts';

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export class Client implements Disposable {
  readonly #agent: Agent;

  constructor(
    readonly port: number,
    connections = 64,
  ) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  ask(
    method: string,
    path: string,
    body?: Uint8Array | string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
      const asked = request(
        {
          port: this.port,
          host: '127.0.0.1',
          method,
          path,
          agent: this.#agent,
          headers: { ...length, ...headers },
        },
        async (response) => {
          try {
            const chunks: Buffer[] = [];
            for await (const chunk of response) chunks.push(chunk);
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(chunks),
            });
          } catch (error) {
            reject(error);
          }
        },
      );
      asked.once('error', reject);
      asked.end(body);
    });
  }

  get(path: string): Promise<Reply> {
    return this.ask('GET', path);
  }

  infer(model: string, { body, jsonLength, contentType }: SentBody, query = ''): Promise<Reply> {
    return this.ask('POST', `/v2/models/${model}/infer${query}`, body, {
      ...(jsonLength === undefined ? {} : { 'inference-header-content-length': jsonLength }),
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

export const jsonIn = ({ body }: Pick<Reply, 'body'>) => JSON.parse(body.toString());

interface Described {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data?: readonly (number | null)[];
  readonly parameters?: { readonly binary_data_size: number };
}

/** An answer's outputs by name, and the rest of its JSON. */
export function outputsIn({ status, headers, body }: Reply) {
  assert.equal(status, 200, body.toString());
  const said = headers['inference-header-content-length'];
  let end = said === undefined ? body.length : Number(said);
  const { outputs, ...rest } = JSON.parse(body.subarray(0, end).toString());
  assert.equal(headers['content-type'], said === undefined ? 'application/json' : 'application/octet-stream');
  const found: Record<string, number[]> = {};
  for (const { name, datatype, shape, data, parameters } of outputs as Described[]) {
    assert.equal(datatype, 'FP32');
    if (data !== undefined) found[name] = data.map((value) => value ?? Number.NaN);
    else {
      const bytes = parameters?.binary_data_size ?? 0;
      const copy = Uint8Array.from(body.subarray(end, end + bytes));
      found[name] = [...new Float32Array(copy.buffer)];
      end += bytes;
    }
    assert.equal(
      found[name]?.length,
      shape.reduce((product, extent) => product * extent, 1),
    );
  }
  assert.equal(end, body.length, 'bytes that no output has');
  return { outputs: found, ...rest };
}

/** Asserts that an answer says what is wrong as the protocol does; gives back its code. */
export function refusal({ status, headers, body }: Reply): string {
  assert.ok(status >= 400, `${status}`);
  assert.equal(headers['content-type'], 'application/json');
  const { error, code, hint } = JSON.parse(body.toString());
  assert.equal(typeof hint, 'string');
  assert.ok(error.startsWith(`${code}: `), error);
  assert.ok(error.endsWith(` (${hint})`), error);
  if (status === 503) assert.match(String(headers['retry-after']), /^[1-9]\d*$/);
  return `${status} ${code}`;
}

/** A connection, byte for byte. */
export class RawConnection implements Disposable {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #heard: () => void = () => {};
  /** Whether the server has ended its side, or all of it. */
  ended = false;
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#heard();
    });
    socket.on('error', () => {});
    const end = () => {
      this.ended = true;
      this.#heard();
    };
    socket.once('end', end);
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        end();
        resolve();
      });
    });
  }

  static open(port: number, allowHalfOpen = true): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RawConnection(socket));
      });
    });
  }

  /** Bytes that have come and that nobody asked for. */
  get unread(): number {
    return this.#received.length;
  }

  send(...parts: (string | Uint8Array)[]): this {
    for (const part of parts) this.socket.write(part);
    return this;
  }

  async #until<T>(find: () => T | undefined): Promise<T> {
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (this.ended)
        throw new Error(`the server closed the connection after ${this.#received.length} bytes`);
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
  }

  /** The next answer; `head`: one without a body. Rejects when the server ends the connection before. */
  async reply(head = false): Promise<Reply> {
    const end = await this.#until(() => {
      const place = this.#received.indexOf('\r\n\r\n');
      return place < 0 ? undefined : place;
    });
    const [line = '', ...fields] = this.#received.subarray(0, end).toString().split('\r\n');
    const headers = Object.fromEntries(
      fields.map((field) => {
        const colon = field.indexOf(':');
        return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()];
      }),
    );
    const bytes = head ? 0 : Number(headers['content-length'] ?? 0);
    const from = end + 4;
    await this.#until(() => (this.#received.length < from + bytes ? undefined : true));
    const body = this.#received.subarray(from, from + bytes);
    this.#received = this.#received.subarray(from + bytes);
    return { status: Number(line.split(' ')[1]), headers, body };
  }

  /** Resolves when the server has ended its side; gives what it had sent that nobody asked for. */
  async rest(): Promise<string> {
    while (!this.ended)
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    return this.#received.toString();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** A request's bytes. */
export function requestText(
  path: string,
  { body, jsonLength }: SentBody,
  fields: readonly string[] = [],
): Buffer {
  const head = [
    `POST ${path} HTTP/1.1`,
    'Host: h',
    `Content-Length: ${body.length}`,
    ...(jsonLength === undefined ? [] : [`Inference-Header-Content-Length: ${jsonLength}`]),
    ...fields,
  ].join('\r\n');
  return Buffer.concat([Buffer.from(`${head}\r\n\r\n`), body]);
}
