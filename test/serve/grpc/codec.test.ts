/** The codec beside protobufjs, and bytes that are no messages. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import protobufjs from 'protobufjs';
import { decode } from '../../../src/serve/grpc/codec/decode.ts';
import { encode } from '../../../src/serve/grpc/codec/encode.ts';
import type { MessageType } from '../../../src/serve/grpc/codec/fields.ts';
import * as messages from '../../../src/serve/grpc/codec/messages.ts';
import { Random } from '../../support/random.ts';
import { comparable, forProtobufjs, randomMessage } from '../../support/random-messages.ts';
import { SEED } from '../../support/seed.ts';

/** Random messages; by hand more. */
const MESSAGES = Number(process.env.HOTROW_MESSAGES ?? 3000);

const root = new protobufjs.Root();
root.loadSync(
  ['inference', 'health', 'row_patches'].map((name) =>
    fileURLToPath(new URL(`../../../schemas/${name}.proto`, import.meta.url)),
  ),
  { keepCase: true },
);
root.resolveAll();

const TYPES = (Object.values(messages) as unknown[]).filter(
  (value): value is MessageType => typeof value === 'object' && value !== null && 'byNumber' in value,
);
const PACKAGES = ['inference', 'grpc.health.v1', 'hotrow'];
const theirs = ({ name }: MessageType): protobufjs.Type => {
  const known = PACKAGES.find((own) => root.lookup(`${own}.${name}`) !== null);
  return root.lookupType(`${known}.${name}`);
};
/** A message's name without its package. */
const ownName = (fullName: string) => fullName.replace(/^\.(inference|grpc\.health\.v1|hotrow)\./, '');

test('messages are those of the .proto files', () => {
  const known = new Set<string>();
  const check = (type: MessageType) => {
    if (known.has(type.name)) return;
    known.add(type.name);
    const fields = type.fields.map(({ name, number, holds, type: own, oneof }) => {
      if (typeof own !== 'string') check(own);
      return [name, number, holds, typeof own === 'string' ? own : own.name, oneof];
    });
    const expected = theirs(type).fieldsArray.map((field) => {
      const { resolvedType: resolved } = field;
      const message = resolved instanceof protobufjs.Type ? ownName(resolved.fullName) : '';
      const own = resolved === null ? field.type : resolved instanceof protobufjs.Enum ? 'int32' : message;
      return [
        field.name,
        field.id,
        field.map ? 'map' : field.repeated ? 'many' : 'one',
        own,
        field.partOf?.name,
      ];
    });
    assert.deepEqual(fields, expected, type.name);
  };
  for (const type of TYPES) check(type);
  const all: string[] = [];
  const walk = (from: protobufjs.NamespaceBase) => {
    for (const own of from.nestedArray) {
      if (own instanceof protobufjs.Type) all.push(ownName(own.fullName));
      if (own instanceof protobufjs.Namespace) walk(own);
    }
  };
  walk(root);
  assert.deepEqual([...known].sort(), all.sort());
});

const TO_OBJECT = { longs: String, defaults: true, arrays: true, objects: true, bytes: Buffer } as never;

test('random messages are read and written as protobufjs reads and writes them', () => {
  const random = new Random(SEED);
  for (let n = 0; n < MESSAGES; n++) {
    const type = random.next() < 0.5 ? messages.ModelInferRequest : random.pick(TYPES);
    const value = randomMessage(random, type);
    const expected = comparable(type, value);
    const own = encode(type, value);
    assert.deepEqual(comparable(type, decode(type, own) as never), expected, `${type.name}, our own`);
    const other = theirs(type);
    const written = other.encode(other.fromObject(forProtobufjs(type, value))).finish();
    assert.deepEqual(comparable(type, decode(type, written) as never), expected, `${type.name}, of theirs`);
    const read = other.toObject(other.decode(own), TO_OBJECT);
    assert.deepEqual(comparable(type, read), expected, `${type.name}, read by them`);
  }
});

