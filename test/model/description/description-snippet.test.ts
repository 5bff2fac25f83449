/** The Python that docs/model-description.md gives, run over a stand-in of a TorchRec model. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseDescription } from '../../../src/model/description/description.ts';

const page = readFileSync(new URL('../../../docs/model-description.md', import.meta.url), 'utf8');
const snippet = /```python\n([\s\S]*?)```/.exec(page)?.[1] ?? '';

/** What the snippet needs of torch and of torchrec's EmbeddingBagCollection. */
const STAND_IN = `
import sys, types
torch = types.ModuleType("torch"); torch.save = lambda value, path: open(path, "w").close(); sys.modules["torch"] = torch
class Pooling:
    def __init__(self, value): self.value = value
class Config:
    def __init__(self, name, features, pooling): self.name, self.feature_names, self.pooling = name, features, Pooling(pooling)
class Bags:
    def embedding_bag_configs(self): return [Config("t_ads", ["clicked", "shown"], "MEAN"), Config("t_user", ["user"], "SUM")]
    def is_weighted(self): return False
class Model:
    def modules(self): return [self, Bags()]
    def state_dict(self): return {}
`;

const python = spawnSync('python3', ['--version']).status === 0;

test('the snippet of docs/model-description.md writes a description', {
  skip: !python && 'there is no python3',
}, (t) => {
  assert.ok(snippet.split('\n').length <= 31, 'at most 30 lines');
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-snippet-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const program = `${STAND_IN}\n${snippet}\nwrite_description(Model(), ${JSON.stringify(join(folder, 'dlrm.pt'))}, ["age"], "log(x + 3)")\n`;
  const { status, stderr } = spawnSync('python3', ['-c', program], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const description = parseDescription(JSON.parse(readFileSync(join(folder, 'dlrm.hotrow.json'), 'utf8')));
  assert.deepEqual(
    description.features?.map(({ name, table, pooling }) => [name, table, pooling]),
    [
      ['clicked', 't_ads', 'mean'],
      ['shown', 't_ads', 'mean'],
      ['user', 't_user', 'sum'],
    ],
  );
  assert.deepEqual([description.checkpoint, description.output], ['dlrm.pt', 'logit']);
});
