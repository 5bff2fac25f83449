/** HTML and SVG by tagged templates: whatever is put in is escaped, unless it is markup already. */
import { printableLines } from '../text.ts';

/** Text that is markup. Only `html` and `raw` make it. */
export class Html {
  constructor(private readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

export type Content = string | number | Html | undefined | readonly Content[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** `text` for element contents and quoted attributes. What is unprintable, and mostly not allowed in HTML, is escaped first. */
export function escapeHtml(text: string): string {
  return printableLines(text, Number.POSITIVE_INFINITY).replace(
    /[&<>"']/g,
    (character) => ENTITIES[character] as string,
  );
}

function render(content: Content): string {
  if (content === undefined) return '';
  if (content instanceof Html) return content.toString();
  if (typeof content === 'string') return escapeHtml(content);
  return typeof content === 'number' ? String(content) : content.map(render).join('');
}

/** Markup around escaped contents; arrays are put in one after the other, `undefined` is nothing. */
export function html(strings: TemplateStringsArray, ...contents: readonly Content[]): Html {
  return new Html(strings.reduce((text, part, i) => text + render(contents[i - 1]) + part));
}

/** Text of our own that must not be escaped, such as a style sheet. Never for text that was read. */
export function raw(text: string): Html {
  return new Html(text);
}
