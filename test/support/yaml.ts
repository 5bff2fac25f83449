/** The YAML that deploy/ is written in: blocks of mappings and lists, lists in brackets, scalars, remarks. All else throws. */

export type Yaml = string | number | boolean | null | readonly Yaml[] | { readonly [name: string]: Yaml };

interface Line {
  readonly indent: number;
  readonly text: string;
}

/** The documents of a file. */
export function parseYaml(text: string): Yaml[] {
  if (text.includes('\t')) throw new SyntaxError('a tab');
  return text.split(/^---$/m).map((document) => {
    const lines = document
      .split('\n')
      .map((line) => line.replace(/(^|\s)#.*$/, '').trimEnd())
      .filter((line) => line !== '')
      .map((line): Line => ({ indent: line.length - line.trimStart().length, text: line.trimStart() }));
    const value = block(lines, lines[0]?.indent ?? 0);
    if (lines.length > 0) throw new SyntaxError(`what is ${lines[0]?.text}?`);
    return value;
  });
}

/** Takes the block that begins with the first line. */
function block(lines: Line[], indent: number): Yaml {
  return lines[0]?.text.startsWith('- ') ? list(lines, indent) : mapping(lines, indent);
}

function list(lines: Line[], indent: number): Yaml[] {
  const items: Yaml[] = [];
  for (let line = lines[0]; line?.indent === indent && line.text.startsWith('- '); line = lines[0]) {
    const text = line.text.slice(2);
    if (/^[\w./-]+:( |$)/.test(text)) {
      lines[0] = { indent: indent + 2, text };
      items.push(mapping(lines, indent + 2));
    } else {
      lines.shift();
      items.push(scalar(text));
    }
  }
  return items;
}

function mapping(lines: Line[], indent: number): Yaml {
  const members = new Map<string, Yaml>();
  for (let line = lines[0]; line?.indent === indent; line = lines[0]) {
    const [, name, rest] = /^([\w./-]+):(?: (.*))?$/.exec(line.text) ?? [];
    if (name === undefined || members.has(name)) throw new SyntaxError(line.text);
    lines.shift();
    const next = lines[0];
    if (rest !== undefined) members.set(name, scalar(rest));
    else if (next !== undefined && next.indent > indent) members.set(name, block(lines, next.indent));
    else throw new SyntaxError(`${name} has no value`);
  }
  return Object.fromEntries(members);
}

function scalar(text: string): Yaml {
  if (text === '{}') return {};
  if (text.startsWith('[') && text.endsWith(']')) return text.slice(1, -1).split(', ').map(scalar);
  if (text.startsWith('"')) return JSON.parse(text);
  if (/^[[\]{}&*!|>%@`']/.test(text) || text.includes(': ')) throw new SyntaxError(text);
  if (/^-?\d+$/.test(text)) return Number(text);
  return { true: true, false: false, null: null }[text] ?? text;
}
