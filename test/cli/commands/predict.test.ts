/** `hotrow predict`: which of several saved plans it takes, and what it refuses before a device is asked for. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openDevice } from '../../../src/backend/open-backend.ts';
import { loadArchitecture } from '../../../src/model/load-model.ts';
import { readRequest } from '../../../src/model/request/safetensors-request.ts';
import { plainPlan } from '../../../src/plan/plan.ts';
import { plansFolder, savedPlanFile, savePlan, tunedVersions } from '../../../src/plan/saved-plans.ts';
import { planTrafficOf } from '../../../src/workload/batch-traffic.ts';
import { dataHome, hotrow } from '../../support/cli.ts';
import { goldenPath } from '../../support/golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-predict-'));
after(() => rmSync(folder, { recursive: true }));

const MODEL = goldenPath('dlrm_dcnv2.model.safetensors') as string;
const REQUEST = goldenPath('dlrm_dcnv2.request.safetensors') as string;

test("of several saved plans, the one tuned on traffic like the request's runs", async () => {
  const { architecture } = await loadArchitecture(MODEL);
  const { backend } = openDevice({ device: 'cpu' });
  using _ = backend;
  const { device } = backend;
  const context = { device, tables: architecture.tables };
  const own = planTrafficOf(await readRequest(REQUEST), architecture.tables);
  assert.ok(own.distinctShare > 0.1 && own.distinctShare <= 1, `${own.distinctShare}`);
  const save = (workload: string, distinctShare: number, createdAt: string) => {
    const traffic = { ...own, distinctShare };
    const provenance = { createdAt, workload, ...traffic, batchMs: 1, plainMs: 2 };
    const { name, architecture: arch } = device;
    const tunedOn = { device: name, architecture: arch, versions: tunedVersions(device), ...provenance };
    const file = savedPlanFile(context, traffic, plansFolder({ XDG_DATA_HOME: dataHome }));
    return savePlan({ ...plainPlan('cpu'), tunedOn }, file);
  };
  await save('such traffic', own.distinctShare, '2026-01-01T00:00:00Z');
  await save('one row', 0, '2026-02-01T00:00:00Z');
  const { stdout, stderr } = await hotrow('predict', MODEL, REQUEST, '--device', 'cpu', '--format', 'json');
  assert.match(
    JSON.parse(stdout).planSource,
    /tuned on such traffic, the nearest to this traffic of 2/,
    stderr,
  );
});

test('a request that does not fit the model is refused before a device is opened', async () => {
  const request = join(folder, 'request.json');
  await writeFile(request, '{"dense": [[1]]}');
  const { code, stderr } = await hotrow('predict', MODEL, request, '--device', 'cuda:63');
  assert.equal(code, 1);
  assert.match(stderr, /^error\[REQUEST_/m);
});
