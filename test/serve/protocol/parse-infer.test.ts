import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { bindInferRequest } from '../../../src/serve/protocol/bind-infer.ts';
import {
  type BodyTensor,
  elementsOf,
  isInBody,
  type TensorRequest,
} from '../../../src/serve/protocol/infer-request.ts';
import { type BodyHeaders, parseInferRequest } from '../../../src/serve/protocol/parse-infer.ts';
import { NO_PARAMETERS } from '../../../src/serve/protocol/request-parameters.ts';
import { bytesOf, protocolBody, safetensorsBody } from '../../support/infer-bodies.ts';
import { expanded, f32, feature, i32, i64, inputsOf } from '../../support/request-tensors.ts';

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value));

/** A request of JSON, with `behind` behind it. */
function parsed(
  value: unknown,
  behind: Uint8Array = new Uint8Array(),
  headers: BodyHeaders = {},
): TensorRequest {
  const json = encoded(value);
  const body = Buffer.concat([json, behind]);
  const request = parseInferRequest(body, { jsonLength: String(json.length), ...headers });
  assert.ok('tensors' in request);
  return request;
}

function refuses(parse: () => unknown, code: string, message: RegExp, tensor?: string): void {
  assert.throws(parse, (error) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    if (tensor !== undefined) assert.equal(error.details.tensor, tensor);
    assert.ok(error.message.length < 500, 'however large the value is');
    return true;
  });
}

const dense = { name: 'dense', datatype: 'FP32', shape: [1, 2] };
const twoNumbers = bytesOf(f32([1, 2], [1, 2]));

test('tensors in bytes stay in the body', () => {
  const request = parsed(
    {
      inputs: [
        { ...dense, parameters: { binary_data_size: 8 } },
        { name: 'values', datatype: 'INT64', shape: [2], parameters: { binary_data_size: 16 } },
      ],
    },
    Buffer.concat([twoNumbers, bytesOf(i64([2], [7, -9]))]),
  );
  const [own, values] = [...request.tensors.values()] as [BodyTensor, BodyTensor];
  assert.ok(isInBody(own) && isInBody(values));
  assert.equal(values.byteOffset, own.byteOffset + 8);
  assert.equal(values.byteOffset + 16, request.body.length);
  assert.deepEqual(elementsOf(request.body, own).data, Float32Array.of(1, 2));
  assert.deepEqual(elementsOf(request.body, values).data, BigInt64Array.of(7n, -9n));
});

test('at any alignment, of a Buffer too, elements are the same', () => {
  for (let shift = 0; shift < 9; shift++) {
    const { body, jsonLength } = protocolBody({ values: i64([2], [2n ** 40n, -1n]) }, { shift });
    const asBuffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    for (const memory of [body, asBuffer]) {
      const request = parseInferRequest(memory, { jsonLength });
      assert.ok('tensors' in request);
      const tensor = request.tensors.get('values');
      assert.ok(tensor !== undefined && isInBody(tensor));
      assert.deepEqual(elementsOf(memory, tensor).data, BigInt64Array.of(2n ** 40n, -1n));
    }
  }
});

