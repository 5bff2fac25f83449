/** The structs and numbers that the host and kernels share: the compiler says whether both have the same. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { vectorBytes } from '../../src/backend/cuda/embedding/fused-source.ts';
import { ROW_TYPES } from '../../src/backend/cuda/kernels/source.ts';
import { Struct, struct } from '../../src/backend/cuda/kernels/struct.ts';
import { UTILITY_KERNELS, utilitySource } from '../../src/backend/cuda/kernels/utilities.ts';
import { HOT_ROWS_BINS, ROW_CHOICE_WORDS } from '../../src/backend/cuda/rows/hot-rows-params.ts';
import { deviceRowBytes } from '../../src/backend/cuda/rows/row-layout.ts';
import { ROW_FUNCTIONS } from '../../src/backend/row-functions.ts';
import { ROW_FORMATS, rowLayout } from '../../src/embedding/row-format.ts';
import {
  ACTIVATION,
  BAGS_WORDS,
  CHECK_REPORT_WORDS,
  OPERATOR,
  OPERATOR_WORDS,
  POOLING,
  PREFETCH_LEVEL,
  TABLE_WORDS,
} from '../../src/ffi/cpu-operators.ts';
import { compiler, HOST_FLAGS, refuseEmulation } from '../emulation/emulator.ts';

const CUDA = new URL('../../src/backend/cuda/', import.meta.url);
const HEADERS = new URL('../../kernels/cuda/', import.meta.url);
const skip = refuseEmulation();

/** Every struct that a module of the CUDA backend exports. */
async function exportedStructs(): Promise<Struct[]> {
  const files = (readdirSync(CUDA, { recursive: true }) as string[]).filter((file) => file.endsWith('.ts'));
  const names = files.map((file) => file.slice(0, -'.ts'.length));
  const modules = await Promise.all(names.map((name) => import(`../../src/backend/cuda/${name}.ts`)));
  const values = modules.flatMap((module) => Object.values(module as Record<string, unknown>));
  return [...new Set(values)].filter((value) => value instanceof Struct);
}

const structs = await exportedStructs();

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What must hold of a struct for its encoder to be right. */
function assertions({ name, fields, bytes }: Pick<Struct, 'name' | 'fields' | 'bytes'>): string[] {
  const own = `hotrow::${name}`;
  const members = Object.entries(fields).flatMap(([field, kind], i) => {
    const member = `${own}::${snakeCase(field)}`;
    const type = kind === 'address' ? 'is_pointer' : 'is_integral';
    return [
      [`offsetof(${own}, ${snakeCase(field)}) == ${8 * i}`, member],
      [`sizeof(${member}) == 8 && std::${type}<decltype(${member})>::value`, `${member} is no ${kind}`],
    ];
  });
  return [...members, [`sizeof(${own}) == ${bytes}`, `size of ${name}`]].map(
    ([condition, what]) => `static_assert(${condition}, "${what}");`,
  );
}

/** What the C++ compiler has against assertions about headers in kernels/; empty: nothing. */
function complaints(headers: readonly string[], checks: readonly string[]): string {
  const includes = [
    '"ptx.h"',
    '"hopper.h"',
    '<cstddef>',
    '<type_traits>',
    ...headers.map((header) => `"${header}"`),
  ];
  const unit = [...includes.map((header) => `#include ${header}`), ...checks, ''].join('\n');
  const flags = [...HOST_FLAGS, '-Wno-invalid-offsetof', '-fsyntax-only', '-x', 'c++', '-'];
  const { status, stderr } = spawnSync(compiler(), flags, { input: unit, encoding: 'utf8' });
  return status === 0 ? '' : stderr;
}

const headersOf = (list: readonly Struct[]) => [...new Set(list.map(({ header }) => header))];

test('structs have the fields of the kernels’ headers, in their order, one 64-bit word each', {
  skip,
}, () => {
  assert.equal(complaints(headersOf(structs), structs.flatMap(assertions)), '');
});

