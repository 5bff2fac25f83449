/** Bodies with damage anywhere: read, or refused with an error that says what is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { bindInferRequest } from '../../../src/serve/protocol/bind-infer.ts';
import { errorAnswer } from '../../../src/serve/protocol/error-answer.ts';
import { NativeBinder } from '../../../src/serve/protocol/native-binder.ts';
import type { NativeRequest } from '../../../src/serve/protocol/native-request.ts';
import { parseInferRequest } from '../../../src/serve/protocol/parse-infer.ts';
import { protocolBody, type SentBody, safetensorsBody } from '../../support/infer-bodies.ts';
import fc from '../../support/properties.ts';
import { f32, feature, i32, i64, inputsOf } from '../../support/request-tensors.ts';

const inputs = inputsOf([feature('a'), feature('b'), feature('c', { missing: 'empty' })], ['x', 'y']);

const piece = {
  dense: f32([2, 2], [1, 2, 3, 4]),
  values: i64([4], [1, 2, 3, 4]),
  lengths: i32([3, 2], [1, 0, 1, 1, 0, 1]),
};
const ofUsers = {
  dense: f32([3, 1], [1, 2, 3]),
  'user.dense': f32([2, 1], [8, 9]),
  users: i32([2], [2, 1]),
  'user.indices.0': i32([3], [1, 2, 3]),
  'user.offsets.0': i64([3], [0, 1, 3]),
  'values.b': i32([3, 1], [4, 5, 6]),
  'weights.b': f32([3, 1], [4, 5, 6]),
};
const strings = { 'values.a': { shape: [2], strings: ['1', '2'] }, 'lengths.a': i32([1], [2]) };
const parameters = { timeout: 5, priority: 1, features: ['a', 'b', 'c'] };
const whole: readonly SentBody[] = [
  protocolBody(piece, { extra: { id: '1', parameters, outputs: [{ name: 'probability' }] } }),
  protocolBody(ofUsers),
  protocolBody(strings),
  protocolBody(piece, { inJson: () => true, nests: true }),
  safetensorsBody(piece, { features: '["b","a","c"]' }),
  { body: Buffer.from(JSON.stringify({ samples: [{ dense: [1, 2], features: { a: [1], b: ['2'] } }] })) },
];

/** Digits, brackets and quotes meet more rules than bytes of any kind. */
const byte = fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('0123456789-{}[]",:.eu')));
const damage = fc.array(fc.tuple(fc.nat(2 ** 20), byte, fc.constantFrom('set', 'insert', 'cut')), {
  minLength: 1,
  maxLength: 3,
});

function damaged(body: Uint8Array, changes: readonly (readonly [number, number, string])[]): Uint8Array {
  const bytes = [...body];
  for (const [place, value, kind] of changes) {
    const at = place % Math.max(1, bytes.length);
    if (kind === 'set') bytes[at] = value;
    else if (kind === 'insert') bytes.splice(at, 0, value);
    else bytes.splice(at, 1 + (value % 8));
  }
  return Uint8Array.from(bytes);
}

/** Every place that is read without a look at lengths lies in the body. */
function assertInBody(native: NativeRequest, bytes: number): void {
  const { samples, denseAt, users, tables, pieces } = native;
  const within = (at: number, size: number) =>
    assert.ok(at >= 0 && at + size <= bytes, `${at} + ${size} > ${bytes}`);
  const userCount = users === undefined ? 0 : users.starts.length - 1;
  within(denseAt, 4 * samples * (2 - (users?.denseFeatures ?? 0)));
  if (users !== undefined) within(users.denseAt, 4 * userCount * users.denseFeatures);
  const bagsOf = (perUser: boolean) => (perUser ? userCount : samples);
  for (const own of tables) {
    if (own === undefined) continue;
    const { indices, lookups, bounds, weightsAt, perUser = false } = own;
    within(indices.at, (indices.int64 ? 8 : 4) * lookups);
    if (bounds.kind === 'even') assert.equal(lookups % bagsOf(perUser), 0);
    else {
      const end = bounds.kind === 'offsets' && bounds.hasEnd ? 1 : 0;
      within(bounds.at, (bounds.int64 ? 8 : 4) * (bagsOf(perUser) + end));
    }
    if (weightsAt !== undefined) within(weightsAt, 4 * lookups);
  }
  for (const { tables, values, lookups, lengths, weightsAt, perUser = false } of pieces) {
    within(values.at, (values.int64 ? 8 : 4) * lookups);
    within(lengths.at, (lengths.int64 ? 8 : 4) * tables.length * bagsOf(perUser));
    if (weightsAt !== undefined) within(weightsAt, 4 * lookups);
  }
}

test('damaged bodies', async () => {
  const seen = { read: 0, refused: 0, inPlace: 0 };
  const binder = new NativeBinder(inputs);
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), damage, fc.boolean(), async (which, changes, keepsLength) => {
      const { body, jsonLength } = whole[which] as SentBody;
      const bytes = damaged(body, changes);
      const change =
        keepsLength || jsonLength === undefined
          ? jsonLength
          : String(Number(jsonLength) + bytes.length - body.length);
      try {
        const request = parseInferRequest(bytes, { jsonLength: change });
        const native = 'tensors' in request ? binder.bind(request) : undefined;
        if (native !== undefined) {
          assertInBody(native, bytes.length);
          seen.inPlace += 1;
        }
        await bindInferRequest(request, inputs);
        seen.read += 1;
      } catch (error) {
        if (!(error instanceof HotrowError)) throw error;
        assert.equal(errorAnswer(error).status, 400, `${error.code}: ${error.message}`);
        seen.refused += 1;
      }
    }),
    { numRuns: 4000 },
  );
  assert.ok(seen.read > 50 && seen.refused > 500 && seen.inPlace > 50, JSON.stringify(seen));
});