test('tensors in JSON, flat and nested, of every datatype', () => {
  const inputs = [
    { name: 'a', datatype: 'FP32', shape: [2, 2], data: [1, 2.5, -3, 1e-3] },
    {
      name: 'b',
      datatype: 'FP32',
      shape: [2, 2],
      data: [
        [1, 2.5],
        [-3, 1e-3],
      ],
    },
    { name: 'c', datatype: 'INT64', shape: [3], data: [1, '9223372036854775807', '-9223372036854775808'] },
    { name: 'd', datatype: 'INT32', shape: [2], data: [-(2 ** 31), 2 ** 31 - 1] },
    { name: 'e', datatype: 'FP16', shape: [2], data: [1, -0.5] },
    { name: 'f', datatype: 'BF16', shape: [2], data: [1, -0.5] },
    { name: 'g', datatype: 'FP64', shape: [1], data: [1e300] },
    { name: 'h', datatype: 'BYTES', shape: [2], data: ['Bonn', ''] },
    { name: 'i', datatype: 'INT32', shape: [2, 0], data: [[], []] },
    { name: 'j', datatype: 'INT32', shape: [0], data: [] },
    { name: 'k', datatype: 'INT32', shape: [], data: [5] },
  ];
  const request = parseInferRequest(encoded({ inputs }), { contentType: 'application/json; charset=utf-8' });
  assert.ok('tensors' in request);
  const data = Object.fromEntries(
    [...request.tensors].map(([name, tensor]) => [
      name,
      'data' in tensor ? tensor.data : 'strings' in tensor && tensor.strings,
    ]),
  );
  assert.deepEqual(data, {
    a: Float32Array.of(1, 2.5, -3, 1e-3),
    b: Float32Array.of(1, 2.5, -3, 1e-3),
    c: BigInt64Array.of(1n, 2n ** 63n - 1n, -(2n ** 63n)),
    d: Int32Array.of(-(2 ** 31), 2 ** 31 - 1),
    e: Uint16Array.of(0x3c00, 0xb800),
    f: Uint16Array.of(0x3f80, 0xbf00),
    g: Float64Array.of(1e300),
    h: ['Bonn', ''],
    i: new Int32Array(),
    j: new Int32Array(),
    k: Int32Array.of(5),
  });
});

test('data that are not what they say are refused', () => {
  const one = (datatype: string, shape: unknown, data: unknown) => () =>
    parseInferRequest(encoded({ inputs: [{ name: 'x', datatype, shape, data }] }));
  refuses(one('FP32', [2], [1, null]), 'REQUEST_INVALID', /^x: element 1, null, is no float32/);
  refuses(one('FP32', [1], ['NaN']), 'REQUEST_INVALID', /element 0, "NaN"/);
  refuses(
    () =>
      parseInferRequest(
        Buffer.from('{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1e999]}]}'),
      ),
    'REQUEST_INVALID',
    /element 0, Infinity/,
  );
  refuses(one('INT32', [1], [2 ** 31]), 'REQUEST_INVALID', /element 0, 2147483648, is no int32/);
  refuses(one('INT32', [1], [1.5]), 'REQUEST_INVALID', /1\.5/);
  refuses(one('INT64', [1], [2 ** 53]), 'REQUEST_INVALID', /9007199254740992/);
  refuses(one('INT64', [1], ['9223372036854775808']), 'REQUEST_INVALID', /is no int64/);
  refuses(one('INT64', [1], ['0x10']), 'REQUEST_INVALID', /is no int64/);
  refuses(one('BYTES', [1], [1]), 'REQUEST_INVALID', /element 0, 1, is no BYTES/);
  refuses(one('FP32', [3], [1, 2]), 'TENSOR_SHAPE', /2 elements of data, shape \[3\] has 3/);
  refuses(one('FP32', [2], [1, 2, 3]), 'TENSOR_SHAPE', /3 elements of data/);
  refuses(one('FP32', [2, 2], [[1, 2], [3]]), 'TENSOR_SHAPE', /lists in lists/);
  refuses(
    one(
      'FP32',
      [2, 2],
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
    ),
    'TENSOR_SHAPE',
    /lists in lists/,
  );
  refuses(one('FP32', [2], [[1], [2]]), 'REQUEST_INVALID', /element 0, a list/);
  refuses(one('FP32', [2], { 0: 1, 1: 2, length: 2 }), 'REQUEST_INVALID', /is not a list/);
  refuses(one('UINT8', [1], [1]), 'TENSOR_DTYPE', /"UINT8" has no place/);
  refuses(one('constructor', [1], [1]), 'TENSOR_DTYPE', /constructor/);
  for (const shape of [undefined, 3, [-1], [1.5], ['1'], [2 ** 53], new Array(9).fill(1), null])
    refuses(one('FP32', shape, [1]), 'TENSOR_SHAPE', /not a list of extents/, 'x');
  for (const shape of [[2 ** 30], [2 ** 40, 2 ** 40], new Array(8).fill(2 ** 52)])
    refuses(one('FP32', shape, []), 'TENSOR_SHAPE', /4 GiB or more/, 'x');
});

