/** Random requests, sent in every form, are the same request; so are the places that a binder finds for them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelInputs } from '../../../src/model/inputs.ts';
import { bindInferRequest } from '../../../src/serve/protocol/bind-infer.ts';
import type { InferRequest } from '../../../src/serve/protocol/infer-request.ts';
import { NativeBinder } from '../../../src/serve/protocol/native-binder.ts';
import type { NativeRequest } from '../../../src/serve/protocol/native-request.ts';
import { parseInferRequest } from '../../../src/serve/protocol/parse-infer.ts';
import { protocolBody, type SentBody, safetensorsBody } from '../../support/infer-bodies.ts';
import { requestAt } from '../../support/native-requests.ts';
import fc from '../../support/properties.ts';
import {
  asJson,
  forms,
  inputsFor,
  lengthsOf,
  meaning,
  NAMES,
  said,
  startsOf,
  weightOf,
} from '../../support/request-forms.ts';
import { expanded, f32, i32, i64, type Tensors } from '../../support/request-tensors.ts';

function parse({ body, ...headers }: SentBody): InferRequest {
  // As node:http gives them: subarrays and slices of a Buffer are views.
  return parseInferRequest(Buffer.from(body.buffer, body.byteOffset, body.byteLength), headers);
}

/** Bodies that say the same; of the first and the last all tensors are in bytes. */
function bodies(tensors: Tensors, metadata: Readonly<Record<string, string>>, shift: number): SentBody[] {
  const extra = { parameters: metadata };
  return [
    protocolBody(tensors, { extra, shift }),
    protocolBody(tensors, { extra, inJson: () => true }),
    protocolBody(tensors, { extra, inJson: () => true, nests: true }),
    protocolBody(tensors, { extra, inJson: (name) => name.length % 2 === 0, shift }),
    safetensorsBody(tensors, metadata, shift),
  ];
}

/** Binds both ways and asserts that they say `expected`; gives whether places were found. */
async function assertSays(request: InferRequest, inputs: ModelInputs, expected: object, form: string) {
  assert.deepEqual(expanded(await bindInferRequest(request, inputs)), expected, form);
  if ('samples' in request) return false;
  const bodyAt = 128;
  const native = new NativeBinder(inputs).bind(request, bodyAt);
  if (native === undefined) return false;
  assert.deepEqual(expanded(readNative(native, request.body, bodyAt, inputs)), expected, `${form}, places`);
  return true;
}

function readNative(native: NativeRequest, body: Uint8Array, bodyAt: number, inputs: ModelInputs) {
  const memory = new Uint8Array(bodyAt + body.length).fill(0xa5);
  memory.set(body, bodyAt);
  return requestAt(native, memory, inputs.dense.length);
}

test('every form of named tensors, in every kind of body', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      said,
      fc.constantFrom(i32, i64),
      fc.nat(7),
      fc.nat(3),
      async (request, integers, shift, turn) => {
        const inputs = inputsFor(request);
        for (const [i, [form, tensors, metadata = {}]] of [...forms(request, integers)].entries()) {
          if (i % 4 !== turn) continue;
          const sent = bodies(tensors, metadata, shift);
          for (const [kind, body] of sent.entries()) {
            const isNative = await assertSays(
              parse(body),
              inputs,
              meaning(request),
              `${form} as body ${kind}`,
            );
            const isSimple = !form.startsWith('stacked') && 'dense' in tensors && request.dense.length > 0;
            const isBytes = kind === 0 || kind === 4;
            if (isBytes) assert.equal(isNative, isSimple, `${form} as body ${kind}`);
            if (isNative) seen.add(form);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
  assert.equal(seen.size, 11, [...seen].join('; '));
});

test('with the bags of users, in one piece and by table', async () => {
  let found = 0;
  await fc.assert(
    fc.asyncProperty(
      said,
      fc.array(fc.nat(4), { minLength: 5, maxLength: 5 }),
      fc.nat(31),
      fc.constantFrom(i32, i64),
      fc.record({ inPiece: fc.boolean(), starts: fc.boolean(), shift: fc.nat(7) }),
      async (request, many, mask, integers, { inPiece, starts, shift }) => {
        const users = request.dense.map((_, u) => many[u] as number);
        const samples = users.reduce((sum, count) => sum + count, 0);
        const spread = <T>(perUser: readonly T[]) =>
          perUser.flatMap((one, u) => new Array<T>(users[u] as number).fill(one));
        const isShared = (t: number) => ((mask >> t) & 1) === 1;
        const bags = request.bags.map((own, t) => ({
          t,
          isOfUser: isShared(t),
          bags: isShared(t) ? own : spread(own),
        }));
        const ends = users.map((_, u) => users.slice(0, u + 1).reduce((sum, count) => sum + count, 0));
        const tensors: Tensors = {
          'user.dense': f32(
            [users.length, 1],
            request.dense.map(([x]) => x as number),
          ),
          dense: f32(
            [samples, 1],
            spread(request.dense).map(([, y]) => y as number),
          ),
          users: starts ? integers([users.length + 1], [0, ...ends]) : integers([users.length], users),
        };
        const metadata: Record<string, string> = {};
        for (const isOfUser of [true, false]) {
          const prefix = isOfUser ? 'user.' : '';
          const own = bags.filter((one) => one.isOfUser === isOfUser);
          if (own.length === 0) continue;
          const weights = (rows: number[]) => f32([rows.length], rows.map(weightOf));
          if (inPiece) {
            const rows = own.flatMap((one) => one.bags.flat());
            const lengths = own.flatMap((one) => lengthsOf(one.bags));
            metadata[`${prefix}features`] = JSON.stringify(own.map(({ t }) => NAMES[t]));
            tensors[`${prefix}values`] = integers([rows.length], rows);
            tensors[`${prefix}lengths`] = integers([own.length, lengths.length / own.length], lengths);
            if (request.weighted) tensors[`${prefix}weights`] = weights(rows);
          } else {
            for (const { t, bags } of own) {
              const rows = bags.flat();
              tensors[`${prefix}indices.${t}`] = integers([rows.length], rows);
              tensors[`${prefix}offsets.${t}`] = integers([bags.length + 1], startsOf(bags));
              if (request.weighted) tensors[`${prefix}weights.${t}`] = weights(rows);
            }
          }
        }
        const { dense, bags: lists } = meaning(request);
        const expected = {
          dense: spread(dense),
          bags: lists.map((own: readonly unknown[]) => spread(own)),
        };
        for (const [kind, body] of bodies(tensors, metadata, shift).entries()) {
          const isNative = await assertSays(parse(body), inputsFor(request), expected, `body ${kind}`);
          if (kind === 0 || kind === 4) assert.equal(isNative, samples > 0, `body ${kind}`);
          if (isNative) found += 1;
        }
      },
    ),
    { numRuns: 60 },
  );
  assert.ok(found > 60, `${found}`);
});

test('samples in JSON and JSON Lines', async () => {
  await fc.assert(
    fc.asyncProperty(said, fc.boolean(), async (request, named) => {
      const samples = asJson(request, named);
      const body = Buffer.from(JSON.stringify({ samples }));
      await assertSays(parse({ body }), inputsFor(request), meaning(request), 'JSON');
      if (samples.length === 0) return;
      const lines = Buffer.from(samples.map((sample) => JSON.stringify(sample)).join('\n'));
      await assertSays(parse({ body: lines }), inputsFor(request), meaning(request), 'JSON Lines');
    }),
    { numRuns: 40 },
  );
});
