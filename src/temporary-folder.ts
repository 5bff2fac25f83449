/** Folders for files that nobody keeps. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HotrowError, unwritable } from './errors.ts';

export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
  /** Runs `work`, which writes into the folder. @throws UsageError FILE_UNWRITABLE with the cause; what else `work` throws. */
  fill<T>(work: () => Promise<T>): Promise<T>;
}

/** Makes a folder that is deleted, with all in it, on disposal. @throws UsageError FILE_UNWRITABLE with the cause. */
export async function temporaryFolder(): Promise<TemporaryFolder> {
  const failed = (cause: unknown): never => {
    // What went wrong in Hotrow's own words was no write.
    if (cause instanceof HotrowError || (cause as NodeJS.ErrnoException).code === undefined) throw cause;
    throw unwritable(tmpdir(), cause, {
      hint: 'free space in the temporary folder, or name another one: TMPDIR=/path',
    });
  };
  const path = await mkdtemp(join(tmpdir(), 'hotrow-')).catch(failed);
  return {
    path,
    fill: (work) => work().catch(failed),
    // Left behind rather than hiding an error that is under way.
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }).catch(() => {}),
  };
}
