/** What raw requests become for a model, for the commands that read them. */
import { type Command, Option } from 'commander';
import type { Preprocessing } from '../model/inputs.ts';
import type { RequestFileOptions } from '../workload/request-file.ts';
import { integer } from './options.ts';

export interface CategoryOptions {
  readonly vocabulary?: string;
  readonly hash?: boolean;
  readonly unknownRow?: number;
  readonly dense?: keyof typeof DENSE;
}

/** What `--dense` may make of Criteo's numbers. */
const DENSE = {
  log1p: 'log(1 + max(x, 0))',
  log3: 'log(x + 3)',
  none: 'none',
} as const satisfies Readonly<Record<string, Preprocessing>>;

/** `--vocabulary`, `--hash`, `--unknown-row`, `--dense`: of Criteo rows. `dense`: what the last is called. */
export function withCategories(command: Command, dense = '--dense'): Command {
  return command
    .addOption(
      new Option(
        '--vocabulary <file>',
        'JSON: per Criteo category field, its strings in row order',
      ).conflicts('hash'),
    )
    .option('--hash', 'Criteo categories by hashing to the table size')
    .option(
      '--unknown-row <row>',
      'the row of categories that the vocabulary lacks (default: an error)',
      integer(0),
    )
    .addOption(
      new Option(
        `${dense} <preprocessing>`,
        'what Criteo numbers become: log(1 + max(x, 0)), log(x + 3), x (default: as the model was trained)',
      ).choices(Object.keys(DENSE)),
    );
}

/** What the options of `withCategories` say. */
export function categoriesOf({
  vocabulary,
  hash,
  unknownRow,
  dense,
}: CategoryOptions): Omit<RequestFileOptions, 'limit'> {
  return {
    ...(vocabulary === undefined ? {} : { vocabulary }),
    ...(hash === undefined ? {} : { hash }),
    ...(unknownRow === undefined ? {} : { unknownRow }),
    ...(dense === undefined ? {} : { preprocessing: DENSE[dense] }),
  };
}