test('bytes that are not as many as they say are refused', () => {
  const input = (size: unknown, more = {}) => ({ ...dense, parameters: { binary_data_size: size }, ...more });
  refuses(
    () => parsed({ inputs: [input(8)] }, twoNumbers.subarray(1)),
    'REQUEST_INVALID',
    /8 bytes of the body, and 7 are left/,
    'dense',
  );
  refuses(
    () => parsed({ inputs: [input(8)] }, Buffer.concat([twoNumbers, Buffer.of(0)])),
    'REQUEST_INVALID',
    /1 bytes are left in the body/,
  );
  refuses(
    () => parsed({ inputs: [input(4)] }, twoNumbers),
    'TENSOR_SHAPE',
    /needs 8 bytes, it has 4/,
    'dense',
  );
  refuses(
    () => parsed({ inputs: [input(16)] }, Buffer.concat([twoNumbers, twoNumbers])),
    'TENSOR_SHAPE',
    /needs 8 bytes, it has 16/,
    'dense',
  );
  for (const size of [-8, 8.5, '8', Number.MAX_VALUE, null])
    refuses(
      () => parsed({ inputs: [input(size)] }, twoNumbers),
      'REQUEST_INVALID',
      /no number of bytes/,
      'dense',
    );
  refuses(
    () => parsed({ inputs: [input(8, { data: [1, 2] })] }, twoNumbers),
    'REQUEST_INVALID',
    /data and a binary/,
    'dense',
  );
  refuses(() => parsed({ inputs: [dense] }), 'REQUEST_INVALID', /neither data nor/, 'dense');
  refuses(
    () => parsed({ inputs: [input(8), input(8)] }, Buffer.concat([twoNumbers, twoNumbers])),
    'REQUEST_INVALID',
    /twice/,
    'dense',
  );
  // Without the header, all of the body is JSON.
  refuses(
    () => parseInferRequest(encoded({ inputs: [input(8)] })),
    'REQUEST_INVALID',
    /and 0 are left/,
    'dense',
  );
});

test('the length of the JSON is of the body', () => {
  const body = encoded({ inputs: [] });
  for (const jsonLength of ['', '-1', '1e1', ' 5', String(body.length + 1), '9'.repeat(400), 'x'])
    refuses(
      () => parseInferRequest(body, { jsonLength }),
      'REQUEST_INVALID',
      /Inference-Header-Content-Length/,
    );
  refuses(() => parseInferRequest(body, { jsonLength: '0' }), 'JSON_INVALID', /JSON/);
  refuses(() => parseInferRequest(body, { jsonLength: String(body.length - 1) }), 'JSON_INVALID', /JSON/);
  assert.ok('tensors' in parseInferRequest(body, { jsonLength: String(body.length) }));
});

test('BYTES are strings of ids', async () => {
  const inputs = inputsOf(
    [feature('city', { ids: { kind: 'vocabulary', values: ['Bonn', 'Köln', ''] } })],
    [],
  );
  const tensors = {
    'values.city': { shape: [3], strings: ['Köln', '', 'Bonn'] },
    'lengths.city': i32([2], [1, 2]),
  };
  for (const inJson of [() => true, () => false]) {
    const { body, ...headers } = protocolBody(tensors, { inJson });
    const request = await bindInferRequest(parseInferRequest(body, headers), inputs);
    assert.deepEqual(expanded(request).bags, [[[1], [2, 0]]]);
  }
  const { body, ...headers } = protocolBody({
    ...tensors,
    'values.city': { shape: [3], strings: ['Köln', '', 'Ulm'] },
  });
  await assert.rejects(bindInferRequest(parseInferRequest(body, headers), inputs), { code: 'UNKNOWN_ID' });
  const asRows = protocolBody({ 'indices.0': { shape: [1], strings: ['0'] }, 'lengths.0': i32([1], [1]) });
  await assert.rejects(bindInferRequest(parseInferRequest(asRows.body, asRows), inputs), {
    code: 'TENSOR_DTYPE',
    message: /indices\.0 is of strings/,
  });
});

