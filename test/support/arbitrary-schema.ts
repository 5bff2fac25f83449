/** Values that a schema allows, the odd ones among them often: zeros, the tiny and the huge, empty lists, members left out. */

import type { TSchema } from 'typebox';
import fc from './properties.ts';

/** JSON Schema as typebox writes it. */
interface JsonSchema {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema | readonly JsonSchema[];
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly patternProperties?: Readonly<Record<string, JsonSchema>>;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
}

export interface Choices {
  /** Texts to choose from, by the name of the member. */
  readonly texts: (member: string) => readonly string[];
}

const NUMBERS = [0, 1, 1, 2, 3.5, 0.5, 1e-9, 1e-300, 5e-324, 1e9, 1e15, 1e300, Number.MAX_VALUE, -1, -1e300];
const INTEGERS = [0, 1, 1, 2, 7, 64, 1e6, Number.MAX_SAFE_INTEGER, 1e300, -1];

/** @throws Error for a schema of a kind that it does not know. */
export function arbitraryOf(schema: TSchema, choices: Choices): fc.Arbitrary<unknown> {
  return anyValue(schema as JsonSchema, choices, '');
}

function anyValue(schema: JsonSchema, choices: Choices, member: string): fc.Arbitrary<unknown> {
  const { anyOf, type, items, minItems = 0, maxItems = 6 } = schema;
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (anyOf !== undefined) return fc.oneof(...anyOf.map((one) => anyValue(one, choices, member)));
  switch (type) {
    case 'object':
      return objectOf(schema, choices);
    case 'array':
      if (Array.isArray(items)) return fc.tuple(...items.map((one) => anyValue(one, choices, member)));
      return fc.array(anyValue(items as JsonSchema, choices, member), {
        minLength: minItems,
        maxLength: maxItems,
      });
    case 'string':
      return fc.oneof(fc.constantFrom(...choices.texts(member)), fc.string({ unit: 'binary', maxLength: 8 }));
    case 'boolean':
      return fc.boolean();
    case 'number':
      return numberOf(schema, NUMBERS, fc.double({ noNaN: true, noDefaultInfinity: true }));
    case 'integer':
      return numberOf(schema, INTEGERS, fc.integer());
    default:
      throw new Error(`no values for ${JSON.stringify(schema)}`);
  }
}

function numberOf(
  {
    minimum = -Number.MAX_VALUE,
    exclusiveMinimum = -Number.MAX_VALUE,
    maximum = Number.MAX_VALUE,
  }: JsonSchema,
  odd: readonly number[],
  any: fc.Arbitrary<number>,
): fc.Arbitrary<number> {
  const fits = (x: number) => x >= minimum && x <= maximum && (exclusiveMinimum < 0 || x > exclusiveMinimum);
  const known = odd.filter(fits);
  return fc.oneof(
    fc.constantFrom(...known),
    any.map((x) => (fits(x) ? x : (known[0] as number))),
  );
}

function objectOf(schema: JsonSchema, choices: Choices): fc.Arbitrary<unknown> {
  const { properties, required = [], patternProperties = {} } = schema;
  if (properties !== undefined) {
    const members = Object.entries(properties).map(([name, one]) => [name, anyValue(one, choices, name)]);
    return fc.record(Object.fromEntries(members), { requiredKeys: required as never[] });
  }
  const [value] = Object.values(patternProperties);
  if (value === undefined) return fc.constant({});
  return fc.dictionary(fc.constantFrom(...choices.texts('key')), anyValue(value, choices, 'key'), {
    maxKeys: 4,
  });
}