test('a struct with a field too few, two fields in turn or a field of another kind is found', {
  skip,
}, () => {
  const header = 'copy_words.cuh';
  for (const [fields, complaint] of [
    [{ source: 'address', target: 'address', words: 'integer' }, /size of CopyWordsParams/],
    [
      { target: 'address', source: 'address', words: 'integer', clears: 'integer' },
      /CopyWordsParams::source/,
    ],
    [{ source: 'integer', target: 'address', words: 'integer', clears: 'integer' }, /source is no integer/],
    [{ source: 'address', target: 'address', words: 'integer', clear: 'integer' }, /clear/],
  ] as const) {
    assert.match(complaints([header], assertions(new Struct('CopyWordsParams', header, fields))), complaint);
  }
});

test('every struct of 64-bit words in the headers that kernels are given is described', () => {
  const described = new Set(structs.map(({ name }) => name));
  const declared = readdirSync(HEADERS).flatMap((header) => {
    const text = readFileSync(new URL(header, HEADERS), 'utf8');
    const given = text.matchAll(/^struct (?:alignas\(16\) )?(\w+Params) \{/gm);
    return [...given].map(([, name]) => name as string);
  });
  assert.ok(declared.length >= 15);
  for (const name of declared) assert.ok(described.has(name), `${name} is not described`);
  assert.equal(described.size, structs.length, 'no struct is described twice');
  for (const kernel of UTILITY_KERNELS) {
    const [, header, name] = /"(\w+\.cuh)".*hotrow::(\w+) params/s.exec(utilitySource(kernel).source) ?? [];
    assert.equal(structs.find((own) => own.name === name)?.header, header, kernel);
  }
});

test('numbers that both sides have are the same', { skip }, () => {
  const numbers = [
    ['hotrow::hot::BINS', HOT_ROWS_BINS],
    ['sizeof(hotrow::RowChoice) / 4', ROW_CHOICE_WORDS],
    ['static_cast<int>(hotrow::Activation::None)', ACTIVATION.none],
    ['static_cast<int>(hotrow::Activation::Relu)', ACTIVATION.relu],
    ['static_cast<int>(hotrow::Activation::Sigmoid)', ACTIVATION.sigmoid],
  ] as const;
  const checks = numbers.map(([theirs, ours]) => `static_assert(${theirs} == ${ours}, "${theirs}");`);
  assert.equal(complaints(['hot_rows.cuh', 'linear.cuh'], checks), '');
  assert.match(complaints(['hot_rows.cuh'], ['static_assert(hotrow::hot::BINS == 5, "BINS");']), /BINS/);
});

test('row formats are the same in TypeScript, in C and in CUDA C++', { skip }, () => {
  const checks = ROW_FORMATS.flatMap((rowFormat) => {
    const { number, elementBits, headerBytes } = rowLayout(rowFormat);
    const [c, cuda] = [`HR_${rowFormat.toUpperCase()}`, `hotrow::${ROW_TYPES[rowFormat]}`];
    const shapes = [1, 2, 16, 33, 128, 130].flatMap((dim) => {
      const { stride, vector } = {
        stride: deviceRowBytes({ dim, rowFormat }),
        vector: vectorBytes(rowFormat, dim),
      };
      return [`${cuda}::stride(${dim}) == ${stride}`, `${cuda}::vector_bytes(${dim}) == ${vector}`];
    });
    return [
      `${c} == ${number} && hr_row_bits_of(${c}) == ${elementBits} && hr_row_header_of(${c}) == ${headerBytes}`,
      `${cuda}::number == ${number} && ${cuda}::bits == ${elementBits}`,
      `${cuda}::is_scaled == ${headerBytes > 0}`,
      ...shapes,
    ];
  });
  const all = [...checks, `HR_ROW_FORMATS == ${ROW_FORMATS.length}`];
  const constants = [
    '#define HR_CASE(what, name, number, bits, header_bytes) format == number ? what(bits, header_bytes) :',
    '#define HR_BITS(bits, header_bytes) bits',
    '#define HR_HEADER(bits, header_bytes) header_bytes',
    'constexpr int hr_row_bits_of(int format) { return HR_FOR_EACH_ROW_FORMAT(HR_CASE, HR_BITS) -1; }',
    'constexpr int hr_row_header_of(int format) { return HR_FOR_EACH_ROW_FORMAT(HR_CASE, HR_HEADER) -1; }',
  ];
  const asserted = all.map((condition) => `static_assert(${condition}, "${condition}");`);
  assert.equal(complaints(['rows.cuh', '../cpu/hotrow_cpu.h'], [...constants, ...asserted]), '');
});

test('the numbers and words of the C header are those that its callers have', { skip }, () => {
  const upper = (name: string) => snakeCase(name).toUpperCase();
  const of = (prefix: string, numbers: Readonly<Record<string, number>>) =>
    Object.entries(numbers).map(([name, number]) => [`HR_${prefix}_${upper(name)}`, number] as const);
  const numbers = [
    ...of('POOL', POOLING),
    ...of('ACTIVATION', ACTIVATION),
    ...of('OP', OPERATOR),
    ...Object.entries(PREFETCH_LEVEL).map(([name, number]) => [`HR_PREFETCH_${name}`, number] as const),
    ['HR_OP_WORDS', OPERATOR_WORDS] as const,
    ['sizeof(hr_table) / 8', TABLE_WORDS] as const,
    ['sizeof(hr_bags) / 8', BAGS_WORDS] as const,
    ['sizeof(hr_check_report) / 8', CHECK_REPORT_WORDS] as const,
  ];
  const checks = numbers.map(([theirs, ours]) => `static_assert(${theirs} == ${ours}, "${theirs}");`);
  assert.equal(complaints(['../cpu/hotrow_cpu.h'], checks), '');
  assert.match(complaints(['../cpu/hotrow_cpu.h'], ['static_assert(HR_POOL_MAX == 1, "max");']), /max/);
});

test('functions of a row have the numbers of their list in C', { skip }, () => {
  const functions = Object.values(ROW_FUNCTIONS);
  const checks = [
    '#define HR_NUMBER(name) NUMBER_##name,',
    'enum { HR_FOR_EACH_ROW_FUNCTION(HR_NUMBER) };',
    ...functions.map(
      ({ kernel, number }) => `static_assert(NUMBER_${kernel} == ${number}, "the number of ${kernel}");`,
    ),
    `static_assert(HR_ROW_FUNCTIONS == ${functions.length}, "how many there are");`,
  ];
  assert.equal(complaints(['../cpu/row_functions.h'], checks), '');
});

test('integers of up to 2^53 in size, as numbers or bigints, are written and read', () => {
  const own = struct('Own', 'own.cuh', { a: 'integer', b: 'address', pad: 'unused' });
  const values = [0, -1, 1, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 32 - 1, 2 ** 53, -(2 ** 53), 0x7f12_3456_789a];
  const list = values.map((a) => ({ a, b: BigInt(a) }));
  const encoded = own.encodeAll(list);
  assert.deepEqual(
    Array.from(encoded),
    values.flatMap((a) => [BigInt(a), BigInt(a), 0n]),
  );
  list.forEach(({ a, b }, i) => {
    assert.deepEqual(own.decode(encoded, i), { a: BigInt(a), b });
  });
  assert.deepEqual(own.encode({ a: 7, b: 8 }), BigInt64Array.of(7n, 8n, 0n));
  assert.deepEqual([own.words, own.bytes, own.at], [3, 24, { a: 0, b: 1, pad: 2 }]);
  assert.throws(() => struct('Own', 'own.cuh', { pad: 'unused', a: 'integer' }), TypeError);
});