test('BYTES that do not add up are refused', () => {
  const input =
    (bytes: Uint8Array, shape = [2]) =>
    () =>
      parsed(
        { inputs: [{ name: 's', datatype: 'BYTES', shape, parameters: { binary_data_size: bytes.length } }] },
        bytes,
      );
  const two = bytesOf({ shape: [2], strings: ['ab', 'c'] });
  assert.ok(input(two)().tensors.has('s'));
  refuses(input(two.subarray(0, 10)), 'REQUEST_INVALID', /element 1 goes past the end/, 's');
  refuses(input(two.subarray(0, 8)), 'REQUEST_INVALID', /end before element 1/, 's');
  refuses(input(two, [1]), 'REQUEST_INVALID', /5 bytes are left after/, 's');
  refuses(input(two, [3]), 'REQUEST_INVALID', /3 strings do not fit/, 's');
  refuses(input(two, [2 ** 31]), 'REQUEST_INVALID', /more than/, 's');
  refuses(input(Buffer.of(255, 255, 255, 255, 1, 0, 0, 0)), 'REQUEST_INVALID', /element 0 goes past/, 's');
  refuses(input(Buffer.of(1, 0, 0, 0, 0xff, 0, 0, 0, 0)), 'REQUEST_INVALID', /element 0 is not UTF-8/, 's');
});

test('parameters of a request', () => {
  const parameters = (value: object) => {
    const { body: _, tensors: __, metadata: ___, ...rest } = parsed({ inputs: [], ...value });
    return rest;
  };
  assert.deepEqual(parameters({}), NO_PARAMETERS);
  assert.deepEqual(
    parameters({
      id: 'a"b',
      parameters: { timeout: 2000, priority: 3, binary_data_output: true, sequence_id: 7, other: [] },
      outputs: [{ name: 'logit', parameters: { binary_data: false, other: 1 } }, { name: 'probability' }],
    }),
    {
      id: 'a"b',
      timeoutMicros: 2000,
      priority: 3,
      binary: true,
      outputs: [
        { name: 'logit', binary: false },
        { name: 'probability', binary: true },
      ],
    },
  );
  assert.deepEqual(parameters({ parameters: { timeout: 0 }, outputs: [] }), NO_PARAMETERS);
  assert.equal(parameters({ parameters: { timeout: 2 ** 64 - 2 ** 11 } }).timeoutMicros, 2 ** 64 - 2 ** 11);
  const wrong: [object, RegExp][] = [
    [{ id: 5 }, /id is 5/],
    [{ id: null }, /id is null/],
    [{ id: 'x'.repeat(5000) }, /at most 4096/],
    [{ parameters: [] }, /parameters is not an object/],
    [{ parameters: null }, /parameters is not an object/],
    ...[-1, 0.5, '5', 1e300, null, {}].map((timeout): [object, RegExp] => [
      { parameters: { timeout } },
      /timeout is/,
    ]),
    ...[-1, 0.5, '5', 2 ** 32, null].map((priority): [object, RegExp] => [
      { parameters: { priority } },
      /priority is/,
    ]),
    [{ parameters: { binary_data_output: 1 } }, /binary_data_output is 1/],
    [{ outputs: {} }, /outputs is not a list/],
    [{ outputs: [{}] }, /outputs\[0\] has no name/],
    [{ outputs: ['probability'] }, /outputs\[0\] is not an object/],
    [{ outputs: [{ name: 'a' }, { name: 'a' }] }, /asked for twice/],
    [{ outputs: [{ name: 'a', parameters: { binary_data: 'yes' } }] }, /binary_data is "yes"/],
    [{ outputs: [{ name: 'a', parameters: { classification: 2 } }] }, /classification/],
    [{ outputs: [{ name: 'a', parameters: { shared_memory_region: 'r' } }] }, /shared memory/],
    [{ outputs: new Array(10_001).fill({}) }, /10001/],
    [{ inputs: [{ ...dense, parameters: { shared_memory_region: 'r' } }] }, /shared memory/],
    [{ inputs: undefined }, /inputs is not a list/],
    [{ inputs: [7] }, /inputs\[0\] is not an object/],
    [{ inputs: [{ ...dense, name: 7 }] }, /inputs\[0\] has no name/],
  ];
  for (const [value, message] of wrong) refuses(() => parameters(value), 'REQUEST_INVALID', message);
});

