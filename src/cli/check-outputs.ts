/** What commands check of the files they are to write, before they do anything else. */
import { type BigIntStats, fstat } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { unwritable } from '../errors.ts';
import { modelFiles } from '../model/model-files.ts';
import { checkOutputFile, isSameFile, type OutputOptions, type OutputPlace } from '../output-file.ts';

/** A file that a command is to write. */
export interface Output extends OutputOptions {
  /** `--out` */
  readonly option: string;
  /** Undefined: the option was not given. */
  readonly file: string | undefined;
}

/** What a command reads, by the names that it was given. */
export interface Inputs {
  readonly model?: string | undefined;
  /** Files, folders, and texts that may name none. */
  readonly files?: readonly (string | undefined)[];
}

interface Placed {
  readonly option: string;
  readonly file: string;
  readonly place: OutputPlace;
}

/**
 * Checks that every output can be written, is none of the inputs and none of the other outputs, by whatever path.
 * @throws UsageError FILE_UNWRITABLE.
 */
export async function checkOutputs(outputs: readonly Output[], inputs: Inputs): Promise<void> {
  const placed: Placed[] = [];
  for (const { option, file, ...options } of outputs) {
    if (file === undefined) continue;
    if (file === '-') throw refusal(file, `${option} takes a file`, 'a file of this name is ./-');
    const place = await checkOutputFile(file, options);
    const twin = placed.find((other) => isSame(other.place, place));
    if (twin !== undefined)
      throw refusal(file, `${twin.option} names the same file`, `name another file with ${option}`);
    placed.push({ option, file, place });
  }
  const replacing = placed.filter(({ place }) => place.replaces !== undefined);
  // A file that is not there yet is nobody's.
  if (replacing.length === 0) return;
  for await (const { name, info } of readFiles(inputs)) {
    const hit = replacing.find(({ place }) => isSameFile(place.replaces, info));
    if (hit === undefined) continue;
    const why = name === hit.file ? 'it is read by this command' : `it is ${name}, which this command reads`;
    throw refusal(hit.file, why, `name another file with ${hit.option}`);
  }
}

function refusal(file: string, why: string, hint: string) {
  return unwritable(file, undefined, { why, hint });
}

function isSame(a: OutputPlace, b: OutputPlace): boolean {
  return a.path === b.path || isSameFile(a.replaces, b.replaces);
}

interface ReadFile {
  readonly name: string;
  readonly info: BigIntStats;
}

/** The files that the inputs come to. Those that are not there are for their readers to miss. */
async function* readFiles({ model, files = [] }: Inputs): AsyncGenerator<ReadFile> {
  for (const [descriptor, name] of ['standard input', 'standard output', 'standard error'].entries()) {
    const info = await promisify(fstat)(descriptor, { bigint: true }).catch(() => undefined);
    if (info !== undefined) yield { name: `the file of ${name}`, info };
  }
  const named = files.filter((file) => file !== undefined);
  const models = model === undefined || !(await isThere(model)) ? [] : await modelFiles(model);
  for (const file of [...named, ...models]) yield* filesAt(file);
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** A file, or all files in a folder and below. */
async function* filesAt(path: string): AsyncGenerator<ReadFile> {
  const info = await stat(path, { bigint: true }).catch(() => undefined);
  if (info === undefined) return;
  if (!info.isDirectory()) {
    yield { name: path, info };
    return;
  }
  for (const name of await readdir(path, { recursive: true }).catch(() => [])) {
    const file = join(path, name);
    const inside = await stat(file, { bigint: true }).catch(() => undefined);
    if (inside?.isFile()) yield { name: file, info: inside };
  }
}
