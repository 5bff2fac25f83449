/** The lookups of one feature as bags of rows: its ids mapped, unknown ones treated, its rules held. */
import { at } from '../../at.ts';
import type { Bags, IndexArray } from '../../embedding/bag.ts';
import { type ErrorDetails, RequestError, type RequestErrorCode } from '../../errors.ts';
import { asNumbers, type BagsPlace, bagAt, checkOffsets, longBag, offsetsOf } from './bag-bounds.ts';
import { idMapping, integers, quoted, type RefuseIds, type RowsOfIds, UNKNOWN } from './id-mapping.ts';
import type { Lookups } from './request-parts.ts';

/**
 * Bags of rows. Offsets that are given stay as they are, and are checked where ids are skipped; else by the device.
 * @throws RequestError TENSOR_SHAPE, TENSOR_DTYPE, TENSOR_MISSING, TENSOR_UNEXPECTED, LENGTHS_INVALID, OFFSETS_INVALID,
 *   BAG_TOO_LONG, UNKNOWN_ID; WorkloadError VOCABULARY_INVALID; UsageError USAGE for a hash that cannot be.
 */
export async function bindBags(lookups: Lookups, place: BagsPlace): Promise<Bags> {
  const { feature, bags } = place;
  const { values, kind, weights, names } = lookups;
  const offsets = offsetsOf(lookups, place);
  checkWeighted(lookups, place);
  checkLongest(lookups, place, offsets);
  const refuse: RefuseIds = (message, position) =>
    position === undefined
      ? rejectFeature(place, 'TENSOR_DTYPE', message, { tensor: names.values })
      : rejectId(lookups, place, offsets, position, 'TENSOR_DTYPE', message);
  const rowsOf: RowsOfIds = kind === 'ids' ? await idMapping(feature) : integers;
  const indices = rowsOf(values, refuse);
  const result = { indices, offsets, ...(weights === undefined ? {} : { weights }) };
  if (kind === 'rows' || feature.ids.kind !== 'vocabulary' || indices instanceof BigInt64Array) return result;
  const position = indices.indexOf(UNKNOWN);
  if (position < 0) return result;
  const { unknown } = feature;
  if (unknown === 'error') {
    const message = `${quoted(values[position])} is not in the vocabulary`;
    return rejectId(lookups, place, offsets, position, 'UNKNOWN_ID', message);
  }
  if (unknown === 'skip') {
    checkOffsets(offsets, values.length, place);
    return withoutUnknown(result, bags);
  }
  return { ...result, indices: indices.map((row) => (row === UNKNOWN ? unknown.row : row)) };
}

function checkWeighted({ weights, names }: Lookups, place: BagsPlace): void {
  const { weighted } = place.feature;
  const details = { tensor: names.weights };
  if (weighted === true && weights === undefined)
    rejectFeature(
      place,
      'TENSOR_MISSING',
      `${names.weights} is missing: every lookup brings a weight`,
      details,
    );
  if (weighted === false && weights !== undefined)
    rejectFeature(
      place,
      'TENSOR_UNEXPECTED',
      `${names.weights} has no place: its lookups have no weights`,
      details,
    );
}

function checkLongest({ values, names }: Lookups, place: BagsPlace, offsets: IndexArray): void {
  const { longestBag } = place.feature;
  if (longestBag === undefined) return;
  const long = longBag(offsets, values.length, place.bags, longestBag);
  if (long === undefined) return;
  const message = `${long.length} lookups are more than ${longestBag}`;
  rejectFeature(place, 'BAG_TOO_LONG', message, {
    tensor: names.values,
    sample: long.bag,
    value: long.length,
  });
}

/** Bags without their unknown ids and these ids' weights; offsets [bags + 1]. */
function withoutUnknown({ indices, offsets, weights }: Bags, bags: number): Bags {
  const known = new Int32Array(indices.length);
  const knownWeights = weights === undefined ? undefined : new Float32Array(indices.length);
  const given = asNumbers(offsets);
  const starts = new Int32Array(bags + 1);
  let count = 0;
  for (let bag = 0, i = 0; bag < bags; bag++) {
    starts[bag] = count;
    for (const end = given[bag + 1] ?? indices.length; i < end; i++) {
      if (indices[i] === UNKNOWN) continue;
      known[count] = indices[i] as number;
      if (knownWeights !== undefined) knownWeights[count] = weights?.[i] as number;
      count += 1;
    }
  }
  starts[bags] = count;
  return {
    indices: known.slice(0, count),
    offsets: starts,
    ...(knownWeights === undefined ? {} : { weights: knownWeights.slice(0, count) }),
  };
}

/** Names the sample that a lookup is of. */
function rejectId(
  { values, names }: Lookups,
  place: BagsPlace,
  offsets: IndexArray,
  position: number,
  code: RequestErrorCode,
  message: string,
): never {
  checkOffsets(offsets, values.length, place);
  const id = at(values, position);
  const value = typeof id === 'string' ? id.slice(0, 40) : id;
  const sample = bagAt(offsets, place.bags, position);
  return rejectFeature(place, code, message, { tensor: names.values, sample, position, value });
}

/** @throws RequestError `code`, naming the feature, and the sample of `details`. */
export function rejectFeature(
  { feature, table, nameOf }: BagsPlace,
  code: RequestErrorCode,
  message: string,
  details: ErrorDetails,
): never {
  const { sample } = details;
  const where = sample === undefined ? '' : `${nameOf(sample)}, `;
  throw new RequestError(code, `${where}feature ${feature.name}: ${message}`, {
    ...details,
    table,
    feature: feature.name,
  });
}
