/** Calls of gRPC by hand, over node:http2: what a client that does wrong sends. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
} from 'node:http2';

const INFER = '/inference.GRPCInferenceService/ModelInfer';

export interface Ended {
  readonly headers: IncomingHttpHeaders;
  /** Of a call that has no answer, those of its head. */
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** With which the stream was reset; 0: it was not. */
  readonly reset: number;
}

/** `CODE STATUS`, of HTTP where that is none of gRPC. */
export function endOf({ headers, trailers, reset }: Ended): string {
  const status = trailers['grpc-status'] ?? headers['grpc-status'];
  if (status !== undefined)
    return `${status} ${trailers['hotrow-code'] ?? headers['hotrow-code'] ?? ''}`.trim();
  return headers[':status'] === undefined ? `reset ${reset}` : `HTTP ${headers[':status']}`;
}

/** A message in a frame. */
export function frame(message: Uint8Array, packed = 0, length = message.length): Buffer {
  const head = Buffer.alloc(5);
  head[0] = packed;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

export class H2Client implements Disposable {
  readonly session: ClientHttp2Session;
  /** The server has said what its limits are. */
  readonly ready: Promise<void>;
  readonly closed: Promise<void>;

  constructor(port: number) {
    this.session = connect(`http://127.0.0.1:${port}`);
    this.session.on('error', () => {});
    this.ready = new Promise((resolve) => this.session.once('remoteSettings', () => resolve()));
    this.closed = new Promise((resolve) => this.session.once('close', () => resolve()));
  }

  /** The head of a call. */
  open(headers: Readonly<Record<string, string>> = {}, endStream = false): ClientHttp2Stream {
    const stream = this.session.request(
      { ':method': 'POST', ':path': INFER, 'content-type': 'application/grpc', te: 'trailers', ...headers },
      { endStream },
    );
    stream.on('error', () => {});
    return stream;
  }

  /** A call whose body is `parts`, one by one. */
  async call(headers: Readonly<Record<string, string>>, ...parts: readonly Uint8Array[]): Promise<Ended> {
    const stream = this.open(headers);
    const ended = ending(stream);
    for (const part of parts) {
      if (stream.destroyed) break;
      await new Promise<void>((resolve) => stream.write(part, () => resolve()));
    }
    if (!stream.destroyed) stream.end();
    return ended;
  }

  [Symbol.dispose](): void {
    this.session.destroy();
  }
}

/** How a stream ends, whatever happens to it. */
export function ending(stream: ClientHttp2Stream): Promise<Ended> {
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on('response', (own) => {
    headers = own;
  });
  stream.on('trailers', (own) => {
    trailers = own;
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    stream.once('close', () =>
      resolve({ headers, trailers, body: Buffer.concat(chunks), reset: stream.rstCode }),
    );
  });
}
