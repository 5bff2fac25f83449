/** Random bags, written in every form that can say them, are read as the same bags. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelInputs } from '../../../src/model/inputs.ts';
import { jsonRequest } from '../../../src/model/request/json-request.ts';
import { requestByFeature } from '../../../src/model/request/request-by-feature.ts';
import { readRequest, writeRequest } from '../../../src/model/request/safetensors-request.ts';
import fc from '../../support/properties.ts';
import {
  expanded,
  f32,
  feature,
  i32,
  i64,
  inputsOf,
  readTensors,
  requestFile,
  type Tensors,
} from '../../support/request-tensors.ts';

/** Samples of one request: numbers, and bags by feature. */
interface Said {
  readonly dense: readonly (readonly number[])[];
  /** [T, B] lists of rows. */
  readonly bags: readonly (readonly (readonly number[])[])[];
  /** Whether lookups bring weights; that of row r is r / 4. */
  readonly weighted: boolean;
}

const NAMES = ['ads', 'a.b', '1', 'user', '__proto__'];

const said: fc.Arbitrary<Said> = fc
  .record({
    samples: fc.nat(5),
    tables: fc.integer({ min: 1, max: NAMES.length }),
    weighted: fc.boolean(),
    even: fc.option(fc.nat(3)),
  })
  .chain(({ samples, tables, weighted, even }) => {
    const length = even === null ? { maxLength: 4 } : { minLength: even, maxLength: even };
    const bag = fc.array(fc.nat(2 ** 20), length);
    const list = <T>(item: fc.Arbitrary<T>, count: number) =>
      fc.array(item, { minLength: count, maxLength: count });
    return fc.record({
      dense: list(list(fc.integer({ min: -1000, max: 1000 }), 2), samples),
      bags: list(list(bag, samples), tables),
      weighted: fc.constant(weighted),
    });
  });

const weightOf = (row: number) => row / 4;

/** What any form of `request` must say. */
const meaning = ({ dense, bags, weighted }: Said) => ({
  dense,
  bags: bags.map((own) => own.map((rows) => (weighted ? { rows, weights: rows.map(weightOf) } : rows))),
});

const inputsFor = ({ bags }: Said, missing: 'error' | 'empty' = 'error'): ModelInputs =>
  inputsOf(
    NAMES.slice(0, bags.length).map((name) => feature(name, { missing })),
    ['x', 'y'],
  );

const lengthsOf = (bags: readonly (readonly number[])[]) => bags.map(({ length }) => length);
const startsOf = (bags: readonly (readonly number[])[]) => {
  let end = 0;
  return [0, ...lengthsOf(bags).map((length) => (end += length))];
};

type Integers = typeof i32 | typeof i64;

/** Tensors of the lookups of one feature, whose names end in `end`. */
function lookups(
  bags: Said['bags'][number],
  values: string,
  bounds: 'offsets' | 'lengths' | 'ends' | 'none',
  end: string,
  integers: Integers,
  weighted: boolean,
): Tensors {
  const flat = bags.flat();
  const shape = bounds === 'none' ? [bags.length, bags[0]?.length ?? 0] : [flat.length];
  const starts = startsOf(bags);
  return {
    [`${values}.${end}`]: integers(shape, flat),
    ...(bounds === 'lengths' ? { [`lengths.${end}`]: integers([bags.length], lengthsOf(bags)) } : {}),
    ...(bounds === 'offsets' ? { [`offsets.${end}`]: integers([bags.length], starts.slice(0, -1)) } : {}),
    ...(bounds === 'ends' ? { [`offsets.${end}`]: integers([bags.length + 1], starts) } : {}),
    ...(weighted ? { [`weights.${end}`]: f32(shape, flat.map(weightOf)) } : {}),
  };
}

const isEven = (bags: readonly (readonly number[])[]) => new Set(lengthsOf(bags)).size <= 1;

/** The dense tensor, or tensors by name. */
const denseOf = ({ dense }: Said, named: boolean): Tensors =>
  named
    ? {
        'dense.y': i32(
          [dense.length],
          dense.map(([, y]) => y as number),
        ),
        'dense.x': f32(
          [dense.length],
          dense.map(([x]) => x as number),
        ),
      }
    : { dense: f32([dense.length, 2], dense.flat()) };

/** Every form of a file that can say a request. */
function* forms(request: Said, integers: Integers): Generator<[string, Tensors, Record<string, string>?]> {
  const { bags, weighted } = request;
  for (const named of [false, true]) {
    for (const bounds of ['offsets', 'lengths', 'ends', 'none'] as const) {
      if (bounds === 'none' && !bags.every(isEven)) continue;
      const each = (values: string, nameOf: (t: number) => string): Tensors =>
        Object.assign(
          {},
          ...bags.map((own, t) => lookups(own, values, bounds, nameOf(t), integers, weighted)),
          denseOf(request, named),
        );
      yield [`indices by table, ${bounds}`, each('indices', String)];
      yield [`values by feature, ${bounds}`, each('values', (t) => NAMES[t] as string)];
    }
    const flat = bags.flat(2);
    const weights = weighted ? { weights: f32([flat.length], flat.map(weightOf)) } : {};
    const lengths = bags.flatMap(lengthsOf);
    const [tables, samples] = [bags.length, request.dense.length];
    yield [
      'one piece, [F, B]',
      {
        ...denseOf(request, named),
        values: integers([flat.length], flat),
        lengths: integers([tables, samples], lengths),
        ...weights,
      },
    ];
    yield [
      'one piece, [F · B]',
      {
        ...denseOf(request, named),
        values: integers([flat.length], flat),
        lengths: integers([lengths.length], lengths),
        ...weights,
      },
    ];
    const turned = bags.toReversed();
    const rows = turned.flat(2);
    yield [
      'one piece, in another order',
      {
        ...denseOf(request, named),
        values: integers([rows.length], rows),
        lengths: integers([lengths.length], turned.flatMap(lengthsOf)),
        ...(weighted ? { weights: f32([rows.length], rows.map(weightOf)) } : {}),
      },
      { features: JSON.stringify(NAMES.slice(0, tables).toReversed()) },
    ];
    if (new Set(bags.map((own) => own.flat().length)).size > 1) continue;
    const stack = [tables, bags[0]?.flat().length ?? 0];
    const stackWeights = weighted ? { weights: f32(stack, flat.map(weightOf)) } : {};
    const indices = integers(stack, flat);
    yield [
      'stacked, lengths',
      { ...denseOf(request, named), indices, lengths: integers([tables, samples], lengths), ...stackWeights },
    ];
    yield [
      'stacked, offsets',
      {
        ...denseOf(request, named),
        indices,
        offsets: integers([tables, samples + 1], bags.flatMap(startsOf)),
        ...stackWeights,
      },
    ];
    if (new Set(lengths).size > 1) continue;
    const cube = [tables, samples, lengths[0] ?? 0];
    yield [
      'stacked, one length',
      {
        ...denseOf(request, named),
        indices: integers(cube, flat),
        ...(weighted ? { weights: f32(cube, flat.map(weightOf)) } : {}),
      },
    ];
  }
}

const asJson = ({ dense, bags, weighted }: Said, named: boolean) =>
  dense.map(([x, y], b) => ({
    dense: named ? { x, y } : [x, y],
    features: Object.fromEntries(
      bags.map((own, t) => {
        const ids = own[b] as number[];
        return [NAMES[t], weighted ? { ids, weights: ids.map(weightOf) } : ids];
      }),
    ),
  }));

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
