/** The raw page of a Nsight Compute report as CSV (`ncu --import FILE --csv --page raw`). Pure. */
import { at } from '../at.ts';
import { DeviceError } from '../errors.ts';

/** One profiled launch. */
export interface ProfiledLaunch {
  /** The kernel's function. */
  readonly kernel: string;
  /** In base units: ns, bytes, per cent. By metric. */
  readonly metrics: ReadonlyMap<string, number>;
}

const KERNEL_COLUMN = 'Kernel Name';

/** What a value is multiplied by to be in base units; units that are not here are base units. */
const SCALES: ReadonlyMap<string, number> = new Map([
  ...[...['ns', 'us', 'ms', 's'].entries()].map(([power, unit]) => [unit, 1e3 ** power] as const),
  ...[...['nsecond', 'usecond', 'msecond', 'second'].entries()].map(
    ([power, unit]) => [unit, 1e3 ** power] as const,
  ),
  ...[...['byte', 'Kbyte', 'Mbyte', 'Gbyte', 'Tbyte'].entries()].map(
    ([power, unit]) => [unit, 1e3 ** power] as const,
  ),
]);

/**
 * The launches of a report, in their order, with `metrics` of each, and those of `extra` that the report has.
 * @throws DeviceError PROFILER_FAILED for text that is no such page, was cut, or lacks a value.
 */
export function parseRawPage(
  text: string,
  metrics: readonly string[],
  extra: readonly string[] = [],
): ProfiledLaunch[] {
  const begin = text.search(/^"ID",/m);
  if (begin < 0) throw unexpected(`no table: ${firstLine(text)}`);
  const [heads = [], units = [], ...rows] = parseCsv(text.slice(begin));
  const column = (name: string) => {
    const found = heads.indexOf(name);
    if (found < 0) throw unexpected(`no column ${name}`);
    return found;
  };
  const kernelColumn = column(KERNEL_COLUMN);
  const there = extra.filter((name) => heads.includes(name));
  const wanted = [...metrics, ...there].map((name) => ({ name, place: column(name) }));
  return rows.map((row, i) => {
    if (row.length !== heads.length) {
      throw unexpected(`launch ${i} has ${row.length} of ${heads.length} values: the text was cut`);
    }
    const values = wanted.map(({ name, place }) => {
      const value = Number(at(row, place).replaceAll(',', ''));
      if (row[place] === '' || !Number.isFinite(value)) {
        throw unexpected(`launch ${i} has no ${name}: "${row[place]}"`);
      }
      return [name, value * (SCALES.get(units[place] ?? '') ?? 1)] as const;
    });
    return { kernel: at(row, kernelColumn), metrics: new Map(values) };
  });
}

/** Rows of quoted values; a quote in a value is doubled. @throws DeviceError PROFILER_FAILED for what is no CSV. */
function parseCsv(text: string): string[][] {
  const lines = text.split(/\r?\n/).filter((line) => line !== '');
  return lines.map((line, i) => {
    if (!/^"(?:[^"]|"")*"(?:,"(?:[^"]|"")*")*$/.test(line)) {
      throw unexpected(`line ${i + 1} of the table is no CSV, or was cut: ${firstLine(line)}`);
    }
    return [...line.matchAll(/"((?:[^"]|"")*)"/g)].map(([, value]) =>
      (value as string).replaceAll('""', '"'),
    );
  });
}

function firstLine(text: string): string {
  const line = at(text.trimStart().split('\n'), 0);
  return line === '' ? 'it is empty' : line.slice(0, 100);
}

function unexpected(what: string): DeviceError {
  return new DeviceError('PROFILER_FAILED', `the report of Nsight Compute is not as expected: ${what}`, {
    hint: 'Hotrow was made for the reports of Nsight Compute 2025.3; tell of this with the output of `ncu --version`',
  });
}
