/** Random requests, and every form of named tensors that can say one. */
import type { ModelInputs } from '../../src/model/inputs.ts';
import fc from './properties.ts';
import { f32, feature, i32, type i64, inputsOf, type Tensors } from './request-tensors.ts';

/** Samples of one request: numbers, and bags by feature. */
export interface Said {
  readonly dense: readonly (readonly number[])[];
  /** [T, B] lists of rows. */
  readonly bags: readonly (readonly (readonly number[])[])[];
  /** Whether lookups bring weights; that of row r is r / 4. */
  readonly weighted: boolean;
}

export const NAMES = ['ads', 'a.b', '1', 'user', '__proto__'];

export const said: fc.Arbitrary<Said> = fc
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

export const weightOf = (row: number) => row / 4;

/** What any form of `request` must say. */
export const meaning = ({ dense, bags, weighted }: Said) => ({
  dense,
  bags: bags.map((own) => own.map((rows) => (weighted ? { rows, weights: rows.map(weightOf) } : rows))),
});

export const inputsFor = ({ bags }: Said, missing: 'error' | 'empty' = 'error'): ModelInputs =>
  inputsOf(
    NAMES.slice(0, bags.length).map((name) => feature(name, { missing })),
    ['x', 'y'],
  );

export const lengthsOf = (bags: readonly (readonly number[])[]) => bags.map(({ length }) => length);
export const startsOf = (bags: readonly (readonly number[])[]) => {
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
export function* forms(
  request: Said,
  integers: Integers,
): Generator<[string, Tensors, Record<string, string>?]> {
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

export const asJson = ({ dense, bags, weighted }: Said, named: boolean) =>
  dense.map(([x, y], b) => ({
    dense: named ? { x, y } : [x, y],
    features: Object.fromEntries(
      bags.map((own, t) => {
        const ids = own[b] as number[];
        return [NAMES[t], weighted ? { ids, weights: ids.map(weightOf) } : ids];
      }),
    ),
  }));
