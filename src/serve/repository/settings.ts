/** What settings.json beside a model's versions says of how it is served. */
import Type, { type Static } from 'typebox';
import { deepFrozen } from '../../checks/value.ts';
import { DENSE_PRECISIONS } from '../../device.ts';
import { fromFile, ServeError } from '../../errors.ts';
import { readJsonFile } from '../../formats/json-file.ts';
import { schemaMisfit } from '../../model/description/schema-misfit.ts';

export const SETTINGS_FILE = 'settings.json';

const device = Type.String({
  pattern: '^(auto|cpu|cuda|cuda:all|cuda:[0-9]+)$',
  description: 'auto, cpu, cuda, cuda:N, or cuda:all for a copy on each GPU',
});

/** JSON Schema of the settings of a model. */
export const settingsSchema = deepFrozen(
  Type.Object(
    {
      version: Type.Literal(1, { description: 'of this form' }),
      serve: Type.Optional(
        Type.Union([Type.Literal('latest'), Type.Integer({ minimum: 1 })], {
          description: 'the version that is served: the largest number, or this one',
          default: 'latest',
        }),
      ),
      file: Type.Optional(
        Type.String({
          minLength: 1,
          description: 'the checkpoint or description in the folder of the version; default: the only one',
        }),
      ),
      device: Type.Optional(
        Type.Union([device, Type.Array(device, { minItems: 1, maxItems: 64 })], {
          description: 'where it runs; of a list, a copy on each',
        }),
      ),
      threads: Type.Optional(Type.Integer({ minimum: 1, description: 'of a copy on a CPU' })),
      precision: Type.Optional(Type.Enum(DENSE_PRECISIONS as [string, ...string[]])),
      plan: Type.Optional(
        Type.String({ minLength: 1, description: 'auto, plain, or a plan file beside this file' }),
      ),
      interaction: Type.Optional(Type.Enum(['dot', 'dot-diagonal', 'cat'])),
      slaMs: Type.Optional(
        Type.Number({ exclusiveMinimum: 0, description: 'the time of requests that do not say' }),
      ),
      maxBatch: Type.Optional(Type.Integer({ minimum: 1, description: 'samples of a batch' })),
      queueSamples: Type.Optional(Type.Integer({ minimum: 1, description: 'samples that may wait' })),
    },
    {
      $id: 'hotrow-model-settings-1',
      title: 'Settings of a model in a repository, version 1',
      additionalProperties: false,
    },
  ),
);

export type ModelSettings = Readonly<Static<typeof settingsSchema>>;

export const NO_SETTINGS: ModelSettings = Object.freeze({ version: 1 });

/** @throws UsageError FILE_*; FormatError FORMAT_UNKNOWN, FILE_TRUNCATED, JSON_INVALID; ServeError REPOSITORY_INVALID naming file and member. */
export async function readSettings(file: string): Promise<ModelSettings> {
  return fromFile(file, async () => {
    const value = await readJsonFile(file, 'model-settings');
    const misfit = schemaMisfit(settingsSchema, value);
    if (misfit !== undefined) throw badSetting(misfit.at, misfit.message);
    return value as ModelSettings;
  });
}

/** What is wrong with a member. */
export function badSetting(at: string, message: string, cause?: unknown): ServeError {
  return new ServeError('REPOSITORY_INVALID', `${at === '' ? 'the file' : at} ${message}`, { cause });
}
