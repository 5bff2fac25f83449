/** Whether an answer of the Open Inference Protocol answers its request. */
import { isList, isRecord } from '../checks/value.ts';
import { printable } from '../text.ts';
import type { Reply } from './connections.ts';
import type { HttpAnswer } from './http-answer.ts';
import type { Outcome } from './tally.ts';

/** Bytes of an element, by the protocol's datatypes. */
const BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  UINT8: 1,
  INT8: 1,
  UINT16: 2,
  INT16: 2,
  FP16: 2,
  BF16: 2,
  UINT32: 4,
  INT32: 4,
  FP32: 4,
  UINT64: 8,
  INT64: 8,
  FP64: 8,
};

/** JSON of answers that were found good, and the bytes of tensors behind them. */
interface Known {
  readonly json: Buffer;
  readonly tensorBytes: number;
}

/** Judges answers. Servers say the same of every answer of a size: what is known is not parsed again. */
export class AnswerCheck {
  readonly #known = new Map<number, Known>();

  /** What came of a request of `samples`. */
  outcome(reply: Reply, samples: number): Outcome {
    if ('broken' in reply) return { kind: 'failed', what: reply.broken };
    const { status, body } = reply;
    if (status === 200) {
      const wrong = this.#wrong(reply, samples);
      return wrong === undefined
        ? { kind: 'answered', samples }
        : { kind: 'failed', what: `answer: ${wrong}` };
    }
    const kind = status === 503 ? 'refused' : status === 504 ? 'dropped' : 'failed';
    return { kind, what: `${status} ${errorCode(body)}`.trimEnd() };
  }

  /** What is wrong with an answer; undefined: nothing. */
  #wrong({ body, jsonBytes = body.length }: HttpAnswer, samples: number): string | undefined {
    if (jsonBytes > body.length) return 'shorter than its header says';
    const json = body.subarray(0, jsonBytes);
    const known = this.#known.get(samples);
    if (known !== undefined && known.tensorBytes === body.length - jsonBytes && known.json.equals(json))
      return undefined;
    const found = readOutputs(json, samples);
    if (typeof found === 'string') return found;
    if (found !== body.length - jsonBytes) return 'tensors of another length than it says';
    this.#known.set(samples, { json: Buffer.from(json), tensorBytes: found });
    return undefined;
  }
}

/** Bytes of the tensors that follow; or what is wrong. */
function readOutputs(json: Buffer, samples: number): number | string {
  const answer = parsed(json);
  if (!isRecord(answer) || !isList(answer.outputs) || answer.outputs.length === 0) return 'no outputs';
  let bytes = 0;
  for (const output of answer.outputs) {
    if (!isRecord(output) || !isList(output.shape)) return 'an output without a shape';
    const [rows] = output.shape;
    if (rows !== samples) return 'another number of samples than was asked';
    const elements = output.shape.reduce<number>((product, extent) => product * Number(extent), 1);
    const { parameters, datatype, data } = output;
    const size = isRecord(parameters) ? parameters.binary_data_size : undefined;
    if (size === undefined) {
      if (!isList(data) || data.flat(8).length !== elements)
        return 'an output of another length than its shape';
      continue;
    }
    if (size !== elements * (BYTES[String(datatype)] ?? Number.NaN))
      return 'an output of another length than its shape';
    bytes += size;
  }
  return bytes;
}

function parsed(json: Buffer): unknown {
  try {
    return JSON.parse(json.toString('utf8'));
  } catch {
    return undefined;
  }
}

const CODE_CHARACTERS = 60;

/** What an error's body names: its `code`, or what its text begins with. */
function errorCode(body: Buffer): string {
  const answer = body.length > 65_536 ? undefined : parsed(body);
  if (!isRecord(answer)) return '';
  const { code, error } = answer;
  if (typeof code === 'string') return printable(code, CODE_CHARACTERS);
  return typeof error === 'string' ? printable(error, CODE_CHARACTERS) : '';
}
