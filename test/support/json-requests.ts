/** Requests in JSON by hand, and inputs that they are for. */
import type { ModelInputs } from '../../src/model/inputs.ts';
import { jsonRequest } from '../../src/model/request/json-request.ts';
import { expanded, feature } from './request-tensors.ts';

export const jsonInputs: ModelInputs = {
  features: [
    feature('ads'),
    feature('city', { ids: { kind: 'vocabulary', values: ['a', 'b', '__proto__'] }, missing: 'empty' }),
    feature('big', { ids: { kind: 'vocabulary', values: [5, 6] }, missing: { ids: [6] }, unknown: 'skip' }),
  ],
  dense: [
    { name: 'x', preprocessing: 'log(1 + max(x, 0))' },
    { name: 'y', preprocessing: 'none' },
  ],
};

/** What the request that a value is says, as lists. */
export const readJson = async (value: unknown) =>
  expanded(await jsonRequest(JSON.stringify(value), jsonInputs));
/** The same of a request with a value, or a text, a line. */
export const readLines = async (...values: unknown[]) =>
  expanded(
    await jsonRequest(
      values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join('\n'),
      jsonInputs,
    ),
  );

export const [firstSample, secondSample] = [
  { dense: [1, 2], features: { ads: [1, 2], city: ['b'] } },
  { dense: [3, 4], features: { ads: [], big: [5, 7, '6'] } },
];
