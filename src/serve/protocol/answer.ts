/** Answers to inference requests: outputs by name, as bytes behind JSON or in JSON. */
import { at } from '../../at.ts';
import { ServeError } from '../../errors.ts';
import type { InferParameters } from './infer-request.ts';
import { shortName } from './refuse.ts';

/** An output of a model, float32 [B, width]. */
export interface ServedOutput {
  readonly name: string;
  readonly width: number;
}

/** An output that an answer gives. */
export interface GivenOutput {
  /** Its place among the model's outputs. */
  readonly index: number;
  /** Behind the JSON, as bytes. */
  readonly binary: boolean;
}

/** The body of an answer, and what its headers say of it. */
export interface InferAnswer {
  readonly contentType: 'application/json' | 'application/octet-stream';
  /** Inference-Header-Content-Length: bytes of JSON before the outputs' bytes. Undefined: all is JSON. */
  readonly jsonLength?: number;
  readonly body: Buffer;
}

/** Answers of one version of a model. */
export class AnswerWriter {
  readonly #outputs: readonly ServedOutput[];
  /** All outputs, as bytes or in JSON. */
  readonly #all: { readonly bytes: readonly GivenOutput[]; readonly json: readonly GivenOutput[] };
  /** `{"model_name":…,"model_version":…`. */
  readonly #head: string;
  /** By output: `{"name":…,"datatype":"FP32","shape":[`. */
  readonly #outputHeads: readonly string[];

  constructor(model: string, version: string, outputs: readonly ServedOutput[]) {
    this.#outputs = outputs;
    const all = (binary: boolean) => outputs.map((_, index) => ({ index, binary }));
    this.#all = { bytes: all(true), json: all(false) };
    this.#head = `{"model_name":${JSON.stringify(model)},"model_version":${JSON.stringify(version)}`;
    this.#outputHeads = outputs.map(
      ({ name }) => `{"name":${JSON.stringify(name)},"datatype":"FP32","shape":[`,
    );
  }

  /** What a request asks for, in its order; all in the model's. @throws ServeError OUTPUT_UNKNOWN. */
  given({ outputs, binary }: Partial<InferParameters>): readonly GivenOutput[] {
    if (outputs === undefined) return binary ? this.#all.bytes : this.#all.json;
    return outputs.map(({ name, binary }) => {
      const index = this.#outputs.findIndex((output) => output.name === name);
      if (index >= 0) return { index, binary };
      throw new ServeError('OUTPUT_UNKNOWN', `the model has no output ${JSON.stringify(shortName(name))}`, {
        tensor: name,
        hint: `its outputs are ${this.#outputs.map((output) => output.name).join(', ')}`,
      });
    });
  }

  /**
   * The answer for `samples` samples. `arrays`: by the model's outputs, float32 [samples, width]; those that are not given may
   * be empty. In JSON, elements stand flat in row-major order, and NaN and infinities are null.
   */
  write(
    samples: number,
    arrays: readonly Float32Array[],
    given: readonly GivenOutput[],
    id?: string,
  ): InferAnswer {
    let json = id === undefined ? this.#head : `${this.#head},"id":${JSON.stringify(id)}`;
    let binaryBytes = 0;
    let separator = ',"outputs":[';
    for (const { index, binary } of given) {
      const data = at(arrays, index);
      const shape = `${at(this.#outputHeads, index)}${samples},${at(this.#outputs, index).width}]`;
      if (binary) {
        json += `${separator}${shape},"parameters":{"binary_data_size":${data.byteLength}}}`;
        binaryBytes += data.byteLength;
      } else json += `${separator}${shape},"data":${JSON.stringify(Array.from(data))}}`;
      separator = ',';
    }
    json += given.length === 0 ? ',"outputs":[]}' : ']}';
    if (!given.some(({ binary }) => binary))
      return { contentType: 'application/json', body: Buffer.from(json) };
    const jsonLength = Buffer.byteLength(json);
    const body = Buffer.allocUnsafe(jsonLength + binaryBytes);
    body.write(json);
    let end = jsonLength;
    for (const { index, binary } of given) {
      if (!binary) continue;
      const { buffer, byteOffset, byteLength } = at(arrays, index);
      body.set(new Uint8Array(buffer, byteOffset, byteLength), end);
      end += byteLength;
    }
    return { contentType: 'application/octet-stream', jsonLength, body };
  }
}
