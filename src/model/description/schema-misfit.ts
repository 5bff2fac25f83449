/** Where a value leaves its JSON Schema, said so that the value can be corrected. */
import type { TSchema } from 'typebox';
import Value from 'typebox/value';

export interface Misfit {
  /** The place in the value, as /features/0/pooling; '' is the whole. */
  readonly at: string;
  /** What is said of it: "is …", "lacks …". */
  readonly message: string;
}

/** The members of JSON Schema that are looked at. */
interface Schema {
  readonly anyOf?: readonly Schema[];
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The first misfit of `value`; undefined: it fits. */
export function schemaMisfit(schema: TSchema, value: unknown): Misfit | undefined {
  return misfitOf(schema as Schema, value, '');
}

function misfitOf(schema: Schema, value: unknown, at: string): Misfit | undefined {
  const plain: unknown = value;
  if (Value.Check(schema as TSchema, plain)) return undefined;
  if (schema.anyOf !== undefined) {
    const meant = meantOf(schema.anyOf, value);
    if (meant !== undefined) return misfitOf(meant, value, at);
    const forms = schema.anyOf.map(formOf).join(', ');
    return { at, message: `is ${shown(value)}; it may be ${forms}` };
  }
  if (schema.type === 'object' && isObject(value)) return objectMisfit(schema, value, at);
  if (schema.type === 'array' && Array.isArray(value)) {
    const items = schema.items ?? {};
    const wrong = (value as readonly unknown[]).findIndex((item) => !Value.Check(items as TSchema, item));
    if (wrong >= 0) return misfitOf(items, value[wrong], `${at}/${wrong}`);
  }
  if (schema.enum !== undefined) return { at, message: `is ${shown(value)}, not ${formOf(schema)}` };
  const [error] = Value.Errors(schema as TSchema, value);
  return { at, message: `is ${shown(value)}: it ${error?.message ?? 'does not fit'}` };
}

function objectMisfit(
  { properties = {}, patternProperties = {}, required = [] }: Schema,
  value: Readonly<Record<string, unknown>>,
  at: string,
): Misfit | undefined {
  const [any] = Object.values(patternProperties);
  for (const [key, member] of Object.entries(value)) {
    const schema = Object.hasOwn(properties, key) ? properties[key] : any;
    const place = `${at}/${key.slice(0, 120)}`;
    if (schema === undefined)
      return {
        at: place,
        message: `is not a member here: members are ${Object.keys(properties).join(', ')}`,
      };
    const found = misfitOf(schema, member, place);
    if (found !== undefined) return found;
  }
  const missing = required.find((key) => !Object.hasOwn(value, key));
  return { at, message: `lacks ${missing === undefined ? 'a member' : `"${missing}"`}` };
}

/** The form of several that a value is meant to have, as far as its kind, its constants and its members tell. */
function meantOf(forms: readonly Schema[], value: unknown): Schema | undefined {
  if (isObject(value)) {
    const ofType = forms.filter(({ type }) => type === 'object');
    const told = ofType.filter(({ properties = {} }) =>
      Object.entries(properties).some(
        ([key, member]) => member.const !== undefined && member.const === value[key],
      ),
    );
    const objects = told.length > 0 ? told : ofType;
    const shared = ({ properties = {} }: Schema) =>
      Object.keys(properties).filter((key) => Object.hasOwn(value, key)).length;
    return objects.sort((a, b) => shared(b) - shared(a))[0];
  }
  if (!Array.isArray(value)) return undefined;
  const flat = forms.flatMap((form) => form.anyOf ?? [form]);
  const lists = flat.filter(({ type }) => type === 'array');
  return lists.find(({ items }) => Value.Check((items ?? {}) as TSchema, value[0])) ?? lists[0];
}

function formOf({ const: constant, enum: values, type, anyOf, properties = {} }: Schema): string {
  if (constant !== undefined) return shown(constant);
  if (values !== undefined) return values.map(shown).join(', ');
  if (anyOf !== undefined) return anyOf.map(formOf).join(', ');
  return type === 'object' ? `{${Object.keys(properties).map(shown).join(', ')}}` : `${article(type)}`;
}

const article = (type = 'value') => (/^[aeio]/.test(type) ? `an ${type}` : `a ${type}`);

/** A value as it may stand in a message. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (isObject(value)) return 'an object';
  return JSON.stringify(value)?.slice(0, 80) ?? 'missing';
}
