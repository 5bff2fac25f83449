/** Reports on disk: whole or not at all, and never over the results that they are made of. */
import { randomBytes } from 'node:crypto';
import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { type Results, renderReport } from './page.ts';

/**
 * Checks that a report can go to `file`, before the work that it reports on.
 * @throws UsageError USAGE when `file` is one of `inputs`, by whatever path; FILE_UNWRITABLE when it is a folder.
 */
export async function checkReportFile(file: string, inputs: readonly string[]): Promise<void> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isDirectory())
    throw new UsageError('FILE_UNWRITABLE', `cannot write ${file}: it is a folder`, { file });
  for (const input of inputs) {
    const other = await stat(input).catch(() => undefined);
    const sameFile = found !== undefined && other?.dev === found.dev && other.ino === found.ino;
    if (sameFile || resolve(input) === resolve(file))
      throw new UsageError('USAGE', `the report would overwrite its input ${input}`, {
        file,
        hint: 'choose another --out',
      });
  }
}

/**
 * Writes the report on `results` to `file`, by way of a temporary file beside it.
 * @throws UsageError FILE_UNWRITABLE; then nothing is left behind, and what was there is untouched.
 */
export async function writeReport(results: readonly Results[], file: string): Promise<void> {
  const page = renderReport(results);
  const unfinished = `${file}.${randomBytes(4).toString('hex')}`;
  try {
    await writeFile(unfinished, page, { flag: 'wx' });
    await rename(unfinished, file);
  } catch (cause) {
    await rm(unfinished, { force: true });
    throw new UsageError('FILE_UNWRITABLE', `cannot write ${file}: ${(cause as Error).message}`, {
      file,
      cause,
    });
  }
}
