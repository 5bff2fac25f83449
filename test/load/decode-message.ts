/** Reads a request of the Open Inference Protocol with the binary extension: written apart from what writes it. */
import assert from 'node:assert/strict';

export interface DecodedTensor {
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data: Iterable<number | bigint>;
}

export interface DecodedBody {
  // biome-ignore lint/suspicious/noExplicitAny: JSON as it comes
  readonly json: any;
  readonly tensors: ReadonlyMap<string, DecodedTensor>;
}

export function decodeBody(body: Buffer, jsonBytes: number): DecodedBody {
  const json = JSON.parse(body.toString('utf8', 0, jsonBytes));
  const tensors = new Map<string, DecodedTensor>();
  let position = jsonBytes;
  for (const { name, datatype, shape, parameters } of json.inputs) {
    const bytes = body.subarray(position, position + parameters.binary_data_size);
    position += parameters.binary_data_size;
    const { buffer } = Uint8Array.from(bytes);
    const data =
      datatype === 'FP32'
        ? new Float32Array(buffer)
        : datatype === 'INT64'
          ? new BigInt64Array(buffer)
          : new Int32Array(buffer);
    const elements = shape.reduce((product: number, extent: number) => product * extent, 1);
    assert.equal(data.length, elements, `${name} has as many elements as its shape says`);
    tensors.set(name, { datatype, shape, data });
  }
  assert.equal(position, body.length, 'nothing follows the tensors');
  return { json, tensors };
}

export function decodeMessage(
  message: Buffer,
): DecodedBody & { readonly line: string; readonly headers: Readonly<Record<string, string>> } {
  const end = message.indexOf('\r\n\r\n');
  const [line = '', ...rest] = message.toString('latin1', 0, end).split('\r\n');
  const headers = Object.fromEntries(
    rest.map((text) => {
      const colon = text.indexOf(': ');
      return [text.slice(0, colon).toLowerCase(), text.slice(colon + 2)];
    }),
  );
  const body = message.subarray(end + 4);
  assert.equal(Number(headers['content-length']), body.length);
  return { line, headers, ...decodeBody(body, Number(headers['inference-header-content-length'])) };
}
