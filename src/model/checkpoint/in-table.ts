/** Naming the table in what is wrong with its rows. */
import { ModelError, type ModelErrorCode } from '../../errors.ts';

/** Runs `work` on rows of a table; its errors name the table. */
export function inTable<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    throw new ModelError(error.code as ModelErrorCode, `table ${name}: ${error.message}`, {
      ...error.details,
      tensor: name,
    });
  }
}