test('parameters in the query count where the body says nothing', () => {
  const query = 'timeout=500&priority=2&id=a%20b&binary_data_output=true&other=1';
  const expected = { timeoutMicros: 500, priority: 2, id: 'a b', outputs: undefined, binary: true };
  const safetensors = safetensorsBody({ dense: f32([1, 1]) });
  const {
    body: _,
    tensors: __,
    metadata: ___,
    ...ofTensors
  } = parseInferRequest(safetensors.body, { query }) as TensorRequest;
  assert.deepEqual(ofTensors, expected);
  const samples = parseInferRequest(encoded({ dense: [1] }), { query });
  assert.ok('samples' in samples);
  assert.deepEqual({ ...samples, samples: 0 }, { ...expected, samples: 0 });
  const own = { inputs: [], id: 'own', parameters: { timeout: 7, binary_data_output: false } };
  const { id, timeoutMicros, priority, binary } = parsed(own, undefined, { query });
  assert.deepEqual(
    { id, timeoutMicros, priority, binary },
    { id: 'own', timeoutMicros: 7, priority: 2, binary: false },
  );
  for (const wrong of [
    'timeout=-1',
    'timeout=1e3',
    'timeout=99999999999999999999',
    'priority=',
    'binary_data_output=1',
  ])
    refuses(() => parseInferRequest(encoded({ dense: [1] }), { query: wrong }), 'REQUEST_INVALID', /is/);
});

test('content tells the form, but for types that are no request', () => {
  const safetensors = safetensorsBody({ dense: f32([1, 2], [1, 2]) }).body;
  const samples = encoded({ samples: [{ dense: [1, 2] }] });
  const protocol = encoded({ inputs: [] });
  const types = [
    undefined,
    '',
    'application/json',
    'Application/Octet-Stream',
    'application/x-www-form-urlencoded',
    'text/plain;x=y',
  ];
  for (const contentType of types) {
    assert.ok('tensors' in parseInferRequest(safetensors, { contentType }));
    assert.ok('samples' in parseInferRequest(samples, { contentType }));
    assert.ok('tensors' in parseInferRequest(protocol, { contentType, contentEncoding: 'identity' }));
  }
  assert.ok('tensors' in parseInferRequest(safetensors, { contentType: 'application/vnd.safetensors' }));
  refuses(
    () => parseInferRequest(samples, { contentType: 'application/vnd.safetensors' }),
    'SAFETENSORS_INVALID',
    /the body/,
  );
  for (const contentType of ['text/html', 'multipart/form-data; boundary=x', 'application/grpc', ';'])
    refuses(() => parseInferRequest(protocol, { contentType }), 'CONTENT_UNSUPPORTED', /the body is/);
  for (const contentEncoding of ['gzip', 'deflate, identity'])
    refuses(() => parseInferRequest(protocol, { contentEncoding }), 'CONTENT_UNSUPPORTED', /encoded/);
});

test('JSON may begin anywhere', () => {
  for (let spaces = 0; spaces < 12; spaces++)
    assert.ok('samples' in parseInferRequest(Buffer.from(`${' '.repeat(spaces)}{"samples":[]}`)));
});

