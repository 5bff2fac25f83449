/**
 * A repository of models in a folder: FOLDER/<model>/<version>/ has a checkpoint, FOLDER/<model>/settings.json says how it is served.
 * Nothing outside of the folder is read: links and paths that lead out of it are refused.
 */
import { createHash } from 'node:crypto';
import { lstat, realpath, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { ServeError } from '../../errors.ts';
import { withinFolder } from '../../formats/within-folder.ts';
import { listFolder, statFile } from '../../input-file.ts';
import type { ArchitectureOverrides } from '../../model/infer-architecture.ts';
import { modelFiles } from '../../model/model-files.ts';
import { readPlan } from '../../plan/plan.ts';
import { printable } from '../../text.ts';
import { devicesOf } from '../devices-of.ts';
import type { Placing } from '../engine/model-source.ts';
import type { ModelCatalog, ServeModel } from '../models/serve-model.ts';
import { badSetting, type ModelSettings, NO_SETTINGS, readSettings, SETTINGS_FILE } from './settings.ts';

/** What models are that do not say otherwise. */
export interface ModelDefaults extends Omit<Placing, 'device'> {
  readonly device: string;
  readonly overrides: ArchitectureOverrides;
}

/** In a version's folder: its patches. */
export const PATCHES_FOLDER = 'patches';

const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const VERSION = /^[1-9]\d{0,14}$/;
/** Files of a version, and folders in folders. */
const MOST_FILES = 10_000;
const MOST_DEPTH = 8;

const refused = (path: string, message: string) =>
  new ServeError('REPOSITORY_INVALID', `${printable(path)} ${message}`, { file: path });

export class FolderCatalog implements ModelCatalog {
  readonly #folder: string;
  /** The same without links. */
  readonly #root: string;
  readonly #defaults: ModelDefaults;

  private constructor(folder: string, root: string, defaults: ModelDefaults) {
    this.#folder = folder;
    this.#root = root;
    this.#defaults = defaults;
  }

  /** @throws UsageError FILE_*; ServeError REPOSITORY_INVALID for what is no folder. */
  static async open(folder: string, defaults: ModelDefaults): Promise<FolderCatalog> {
    if (!(await statFile(folder)).isDirectory()) throw refused(folder, 'is no folder');
    return new FolderCatalog(folder, await realpath(folder), defaults);
  }

  /** Folders that are not hidden, whatever they are called. @throws UsageError FILE_*. */
  async names(): Promise<string[]> {
    const names: string[] = [];
    for (const { name } of await listFolder(this.#folder))
      if (!name.startsWith('.') && (await isFolder(join(this.#folder, name)))) names.push(name);
    return names;
  }

  /**
   * What there is under a name, as its files are now.
   * @throws ServeError REPOSITORY_INVALID; UsageError, FormatError, ModelError, PlanError for its files.
   */
  async find(name: string): Promise<ServeModel | undefined> {
    // Whatever leads elsewhere names no model.
    if (name === '' || /[/\0]/.test(name) || name.startsWith('.')) return undefined;
    const folder = join(this.#folder, name);
    if (!(await isFolder(folder))) return undefined;
    if (!NAME.test(name))
      throw refused(folder, 'is no name of a model: letters, digits, . _ and -, 128 of them at most');
    await this.#checkWithin(folder);
    const settings = await this.#settings(folder);
    const version = await versionOf(folder, settings);
    const own = join(folder, version);
    const files = await this.#filesOf(own);
    const path = fileOf(own, settings);
    for (const file of await modelFiles(path)) await this.#checkWithin(file);
    const placings = await this.#placings(folder, settings);
    const { interaction, slaMs, maxBatch, queueSamples } = settings;
    const overrides = { ...this.#defaults.overrides, ...(interaction === undefined ? {} : { interaction }) };
    return {
      name,
      version,
      source: { kind: 'file', path, overrides: overrides as ArchitectureOverrides },
      placings,
      fingerprint: createHash('sha256')
        .update(JSON.stringify([version, settings, placings, files]))
        .digest('hex'),
      batching: {
        ...(slaMs === undefined ? {} : { slaMs }),
        ...(maxBatch === undefined ? {} : { mostSamples: maxBatch }),
        ...(queueSamples === undefined ? {} : { queueSamples }),
      },
      ...(slaMs === undefined ? {} : { slaMs }),
      patches: join(own, PATCHES_FOLDER),
    };
  }

  async #settings(folder: string): Promise<ModelSettings> {
    const file = join(folder, SETTINGS_FILE);
    const isThere = await lstat(file).then(
      () => true,
      () => false,
    );
    if (!isThere) return NO_SETTINGS;
    await this.#checkWithin(file);
    return readSettings(file);
  }

  async #placings(folder: string, settings: ModelSettings): Promise<Placing[]> {
    const { device, overrides: _, ...defaults } = this.#defaults;
    const { device: own = device, threads, precision, plan } = settings;
    const common = {
      ...defaults,
      ...(threads === undefined ? {} : { threads }),
      ...(precision === undefined ? {} : { precision: precision as NonNullable<Placing['precision']> }),
    };
    const chosen =
      plan === undefined
        ? common
        : plan === 'auto'
          ? withoutPlan(common)
          : { ...common, plan: await this.#plan(folder, plan) };
    return [own]
      .flat()
      .flatMap(devicesOf)
      .map((one) => ({ ...chosen, device: one }));
  }

  async #plan(folder: string, plan: string): Promise<NonNullable<Placing['plan']>> {
    if (plan === 'plain') return plan;
    const name = withinFolder(plan);
    if (name === undefined)
      throw badSetting('/plan', 'names a file outside of its folder').inFile(join(folder, SETTINGS_FILE));
    const file = join(folder, name);
    await this.#checkWithin(file);
    return readPlan(file);
  }

  /** What says whether a version's files are as they were: their names, sizes, and when they changed. Its patches are not among them. */
  async #filesOf(own: string, under = '', depth = 0, found: unknown[] = []): Promise<unknown[]> {
    const folder = join(own, under);
    await this.#checkWithin(folder);
    for (const { name } of await listFolder(folder)) {
      const path = join(under, name);
      const file = join(own, path);
      await this.#checkWithin(file);
      if (path === PATCHES_FOLDER) continue;
      const info = await statFile(file);
      if (found.length >= MOST_FILES || depth > MOST_DEPTH)
        throw refused(
          own,
          `has more than ${MOST_FILES} files, or more than ${MOST_DEPTH} folders in each other`,
        );
      if (info.isDirectory()) await this.#filesOf(own, path, depth + 1, found);
      else found.push([path, info.size, info.mtimeMs, info.ino]);
    }
    return found;
  }

  /** @throws ServeError REPOSITORY_INVALID for what lies outside of the repository, by a path or by links. */
  async #checkWithin(path: string): Promise<void> {
    // What is not there is told by whoever opens it.
    const real = await realpath(path).catch(() => undefined);
    if (real === undefined) return;
    const inside = relative(this.#root, real);
    if (inside === '..' || inside.startsWith(`..${sep}`))
      throw refused(path, `leads out of the repository ${printable(this.#folder)}`);
  }
}

function withoutPlan({ plan: _, ...others }: Omit<Placing, 'device'>): Omit<Placing, 'device'> {
  return others;
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

/** The version to serve. @throws ServeError REPOSITORY_INVALID. */
async function versionOf(folder: string, { serve = 'latest' }: ModelSettings): Promise<string> {
  const versions: string[] = [];
  for (const { name } of await listFolder(folder))
    if (VERSION.test(name) && (await isFolder(join(folder, name)))) versions.push(name);
  if (serve !== 'latest') {
    if (versions.includes(String(serve))) return String(serve);
    throw badSetting('/serve', `is ${serve}, and there is no such folder`).inFile(
      join(folder, SETTINGS_FILE),
    );
  }
  const latest = versions.sort((a, b) => Number(b) - Number(a))[0];
  if (latest === undefined)
    throw refused(folder, 'has no version: a folder that is called 1, 2, …, with a checkpoint in it');
  return latest;
}

/** What to load of a version. @throws ServeError REPOSITORY_INVALID. */
function fileOf(own: string, { file }: ModelSettings): string {
  if (file === undefined) return own;
  const name = withinFolder(file);
  if (name !== undefined) return join(own, name);
  throw badSetting('/file', 'leads out of the folder of the version').inFile(join(own, '..', SETTINGS_FILE));
}
