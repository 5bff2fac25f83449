/** Closing a CUDA backend while something is under way on it, over the fake driver. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { Backend, PlacedTables } from '../../../src/backend/backend.ts';
import { GuardedBackend } from '../../../src/backend/guarded/backend.ts';
import { nativeCounts } from '../../../src/ffi/owned-handles.ts';
import { plainPlan } from '../../../src/plan/plan.ts';
import { refuseEmulation } from '../../emulation/emulator.ts';
import { fake, fakeLt, openFakeBackend } from '../../fake-driver/open-backend.ts';
import { bagsOf, randomTable } from '../../support/cases.ts';
import { Random } from '../../support/random.ts';
import { poolPlaced } from '../../support/run-operators.ts';

const skip = refuseEmulation();
const table = randomTable(new Random(1), { rows: 50, dim: 16 });
const batch = { batchSize: 2, bags: [bagsOf([[1, 2], [3]])] };

type Use = (backend: Backend, placed: PlacedTables) => Promise<unknown>;
const USES: Readonly<Record<string, Use>> = {
  'tables placed': async (backend) =>
    (await backend.placeTables([table], plainPlan('cuda')))[Symbol.dispose](),
  'rows updated': (_, placed) => placed.updateRows(0, Int32Array.of(1), new Float32Array(16)),
  'rows read': (_, placed) => placed.readRows(0, Int32Array.of(1)),
  'lookups observed': async (backend, placed) => {
    using bags = backend.placeBags(placed, batch);
    await backend.observe(placed, [bags]);
  },
  'bags pooled': (backend, placed) => poolPlaced(backend, placed, batch),
};

describe('a CUDA backend that is closed', { skip }, () => {
  if (skip !== undefined) return;
  afterEach(() => fake.setWorkMs(0));

  for (const [name, use] of Object.entries(USES)) {
    for (const guarded of [false, true]) {
      test(`${name} meanwhile${guarded ? ', under guard' : ''}`, async () => {
        const before = nativeCounts();
        const inner = openFakeBackend();
        const backend = guarded ? new GuardedBackend(inner) : inner;
        const placed = await backend.placeTables([table], plainPlan('cuda'));
        fake.setWorkMs(3);
        const underWay = use(backend, placed);
        backend[Symbol.dispose]();
        assert.notDeepEqual(fake.live(), {}, 'the call returns at once');
        await underWay;
        placed[Symbol.dispose]();
        assert.deepEqual(fake.live(), {});
        assert.equal(fakeLt.live(), 0);
        assert.equal(nativeCounts().handles, before.handles);
        await assert.rejects(async () => use(backend, placed), { code: 'DISPOSED' });
      });
    }
  }
});
