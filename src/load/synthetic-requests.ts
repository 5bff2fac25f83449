/** Requests drawn from an access pattern, for a model that a server describes. */
import { at } from '../at.ts';
import { allocated } from '../checks/arguments.ts';
import { UsageError } from '../errors.ts';
import type { DlrmRequest } from '../model/request/request.ts';
import { type AccessPatternName, LookupStream } from '../workload/access-patterns.ts';
import { bagOffsets, drawBagLengths, parseTableBagLengths, totalLookups } from '../workload/bag-lengths.ts';
import { createRandom, floats, type Random } from '../workload/random.ts';
import type { IndexType } from './encode-request.ts';
import type { ServedFeature, ServedModel } from './served-model.ts';

export interface SyntheticShape {
  readonly pattern: AccessPatternName;
  /** As parseTableBagLengths takes them. */
  readonly bagLengths: string;
  readonly indexType: IndexType;
  /** Names or numbers of features, or `auto`: those whose bags have ten lookups and more on average. Undefined: no users. */
  readonly userFeatures?: string;
  readonly seed: number;
}

/** Ids of features that the server maps by itself are drawn from so many. */
const MAPPED_IDS = 2 ** 31 - 1;
/** Lookups of a bag from which on a feature is taken for one of the user's. */
const USER_LOOKUPS = 10;
const MEAN_OF = 1000;

/** Draws requests of one model. Equal seeds give equal requests. */
export class SyntheticRequests {
  /** Which features stand in the user's part. */
  readonly ofUser: readonly boolean[];
  readonly #model: ServedModel;
  readonly #lengths: ReturnType<typeof parseTableBagLengths>;
  readonly #streams: readonly LookupStream[];
  readonly #random: Random;

  /** @throws UsageError USAGE for ids that cannot be drawn, bag lengths and features that the model does not have. */
  constructor(model: ServedModel, { pattern, bagLengths, indexType, userFeatures, seed }: SyntheticShape) {
    const { features } = model;
    this.#model = model;
    this.#lengths = parseTableBagLengths(bagLengths, features.length);
    this.#random = createRandom(seed);
    this.ofUser =
      userFeatures === undefined
        ? features.map(() => false)
        : userFeatures === 'auto'
          ? this.#lengths.map(({ draw }) => meanOf(draw) >= USER_LOOKUPS)
          : namedFeatures(userFeatures, features);
    if (userFeatures !== undefined && !this.ofUser.includes(true)) {
      throw new UsageError(
        'USAGE',
        `no feature has bags of ${USER_LOOKUPS} lookups and more: none is taken for the user's`,
        {
          hint: 'name the features: --user-features 3,4,ads',
        },
      );
    }
    this.#streams = features.map(
      (feature) =>
        new LookupStream(pattern, { rows: drawnRows(feature, indexType), seed: this.#random.uint32() }),
    );
  }

  /** The next request, of `samples` samples; with a user's features, of one user with so many candidates. */
  next(samples: number): DlrmRequest {
    const { denseFeatures } = this.#model;
    const random = this.#random;
    const drawn = this.#lengths.map((lengths, t) =>
      allocated('bags', () => drawBagLengths(lengths, at(this.ofUser, t) ? 1 : samples, random)),
    );
    const indices = LookupStream.draw(this.#streams, drawn.map(totalLookups));
    const dense = allocated('dense features', () => floats(random, samples * denseFeatures));
    const hasUser = this.ofUser.includes(true);
    return {
      batchSize: samples,
      denseFeatures,
      dense,
      bags: drawn.map((lengths, t) => ({
        indices: at(indices, t),
        offsets: bagOffsets(lengths),
        ...(at(this.ofUser, t) ? { perUser: true } : {}),
      })),
      ...(hasUser ? { users: Int32Array.of(0, samples) } : {}),
    };
  }
}

/** How many different ids of a feature are drawn. */
function drawnRows({ name, rows, kind }: ServedFeature, indexType: IndexType): number {
  if (kind === 'rows') {
    if (rows <= MAPPED_IDS || indexType === 'int64') return rows;
    throw new UsageError('USAGE', `feature ${name} has ${rows} rows, more than int32 can say`, {
      hint: 'pass --index-type int64',
    });
  }
  if (kind === 'hash') return MAPPED_IDS;
  throw new UsageError(
    'USAGE',
    `ids of feature ${name} are entries of a ${kind}, which the server alone has`,
    {
      hint: 'pass requests of your own with --trace',
    },
  );
}

function meanOf(draw: (random: Random) => number): number {
  const random = createRandom(1);
  let sum = 0;
  for (let i = 0; i < MEAN_OF; i++) sum += draw(random);
  return sum / MEAN_OF;
}

/** Features by name or number. */
function namedFeatures(list: string, features: readonly ServedFeature[]): boolean[] {
  const chosen = features.map(() => false);
  for (const text of list.split(',')) {
    const named = features.findIndex(({ name }) => name === text);
    const number = named < 0 && /^\d+$/.test(text) ? Number(text) : named;
    if (number < 0 || number >= features.length) {
      throw new UsageError('USAGE', `--user-features: the model has no feature ${text}`, {
        hint: `its features are ${features
          .slice(0, 40)
          .map(({ name }) => name)
          .join(', ')}`,
      });
    }
    chosen[number] = true;
  }
  return chosen;
}
