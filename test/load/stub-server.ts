/** A tiny server of the Open Inference Protocol, which answers as a test asks. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type DecodedBody, decodeBody } from './decode-message.ts';

export interface StubRequest extends DecodedBody {
  /** Samples, as its lengths say. */
  readonly samples: number;
  readonly headers: IncomingMessage['headers'];
}

export type Answerer = (request: StubRequest, response: ServerResponse, n: number) => void;

export const STUB_FEATURES = [
  { name: 'ads', rows: 100, kind: 'rows' },
  { name: 'city', rows: 7, kind: 'rows' },
];

/** A probability for each sample, or for `rows`. */
export function answer(response: ServerResponse, rows: number): void {
  const data = Buffer.alloc(4 * rows);
  const output = { name: 'probability', datatype: 'FP32', shape: [rows, 1] };
  const json = Buffer.from(
    JSON.stringify({
      model_name: 'm',
      outputs: [{ ...output, parameters: { binary_data_size: data.length } }],
    }),
  );
  response.setHeader('Inference-Header-Content-Length', json.length);
  response.setHeader('Content-Length', json.length + data.length);
  response.end(Buffer.concat([json, data]));
}

export function refuse(response: ServerResponse, status: number, code: string): void {
  response.statusCode = status;
  response.end(JSON.stringify({ error: `${code}: no`, code }));
}

export class StubServer implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;

  /** `models`: what its index names. */
  static async listen(answerer: Answerer, models: readonly string[] = ['m']): Promise<StubServer> {
    let n = 0;
    const server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const { url } = request;
        if (url === '/v2') response.end('{"name":"stub","version":"3"}');
        else if (url === '/v2/repository/index')
          response.end(JSON.stringify(models.map((name) => ({ name }))));
        else if (url === '/v2/models/m/infer') {
          const jsonBytes = Number(request.headers['inference-header-content-length']);
          const body = decodeBody(Buffer.concat(parts), jsonBytes);
          const samples = body.tensors.get('lengths')?.shape[1] ?? 0;
          answerer({ ...body, samples, headers: request.headers }, response, n++);
        } else if (url === '/v2/models/m')
          response.end(
            JSON.stringify({ name: 'm', parameters: { dense_features: 2, features: STUB_FEATURES } }),
          );
        else if (url === '/v2/models/broken') response.end('{"name":"broken","parameters":{}}');
        else if (url === '/v2/models/slow') return;
        else refuse(response, 404, 'MODEL_UNKNOWN');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new StubServer(server);
  }

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