test('the example of the docs is a request', async () => {
  const docs = readFileSync(new URL('../../../docs/serving-protocol.md', import.meta.url), 'utf8');
  const [, json] = /dlrm\/infer -d '([^']+)'/.exec(docs) ?? [];
  const request = parseInferRequest(Buffer.from(json ?? ''));
  assert.deepEqual([request.id, request.timeoutMicros], ['17', 20_000]);
  const bound = await bindInferRequest(request, inputsOf([feature('a'), feature('b')], ['x', 'y']));
  assert.deepEqual(expanded(bound).bags, [
    [[17, 4], [9]],
    [[3], [5]],
  ]);
});

test('safetensors that are damaged are refused', () => {
  const { body } = safetensorsBody({ dense: f32([1, 2], [1, 2]) });
  const cut =
    (bytes: Uint8Array, contentType = 'application/vnd.safetensors') =>
    () =>
      parseInferRequest(bytes, { contentType });
  refuses(cut(body.subarray(0, -1)), 'SAFETENSORS_INVALID', /1 bytes short/, 'dense');
  refuses(cut(Buffer.concat([body, Buffer.of(0)])), 'SAFETENSORS_INVALID', /1 bytes after/);
  refuses(cut(body.subarray(0, 20)), 'SAFETENSORS_INVALID', /the file has 20/);
  for (const length of [0, 7]) refuses(cut(body.subarray(0, length)), 'SAFETENSORS_INVALID', /too few/);
  refuses(cut(Buffer.alloc(16, 0xff)), 'SAFETENSORS_INVALID', /more than the format's/);
});

test('JSON bombs and text that is none', () => {
  const parse = (text: string) => () => parseInferRequest(Buffer.from(text));
  const deep = `${'['.repeat(5_000_000)}`;
  refuses(parse(deep), 'JSON_INVALID', /nested more than/);
  refuses(
    () => parseInferRequest(Buffer.from(deep), { jsonLength: String(deep.length) }),
    'JSON_INVALID',
    /nested more than/,
  );
  refuses(parse(`{"inputs":${'[1,'.repeat(100)}`), 'JSON_INVALID', /nested more than/);
  refuses(parse('{"inputs":[],"inputs":[]}'), 'REQUEST_INVALID', /stands twice/);
  const twice = '{"inputs":[],"id":"a","id":"b"}';
  refuses(
    () => parseInferRequest(Buffer.from(twice), { jsonLength: String(twice.length) }),
    'REQUEST_INVALID',
    /"id" stands twice/,
  );
  for (const text of ['', ' ', 'null', '[]', '7', '{"inputs":', 'inputs'])
    assert.throws(parse(text), (error) => error instanceof HotrowError);
  refuses(() => parseInferRequest(Buffer.of(0x7b, 0xff, 0x7d)), 'JSON_INVALID', /not UTF-8/);
  refuses(() => parseInferRequest(Buffer.alloc((64 << 20) + 1, 0x20)), 'BODY_TOO_LARGE', /67108865 bytes/);
  refuses(
    () => parseInferRequest(Buffer.alloc((64 << 20) + 1), { jsonLength: String((64 << 20) + 1) }),
    'BODY_TOO_LARGE',
    /64 MiB/,
  );
});

test('names that objects have anyway are names like others', async () => {
  const text =
    '{"__proto__":{"inputs":[]},"inputs":[{"name":"__proto__","datatype":"INT32","shape":[1],"data":[1]},{"name":"constructor","datatype":"INT32","shape":[1],"data":[1]}],"parameters":{"__proto__":{"timeout":5}}}';
  const request = parseInferRequest(Buffer.from(text));
  assert.ok('tensors' in request);
  assert.deepEqual([...request.tensors.keys()], ['__proto__', 'constructor']);
  assert.equal(request.timeoutMicros, undefined);
  assert.equal(({} as Record<string, unknown>).inputs, undefined);
  await assert.rejects(bindInferRequest(request, inputsOf([feature('a')], [])), {
    code: 'TENSOR_UNEXPECTED',
  });
  const only = parseInferRequest.bind(undefined, Buffer.from('{"__proto__":{"inputs":[]}}'));
  refuses(only, 'REQUEST_INVALID', /__proto__/);
});

test('NaN in dense features passes', async () => {
  const { body, ...headers } = protocolBody({
    dense: f32([1, 2], [Number.NaN, 1]),
    'indices.0': i32([1, 1], [0]),
  });
  const request = await bindInferRequest(
    parseInferRequest(body, headers),
    inputsOf([feature('a')], ['x', 'y']),
  );
  assert.deepEqual([...request.dense], [Number.NaN, 1]);
});

test('what lengths and shapes of tensors say must agree', async () => {
  const inputs = inputsOf([feature('a'), feature('b')], ['x', 'y']);
  const good = { dense: f32([2, 2]), values: i64([3], [1, 2, 3]), lengths: i32([2, 2], [1, 0, 1, 1]) };
  const bind = async (tensors: object, parameters = {}) => {
    const { body, ...headers } = protocolBody({ ...good, ...tensors }, { extra: { parameters } });
    return bindInferRequest(parseInferRequest(body, headers), inputs);
  };
  assert.deepEqual(expanded(await bind({})).bags, [
    [[1], []],
    [[2], [3]],
  ]);
  assert.deepEqual(expanded(await bind({}, { features: ['b', 'a'] })).bags, [
    [[2], [3]],
    [[1], []],
  ]);
  assert.deepEqual(expanded(await bind({}, { features: '["b", "a"]' })).bags, [
    [[2], [3]],
    [[1], []],
  ]);
  const refused: [object, object, string][] = [
    [{ lengths: i32([2, 2], [1, 0, 1, 2]) }, {}, 'LENGTHS_INVALID'],
    [{ lengths: i32([2, 2], [1, 0, 1, 0]) }, {}, 'LENGTHS_INVALID'],
    [{ lengths: i32([2, 2], [1, -1, 2, 1]) }, {}, 'LENGTHS_INVALID'],
    [{ lengths: i32([3, 2]) }, {}, 'TENSOR_SHAPE'],
    [{ lengths: i32([5]) }, {}, 'TENSOR_SHAPE'],
    [{ lengths: f32([2, 2]) }, {}, 'TENSOR_DTYPE'],
    [{ values: f32([3]) }, {}, 'TENSOR_DTYPE'],
    [{ dense: i32([2, 2]) }, {}, 'TENSOR_DTYPE'],
    [{ dense: f32([3, 2]) }, {}, 'TENSOR_SHAPE'],
    [{ dense: f32([2, 3]) }, {}, 'TENSOR_SHAPE'],
    [{ weights: f32([2]) }, {}, 'TENSOR_SHAPE'],
    [{ more: f32([2]) }, {}, 'TENSOR_UNEXPECTED'],
    [{ users: i32([2], [1, 2]) }, {}, 'USERS_INVALID'],
    [{ users: { shape: [1], strings: ['2'] } }, {}, 'TENSOR_DTYPE'],
    [{ values: { shape: [3], strings: ['1', '2', '3'] } }, {}, 'TENSOR_DTYPE'],
    [{}, { features: ['a'] }, 'TENSOR_SHAPE'],
    [{}, { features: ['a', 'a'] }, 'TENSOR_UNEXPECTED'],
    [{}, { features: ['a', 'c'] }, 'FEATURE_UNKNOWN'],
    [{}, { features: 7 }, 'REQUEST_INVALID'],
    [{}, { features: 'a,b' }, 'REQUEST_INVALID'],
    [{}, { 'user.features': ['a'] }, 'OK'],
  ];
  for (const [tensors, parameters, code] of refused) {
    if (code === 'OK') await bind(tensors, parameters);
    else
      await assert.rejects(
        bind(tensors, parameters),
        { code },
        JSON.stringify([Object.keys(tensors), parameters]),
      );
  }
});