const { ModelInferRequest, InferTensorContents, InferParameter, ModelStatisticsResponse } = messages;
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('fields', () => {
  test('bytes are views of the message', () => {
    const bytes = encode(ModelInferRequest, { model_name: 'm', raw_input_contents: [Buffer.from('abc')] }, 5);
    const [raw] = decode(ModelInferRequest, bytes.subarray(5)).raw_input_contents;
    assert.equal(raw?.buffer, bytes.buffer);
    assert.equal(Buffer.from(raw as Uint8Array).toString(), 'abc');
  });

  test('numbers come in one piece, in several, one by one, and mixed', () => {
    // int_contents, field 2: 1 alone; [2, -1]; 3 alone. fp32_contents, field 6: 1.5 alone; [2.5].
    const bytes = hex('10 01 12 0b 02 ffffffffffffffffff01 10 03 35 0000c03f 32 04 00002040');
    const { int_contents, fp32_contents } = decode(InferTensorContents, bytes);
    assert.deepEqual(int_contents, Int32Array.of(1, 2, -1, 3));
    assert.deepEqual(fp32_contents, Float32Array.of(1.5, 2.5));
    const many = Buffer.concat(
      Array.from({ length: 50_000 }, (_, i) => hex(i % 2 === 0 ? '18 05' : '1a 01 06')),
    );
    const { int64_contents } = decode(InferTensorContents, many);
    assert.equal(int64_contents.length, 50_000);
    assert.deepEqual([...new Set(int64_contents)], [5n, 6n]);
  });

  test('a message that comes in pieces is one; of several values the last counts', () => {
    const of = (inference_stats: object) =>
      encode(ModelStatisticsResponse, { model_stats: [{ inference_stats }] });
    assert.equal(of({ fail: { count: 1 } }).length, 8);
    // ModelStatistics.inference_stats twice, in one model_stats.
    const [stats] = decode(
      ModelStatisticsResponse,
      hex('0a 0c 32 04 0a 02 08 05 32 04 0a 02 10 07'),
    ).model_stats;
    assert.deepEqual(stats?.inference_stats?.success, { count: 5n, ns: 7n });
    const choice = decode(InferParameter, hex('08 01 1a 01 61 10 05'));
    assert.deepEqual({ ...choice }, { ...InferParameter.empty, int64_param: 5n });
  });

  test('entries of a map may lack their key or value; a key that stands twice has its last value', () => {
    const { parameters } = decode(ModelInferRequest, hex('22 00 22 03 0a 01 61 22 07 0a 01 61 12 02 08 01'));
    assert.deepEqual([...parameters.keys()], ['', 'a']);
    assert.equal(parameters.get('')?.bool_param, undefined);
    assert.equal(parameters.get('a')?.bool_param, true);
  });

  test('those that nobody knows are passed over, whatever their type', () => {
    const own = encode(ModelInferRequest, {
      model_name: 'm',
      id: 'x',
      inputs: [{ name: 'a', shape: [1, 2] }],
    });
    const unknown = [
      '9806 ffffffffffffffffff01',
      '9906 0011223344556677',
      '9a06 03 000102',
      '9d06 00112233',
      // A group with a varint, bytes and a group in it.
      '9b06 08 01 12 01 ff 9b06 9c06 9c06',
      // The largest number of a field; model_name and inputs as other types.
      'f8ffffff0f 00',
      '08 07',
      '2d 00112233',
    ];
    for (const bytes of [...unknown, unknown.join('')])
      for (const message of [Buffer.concat([hex(bytes), own]), Buffer.concat([own, hex(bytes)])])
        assert.deepEqual(decode(ModelInferRequest, message), decode(ModelInferRequest, own), bytes);
  });

  test('overlong numbers of up to ten bytes count', () => {
    assert.equal(decode(InferParameter, hex('10 85808080808080808000')).int64_param, 5n);
    assert.equal(decode(InferParameter, hex('9080808000 05')).int64_param, 5n);
    assert.equal(decode(InferParameter, hex('10 ffffffffffffffffff01')).int64_param, -1n);
  });
});

