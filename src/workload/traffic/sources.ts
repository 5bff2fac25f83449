/** What `--trace` names: traces, requests, folders of requests, and files named for tables. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { at } from '../../at.ts';
import { kindsOf, listOf, membersOf, oneOf, path, text } from '../../checks/value.ts';
import { UsageError, WorkloadError } from '../../errors.ts';
import { expectKind, type Kind } from '../../formats/file-kind.ts';
import { isStream, listFolder, statFile } from '../../input-file.ts';

/** How requests are written. */
export type RequestForm = 'safetensors' | 'JSON' | 'Criteo rows';

/** Requests, in their order. */
export interface RequestSource {
  readonly kind: 'requests';
  readonly name: string;
  /** The file or folder that was named. */
  readonly path: string;
  readonly form: RequestForm;
  readonly files: readonly string[];
}

/** A stream of row indices for all tables, or a dlrm_datasets file. */
export interface TraceSource {
  readonly kind: 'trace';
  readonly name: string;
  readonly path: string;
}

/** Traces, each for the table or feature of its name. */
export interface NamedSource {
  readonly kind: 'named';
  readonly name: string;
  /** As it was typed. */
  readonly path: string;
  readonly streams: readonly { readonly table: string; readonly file: string }[];
}

/** One workload. */
export type TrafficSource = RequestSource | TraceSource | NamedSource;

/** A workload, read once. @throws UsageError OPTION_INVALID. */
export const trafficSource = kindsOf<TrafficSource['kind'], TrafficSource>('kind', {
  requests: membersOf<RequestSource>({
    kind: oneOf(['requests']),
    name: text,
    path,
    form: oneOf(['safetensors', 'JSON', 'Criteo rows']),
    files: listOf(path),
  }),
  trace: membersOf<TraceSource>({ kind: oneOf(['trace']), name: text, path }),
  named: membersOf<NamedSource>({
    kind: oneOf(['named']),
    name: text,
    path: text,
    streams: listOf(membersOf<NamedSource['streams'][number]>({ table: text, file: path })),
  }),
});

const FORMS: Readonly<Partial<Record<Kind, RequestForm>>> = {
  'safetensors-request': 'safetensors',
  'json-request': 'JSON',
  'json-lines': 'JSON',
  json: 'JSON',
  criteo: 'Criteo rows',
  table: 'Criteo rows',
};

/**
 * The workloads that some arguments name: each file or folder is one, and all `TABLE=FILE` together are one, where the
 * first of them stands. Contents tell what a file is.
 * @throws UsageError FILE_*; FormatError FORMAT_UNKNOWN; WorkloadError TRACE_EMPTY for an empty folder, TRACE_MIXED for a folder
 * of several forms.
 */
export async function trafficSources(given: readonly string[]): Promise<TrafficSource[]> {
  const texts = listOf(path)(given, 'trafficSources: texts');
  const named = texts.flatMap((text) => namedStream(text) ?? []);
  const sources: TrafficSource[] = [];
  for (const text of texts) {
    if (namedStream(text) === undefined) sources.push(await sourceOf(text));
    else if (!sources.some(({ kind }) => kind === 'named')) sources.push(await namedSource(named));
  }
  const names = sources.map(({ name }) => name);
  return sources.map((source) => {
    const isUnique = names.indexOf(source.name) === names.lastIndexOf(source.name);
    return isUnique ? source : { ...source, name: source.path };
  });
}

/** `ads=ads.txt`, unless there is a file of that name. */
function namedStream(text: string): NamedSource['streams'][number] | undefined {
  const at = text.indexOf('=');
  return at < 1 || existsSync(text) ? undefined : { table: text.slice(0, at), file: text.slice(at + 1) };
}

async function namedSource(streams: NamedSource['streams']): Promise<NamedSource> {
  for (const { file } of streams) await expectKind(file, 'trace');
  const name = streams.map(({ table }) => table).join('+');
  return {
    kind: 'named',
    name: name.length > 40 ? `${streams.length} named traces` : name,
    path: streams.map(({ table, file }) => `${table}=${file}`).join(' '),
    streams,
  };
}

async function sourceOf(path: string): Promise<TrafficSource> {
  if (!(await isStream(path)) && (await statFile(path)).isDirectory()) return folderSource(path);
  const name = basename(path).replace(/(\.500K)?(\.(txt|pt|safetensors|jsonl?|[ct]sv))?(\.gz)?$/, '');
  const { kind } = await expectKind(path, 'traffic');
  const form = FORMS[kind];
  return form === undefined
    ? { kind: 'trace', name, path }
    : { kind: 'requests', name, path, form, files: [path] };
}

/** The requests of a folder by their names; numbers in names count as numbers. Hidden files are left aside. */
async function folderSource(path: string): Promise<RequestSource> {
  const entries = (await listFolder(path))
    .filter(({ name }) => !name.startsWith('.'))
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  const [first] = entries;
  if (first === undefined) {
    throw new WorkloadError('TRACE_EMPTY', `${path} is an empty folder`, {
      file: path,
      hint: 'a folder of traffic holds requests: safetensors, JSON or Criteo rows',
    });
  }
  const forms: RequestForm[] = [];
  const files: string[] = [];
  for (const entry of entries) {
    const file = join(path, entry.name);
    const hint = 'a folder of traffic holds requests of one form, and nothing else';
    if (entry.isDirectory()) throw new UsageError('FILE_UNREADABLE', `${file} is a folder`, { file, hint });
    const { kind } = await expectKind(file, 'request');
    const form = FORMS[kind] as RequestForm;
    if (forms.length > 0 && form !== forms[0]) {
      const message = `${file} is ${form}, and ${files[0]} before it is ${forms[0]}`;
      throw new WorkloadError('TRACE_MIXED', message, { file, hint });
    }
    forms.push(form);
    files.push(file);
  }
  return {
    kind: 'requests',
    name: basename(resolve(path)),
    path,
    form: at(forms, 0),
    files,
  };
}
