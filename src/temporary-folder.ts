/** Folders for files that nobody keeps: none of them outlives the process. */
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HotrowError, unwritable } from './errors.ts';
import { begin, finish } from './unfinished.ts';

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
  const path = made(failed);
  begin(path);
  return {
    path,
    fill: (work) => work().catch(failed),
    // Left to the end of the process rather than hiding an error that is under way.
    [Symbol.asyncDispose]: () =>
      rm(path, { recursive: true, force: true }).then(
        () => finish(path),
        () => {},
      ),
  };
}

/** At once, so that no signal comes between its making and whoever has it removed. */
function made(failed: (cause: unknown) => never): string {
  try {
    return mkdtempSync(join(tmpdir(), 'hotrow-'));
  } catch (cause) {
    return failed(cause);
  }
}
