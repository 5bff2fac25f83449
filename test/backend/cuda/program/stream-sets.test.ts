/** Batches side by side on CUDA, over the fake driver: a set of streams each, the same values. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { DEFAULT_STREAM_SETS, type StreamOptions } from '../../../../src/backend/stream-options.ts';
import { openBackend } from '../../../../src/index.ts';
import { DlrmModel } from '../../../../src/model/dlrm.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { smallModel, smallRequest } from '../../../support/models.ts';
import { Random } from '../../../support/random.ts';
import { SEED } from '../../../support/seed.ts';

const skip = refuseEmulation();

describe('sets of streams', { skip }, () => {
  if (skip !== undefined) return;
  after(() => assert.deepEqual(fake.live(), {}, 'everything was given back'));

  const random = new Random(SEED);
  const architecture = smallModel(random, 'dot-lower');
  const requests = [3, 4, 3, 4].map((size) => smallRequest(random, architecture, size));

  /** What placed requests give, three times each with all of them under way, and the streams that there were. */
  async function scores(streams: StreamOptions) {
    using backend = openFakeBackend({ streams });
    const opened = fake.live().stream ?? 0;
    await using model = await DlrmModel.create(backend, architecture, { precision: 'float16' });
    const placed = await Promise.all(requests.map((request) => model.place(request)));
    try {
      const probabilities: number[][] = [];
      for (let round = 0; round < 3; round++) {
        const all = await Promise.all(placed.map((request) => model.predict(request)));
        probabilities.push(all.flatMap((one) => [...one.probabilities]));
      }
      return { opened, probabilities };
    } finally {
      for (const request of placed) request[Symbol.dispose]();
    }
  }

  test('batches on streams of their own give what they give one behind the other', async () => {
    const alone = await scores({ sets: 1 });
    for (const streams of [{}, { sets: 3, first: 'lookups' }, { sets: 1, first: 'neither' }] as const) {
      const { opened, probabilities } = await scores(streams);
      assert.equal(opened, alone.opened * ('sets' in streams ? streams.sets : DEFAULT_STREAM_SETS));
      assert.deepEqual(probabilities, alone.probabilities);
    }
  });
});

test('streams are refused where they are not known, or mean nothing', () => {
  const refused = { code: 'OPTION_INVALID' };
  assert.throws(() => openBackend({ device: 'cpu', streams: { sets: 2 } }), refused);
  assert.throws(() => openBackend({ device: 'cuda', streams: { sets: 0 } }), refused);
  assert.throws(() => openBackend({ device: 'cuda', streams: { first: 'copies' as 'dense' } }), refused);
});
