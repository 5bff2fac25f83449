/**
 * How linear layers are computed fastest, as it was measured once: a file for each device, precision and version of cuBLASLt and
 * Hotrow, so that loading a model again need not measure. Deleting it is always safe; the next load measures anew.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import type { CudaDevice } from '../../../cuda/device.ts';
import type { DensePrecision } from '../../../device.ts';
import type { CublasLt } from '../../../ffi/cublaslt.ts';
import { cacheFolder } from '../../../user-folders.ts';
import { version } from '../../../version.ts';
import { CROSS_COLUMNS } from './cross-product.ts';

const CHOICES_VERSION = 5;
/** Those kept first go first. */
const MOST_CHOICES = 4096;
/** Of a cublasLtMatmulAlgo_t. */
const ALGORITHM_WORDS = 8;

const choiceSchema = Type.Union([
  Type.Object({ kind: Type.Literal('direct') }, { additionalProperties: false }),
  Type.Object(
    {
      kind: Type.Literal('cross'),
      /** Outputs that a block makes. */
      columns: Type.Enum([...CROSS_COLUMNS]),
    },
    { additionalProperties: false },
  ),
  Type.Object(
    {
      kind: Type.Literal('product'),
      /** The words of the library's algorithm, hexadecimal. */
      algorithm: Type.Array(Type.String({ pattern: '^[0-9a-f]{1,16}$' }), {
        minItems: ALGORITHM_WORDS,
        maxItems: ALGORITHM_WORDS,
      }),
      workspaceBytes: Type.Integer({ minimum: 0 }),
      /** Whether the library adds bias and activation, and whether a kernel ends the work. */
      fused: Type.Boolean(),
      finished: Type.Boolean(),
      /** Whether the library multiplies by the scales of 8-bit factors. */
      scaled: Type.Boolean(),
      /** Whether it leaves the output in 8 bits alone. */
      rounds: Type.Boolean(),
    },
    { additionalProperties: false },
  ),
]);

/** How a shape is computed, as a file holds it. */
export type KeptChoice = Readonly<Static<typeof choiceSchema>>;

const identitySchema = Type.Object(
  {
    device: Type.String(),
    architecture: Type.String(),
    multiprocessors: Type.Integer(),
    precision: Type.String(),
    cublasLt: Type.String(),
    hotrow: Type.String(),
  },
  { additionalProperties: false },
);

/** What choices depend on besides the shape. */
export type ChoicesIdentity = Readonly<Static<typeof identitySchema>>;

const fileSchema = Type.Object(
  {
    version: Type.Literal(CHOICES_VERSION),
    measuredOn: identitySchema,
    /** By shape; each is checked by itself. */
    choices: Type.Record(Type.String(), Type.Unknown()),
  },
  { additionalProperties: false },
);

/** `products` beside the folder of compiled kernels. */
export function defaultChoicesFolder(environment?: NodeJS.ProcessEnv): string {
  return cacheFolder(['products'], environment);
}

export function choicesIdentity(
  { properties }: CudaDevice,
  precision: DensePrecision,
  cublasLt: CublasLt,
): ChoicesIdentity {
  const { name, architecture, multiprocessors } = properties;
  return {
    ...{ device: name, architecture, multiprocessors, precision },
    cublasLt: cublasLt.version,
    hotrow: version,
  };
}

export interface KeptChoicesOptions {
  readonly folder: string;
  /** Told of what is left aside or cannot be written, once each; default: a warning of the process. */
  readonly onWarning?: (message: string) => void;
}

export class KeptChoices {
  readonly file: string;
  readonly #identity: ChoicesIdentity;
  readonly #onWarning: (message: string) => void;
  readonly #told = new Set<string>();
  #choices: Map<string, KeptChoice>;

  constructor(identity: ChoicesIdentity, { folder, onWarning }: KeptChoicesOptions) {
    const digest = createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 16);
    this.file = join(folder, `${identity.precision}-${digest}.json`);
    this.#identity = identity;
    this.#onWarning = onWarning ?? ((message) => process.emitWarning(message, 'HotrowWarning'));
    this.#choices = this.#read();
  }

  /** What was kept for a shape, meanwhile by other processes too. */
  get(shape: string): KeptChoice | undefined {
    if (!this.#choices.has(shape)) this.#choices = new Map([...this.#read(), ...this.#choices]);
    return this.#choices.get(shape);
  }

  /** Says that a choice that was got is of no use after all. */
  reject(shape: string): void {
    this.#choices.delete(shape);
    this.#tell(`${this.file}: the choice for ${shape} cannot be run here, and is measured anew`);
  }

  /** Keeps a choice with those that other processes kept meanwhile; the file is put in place whole. */
  keep(shape: string, choice: KeptChoice): void {
    const choices = [...new Map([...this.#read(), ...this.#choices, [shape, choice]])].slice(-MOST_CHOICES);
    this.#choices = new Map(choices);
    const unfinished = `${this.file}.${process.pid}-${randomBytes(4).toString('hex')}`;
    const content = {
      version: CHOICES_VERSION,
      measuredOn: this.#identity,
      choices: Object.fromEntries(choices),
    } satisfies Static<typeof fileSchema>;
    try {
      mkdirSync(dirname(this.file), { recursive: true });
      putInPlace(unfinished, this.file, `${JSON.stringify(content, null, 2)}\n`);
    } catch (error) {
      const why = (error as Error).message;
      this.#tell(`matrix products are measured by every process: ${this.file} cannot be written (${why})`);
    }
  }

  /** What the file holds and can be used. */
  #read(): Map<string, KeptChoice> {
    let text: string;
    try {
      text = readFileSync(this.file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#tell(
          `${this.file} cannot be read (${(error as Error).message}): matrix products are measured anew`,
        );
      return new Map();
    }
    const content = parsed(text);
    if (
      !Value.Check(fileSchema, content) ||
      JSON.stringify(content.measuredOn) !== JSON.stringify(this.#identity)
    ) {
      this.#tell(`${this.file} is damaged, and left aside: matrix products are measured anew`);
      return new Map();
    }
    const choices = Object.entries(content.choices);
    const good = choices.filter((entry): entry is [string, KeptChoice] =>
      Value.Check(choiceSchema, entry[1]),
    );
    if (good.length < choices.length)
      this.#tell(
        `${this.file}: ${choices.length - good.length} damaged choices of matrix products are left aside`,
      );
    return new Map(good);
  }

  #tell(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#onWarning(message);
  }
}

/** Writes a file whole or not at all. */
function putInPlace(unfinished: string, file: string, text: string): void {
  try {
    writeFileSync(unfinished, text);
    renameSync(unfinished, file);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
