/** The description of a model: the file that a path names, or one that lies beside a checkpoint. */
import { stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { fromFile, UsageError } from '../../errors.ts';
import { identify } from '../../formats/file-kind.ts';
import { listFolder, statFile } from '../../input-file.ts';
import {
  badDescription,
  DESCRIPTION_SUFFIX,
  type FoundDescription,
  type ReadDescriptionOptions,
  readDescription,
} from './description.ts';

/** Endings that a description's name takes the place of. */
const CHECKPOINT_ENDINGS = /(\.(safetensors|bin|pt|pth)\.index\.json|\.[^.]+)$/;

/**
 * The description that `path` names, or that lies beside the checkpoint it names: NAME.hotrow.json beside NAME.pt, or the
 * only one in a folder. Undefined: there is none.
 * @throws UsageError FILE_*; as readDescription; ModelError DESCRIPTION_INVALID for one of another checkpoint.
 */
export async function findDescription(
  path: string,
  options: ReadDescriptionOptions = {},
): Promise<FoundDescription | undefined> {
  const info = await statFile(path);
  if (!info.isDirectory() && (await isDescription(path))) return readDescription(path, options);
  const beside = join(
    dirname(path),
    basename(path).replace(info.isDirectory() ? /$/ : CHECKPOINT_ENDINGS, '') + DESCRIPTION_SUFFIX,
  );
  const file = (await exists(beside)) ? beside : info.isDirectory() ? await soleDescription(path) : undefined;
  if (file === undefined) return undefined;
  const found = await readDescription(file, options);
  if (isWithin(resolve(path), found.checkpoint)) return found;
  throw await fromFile(file, async () => {
    throw badDescription(
      '/checkpoint',
      `names ${found.checkpoint}, and it lies beside ${path}`,
      'name the description itself, or give it another name',
    );
  }).catch((error) => error);
}

/** Whether `path` is `checkpoint`, or the folder that holds it. */
function isWithin(path: string, checkpoint: string): boolean {
  const inside = relative(path, checkpoint);
  return inside === '' || (inside !== '..' && !inside.startsWith(`..${sep}`) && !inside.startsWith(sep));
}

const exists = (file: string) =>
  stat(file).then(
    (info) => info.isFile(),
    () => false,
  );

async function soleDescription(folder: string): Promise<string | undefined> {
  const names = (await listFolder(folder))
    .map(({ name }) => name)
    .filter((name) => name.endsWith(DESCRIPTION_SUFFIX));
  if (names.length > 1) {
    throw new UsageError(
      'FILE_UNREADABLE',
      `${folder} holds ${names.length} model descriptions: ${names.slice(0, 3).join(', ')}`,
      { file: folder, hint: 'name the one to load' },
    );
  }
  return names[0] === undefined ? undefined : join(folder, names[0]);
}

/** Whether a file is a model description: by its name, which no checkpoint has, or by its contents. */
async function isDescription(file: string): Promise<boolean> {
  return file.endsWith(DESCRIPTION_SUFFIX) || (await identify(file)).kind === 'model-description';
}
