/** Random bags, written in every form that can say them, are read as the same bags. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonRequest } from '../../../src/model/request/json-request.ts';
import { requestByFeature } from '../../../src/model/request/request-by-feature.ts';
import { readRequest, writeRequest } from '../../../src/model/request/safetensors-request.ts';
import fc from '../../support/properties.ts';
import {
  asJson,
  forms,
  inputsFor,
  lengthsOf,
  meaning,
  NAMES,
  said,
  weightOf,
} from '../../support/request-forms.ts';
import { expanded, i32, i64, readTensors, requestFile } from '../../support/request-tensors.ts';

test('in files of every form', async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(said, fc.constantFrom(i32, i64), fc.nat(3), async (request, integers, turn) => {
      // A quarter of the forms of each request: files take most of the time.
      for (const [form, tensors, metadata] of [...forms(request, integers)].filter(
        (_, i) => i % 4 === turn,
      )) {
        assert.deepEqual(
          expanded(await readTensors(tensors, inputsFor(request), metadata)),
          meaning(request),
          form,
        );
        seen.add(form);
      }
    }),
  );
  assert.equal(seen.size, 14, [...seen].join('; '));
});

test('in memory and in JSON', async () => {
  await fc.assert(
    fc.asyncProperty(said, fc.boolean(), async (request, named) => {
      const { dense, bags, weighted } = request;
      const features = Object.fromEntries(
        bags.map((own, t) => [
          NAMES[t],
          {
            values: own.flat(),
            lengths: lengthsOf(own),
            ...(weighted ? { weights: own.flat().map(weightOf) } : {}),
          },
        ]),
      );
      const columns = { x: dense.map(([x]) => x as number), y: dense.map(([, y]) => y as number) };
      const inMemory = await requestByFeature(inputsFor(request), {
        dense: named ? columns : Float32Array.from(dense.flat()),
        features,
      });
      assert.deepEqual(expanded(inMemory), meaning(request));
      const samples = asJson(request, named);
      const text = JSON.stringify({ samples });
      assert.deepEqual(expanded(await jsonRequest(text, inputsFor(request))), meaning(request));
      if (samples.length === 0) return;
      const lines = samples.map((sample) => JSON.stringify(sample)).join('\n');
      assert.deepEqual(expanded(await jsonRequest(lines, inputsFor(request))), meaning(request));
    }),
  );
});

test('with the bags of users, written and read', async () => {
  await fc.assert(
    fc.asyncProperty(
      said,
      fc.array(fc.nat(4), { minLength: 5, maxLength: 5 }),
      fc.nat(31),
      async (request, many, mask) => {
        // The samples are the users, for features in the mask; each has so many candidates.
        const users = request.dense.map((_, u) => many[u] as number);
        const spread = <T>(perUser: readonly T[]) =>
          perUser.flatMap((one, u) => new Array<T>(users[u] as number).fill(one));
        const isShared = (t: number) => ((mask >> t) & 1) === 1;
        const features = Object.fromEntries(
          request.bags.map((own, t): [string, object] => {
            const bags = isShared(t) ? own : spread(own);
            return [
              NAMES[t] as string,
              {
                values: bags.flat(),
                lengths: lengthsOf(bags),
                ...(request.weighted ? { weights: bags.flat().map(weightOf) } : {}),
              },
            ];
          }),
        );
        const pick = (shared: boolean) =>
          Object.fromEntries(
            Object.entries(features).filter(([name]) => isShared(NAMES.indexOf(name)) === shared),
          ) as never;
        const made = await requestByFeature(inputsFor(request), {
          user: { dense: { x: request.dense.map(([x]) => x as number) }, features: pick(true) },
          users,
          dense: { y: spread(request.dense).map(([, y]) => y as number) },
          features: pick(false),
        });
        const { dense, bags } = meaning(request);
        assert.deepEqual(expanded(made), {
          dense: spread(dense),
          bags: bags.map((own: readonly unknown[]) => spread(own)),
        });
        const path = await requestFile({});
        await writeRequest(path, made);
        assert.deepEqual(await readRequest(path), made);
      },
    ),
  );
});
