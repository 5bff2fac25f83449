/**
 * Patterns of parameter names, and what they become: `bot_l.{2i}.weight` → `bottom.{i}.weight`.
 *
 * `{i}` (any one letter) stands for a number; `{2i}` for an even one, of which i is the half; `{2i+1}` for an odd one.
 * `{name}` stands for any text, dots included.
 */
import { at } from '../../at.ts';
import { ModelError } from '../../errors.ts';

/** What a pattern's placeholders stand for. */
export type PatternValues = ReadonlyMap<string, string | number>;

interface Placeholder {
  readonly variable: string;
  readonly factor: number;
  readonly addend: number;
}

const PLACEHOLDER = /\{([^{}]*)\}/g;
const MOST_NUMBERS = 3;

function parsePlaceholder(pattern: string, text: string): Placeholder {
  if (text === 'name') return { variable: 'name', factor: 1, addend: 0 };
  const [, factor, variable, addend] = /^([1-9]?)([a-z])(?:\+([1-9]))?$/.exec(text) ?? [];
  if (variable === undefined) {
    throw new ModelError('DESCRIPTION_INVALID', `/names: {${text}} in ${pattern} is no placeholder`, {
      value: pattern,
      hint: 'placeholders are {i} for a number, {2i} or {2i+1} for every second one, {name} for any text',
    });
  }
  return { variable, factor: Number(factor || 1), addend: Number(addend ?? 0) };
}

/** A pattern of names. */
export class NamePattern {
  readonly text: string;
  readonly #placeholders: readonly Placeholder[];
  readonly #whole: RegExp;

  /** @throws ModelError DESCRIPTION_INVALID for a placeholder that is none, or that stands twice. */
  constructor(text: string) {
    this.text = text;
    this.#placeholders = [...text.matchAll(PLACEHOLDER)].map(([, inner]) =>
      parsePlaceholder(text, inner as string),
    );
    const variables = this.variables;
    if (variables.size < this.#placeholders.length || this.#placeholders.length > MOST_NUMBERS + 1) {
      throw new ModelError('DESCRIPTION_INVALID', `/names: ${text} uses a placeholder twice, or too many`, {
        value: text,
      });
    }
    const parts = text.split(PLACEHOLDER).map((part, i) => {
      if (i % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      return part === 'name' ? '(.+)' : '(0|[1-9]\\d{0,8})';
    });
    this.#whole = new RegExp(`^(?:(.*?)\\.)?${parts.join('')}$`, 's');
  }

  /** The placeholders' variables. */
  get variables(): ReadonlySet<string> {
    return new Set(this.#placeholders.map(({ variable }) => variable));
  }

  /** What stands before the pattern in `name` (`''`, or with its dot), and the placeholders' values; undefined: no match. */
  match(name: string): { readonly prefix: string; readonly values: PatternValues } | undefined {
    const found = this.#whole.exec(name);
    if (found === null) return undefined;
    const values = new Map<string, string | number>();
    for (const [i, { variable, factor, addend }] of this.#placeholders.entries()) {
      const text = at(found, i + 2);
      if (variable === 'name') {
        values.set(variable, text);
        continue;
      }
      const number = (Number(text) - addend) / factor;
      if (!Number.isInteger(number) || number < 0) return undefined;
      values.set(variable, number);
    }
    return { prefix: found[1] === undefined ? '' : `${found[1]}.`, values };
  }

  /** The name that the pattern gives for `values`. */
  fill(values: PatternValues): string {
    return this.text.replaceAll(PLACEHOLDER, (_, inner: string) => {
      const { variable, factor, addend } = parsePlaceholder(this.text, inner);
      const value = values.get(variable);
      return typeof value === 'number' ? String(value * factor + addend) : String(value);
    });
  }
}