describe('what is no message is refused', () => {
  const cases: [string, MessageType, string, RegExp][] = [
    ['a number of eleven bytes', InferParameter, '10 8080808080808080808000', /more than 64 bits/],
    ['a number of 65 bits', InferParameter, '10 ffffffffffffffffff02', /more than 64 bits/],
    ['an overlong length', ModelInferRequest, '0a 80808080808080808002', /more than 64 bits/],
    ['a number that ends', InferParameter, '10 80', /ends within a number/],
    ['a tag that ends', InferParameter, '80', /ends within a number/],
    ['a double that ends', InferParameter, '21 00', /ends within a number/],
    ['a length past the end', ModelInferRequest, '0a 05 61', /goes past its end/],
    ['a length of 2^63', ModelInferRequest, '0a 80808080808080808001', /goes past its end/],
    ['an inner length past the outer end', ModelInferRequest, '2a 03 0a 05 61 0a 01 61', /goes past its end/],
    ['an inner number past the outer end', ModelInferRequest, '22 02 12 80 01', /./],
    ['numbers past their piece', InferTensorContents, '12 01 80 01', /ends within a number/],
    ['five bytes of float32', InferTensorContents, '32 05 0000000000', /5 bytes of numbers of 4/],
    ['field 0', ModelInferRequest, '00 00', /names no field/],
    ['a field beyond 2^29', ModelInferRequest, '808080801000', /names no field/],
    ['wire type 6', ModelInferRequest, '9e06', /wire type 6/],
    ['wire type 7', ModelInferRequest, '0f', /wire type 7/],
    ['an end without a group', ModelInferRequest, '9c06', /wire type 4/],
    ['a group without an end', ModelInferRequest, '9b06 08 01', /ends within a group/],
    ['a group that another ends', ModelInferRequest, '9b06 a406', /another ends/],
    ['groups in groups', ModelInferRequest, '9b06'.repeat(200), /too many/],
    ['text that is not UTF-8', ModelInferRequest, '0a 02 c328', /not UTF-8/],
    ['unknown bytes past the end', ModelInferRequest, '9a06 05 00', /goes past its end/],
  ];
  for (const [name, type, bytes, message] of cases)
    test(name, () => assert.throws(() => decode(type, hex(bytes)), { code: 'REQUEST_INVALID', message }));

  test('more messages than anyone sends', () => {
    const most = (entry: string, count: number) => {
      const bytes = hex(entry.repeat(count));
      assert.doesNotThrow(() => decode(ModelInferRequest, bytes));
      assert.throws(() => decode(ModelInferRequest, Buffer.concat([bytes, hex(entry)])), {
        code: 'REQUEST_INVALID',
        message: /more than 1048576 strings, or 65536 messages/,
      });
    };
    most('2a00', 1 << 16);
    most('3a00', 1 << 20);
  });

  test('every beginning of a message is one, or is refused', () => {
    const random = new Random(SEED + 1);
    for (let n = 0; n < 20; n++) {
      const bytes = encode(ModelInferRequest, randomMessage(random, ModelInferRequest));
      for (let end = 0; end < Math.min(bytes.length, 300); end++) refusedOrRead(bytes.subarray(0, end));
      for (let flip = 0; flip < 200; flip++) {
        const changed = Buffer.from(bytes);
        if (changed.length > 0) changed[random.integer(0, changed.length - 1)] = random.integer(0, 255);
        refusedOrRead(changed);
      }
    }
  });
});

function refusedOrRead(bytes: Uint8Array): void {
  try {
    decode(ModelInferRequest, bytes);
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'REQUEST_INVALID');
  }
}
