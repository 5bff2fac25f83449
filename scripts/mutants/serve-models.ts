/** Models that come and go: folders, patches, and what is served meanwhile. */
import { type Mutant, mutantsOf } from './mutant.ts';

const CATALOG = ['test/serve/repository/folder-catalog.test.ts'];
const PATCH = ['test/serve/patches/row-patch.test.ts'];
const PATCHES = ['test/serve/patches/patch-folder.test.ts'];

export const SERVE_MODELS: readonly Mutant[] = [
  ...mutantsOf(
    'src/serve/repository/folder-catalog.ts',
    [
      ["name === '' || /[/\\0]/.test(name) || name.startsWith('.')", "name === ''"],
      ['    await this.#checkWithin(folder);\n    const settings', '    const settings'],
      ['    for (const file of await modelFiles(path)) await this.#checkWithin(file);\n', ''],
      [
        '    await this.#checkWithin(file);\n    return readSettings(file);',
        '    return readSettings(file);',
      ],
      ['      await this.#checkWithin(file);\n      if (path', '      if (path'],
      ["inside === '..' || inside.startsWith(`..${sep}`)", "inside === '..'"],
      ['Number(b) - Number(a)', 'Number(a) - Number(b)'],
      ['      if (path === PATCHES_FOLDER) continue;\n', ''],
      [
        'JSON.stringify([version, settings, placings, files])',
        'JSON.stringify([version, settings, placings])',
      ],
    ],
    CATALOG,
  ),
  ...mutantsOf(
    'src/serve/patches/row-patch.ts',
    [
      ['if (forModel !== model.name)', 'if (false)'],
      ['if (version !== model.version)', 'if (false)'],
      ['    checkAll(checkRowUpdate(tableAt(model, table), rows, values));', '    ;'],
      ['if (rows.shape.length !== 1)', 'if (false)'],
      ['Number(name) < tables.length', 'true'],
    ],
    PATCH,
  ),
  ...mutantsOf(
    'src/serve/patches/patch-folder.ts',
    [
      ['if (sequence !== i + 1)', 'if (false)'],
      ['    if (!entry.isFile())', '    if (false)'],
      ['sequence <= applied', 'sequence < applied'],
    ],
    PATCHES,
  ),
  ...mutantsOf(
    'src/serve/models/model-patches.ts',
    [
      ['    if (sequence > last + 1)', '    if (false)'],
      ['known !== undefined && (await isSamePatch(known, bytes))', 'known !== undefined'],
      ['    const file = await writePatch(this.#folder, sequence, bytes);', "    const file = '';"],
      ['      checkSequence(readPatch(bytes, file, this.#model), sequence);\n', ''],
    ],
    PATCHES,
  ),
  ...mutantsOf(
    'src/serve/models/models.ts',
    [
      ['        await live.patches?.look(live.copiesPatched);\n', ''],
      ["      if (when === 'if-changed' && place.isUnloaded) return;\n", ''],
      ['this.#last.get(name) ?? Promise.resolve()', 'Promise.resolve()'],
      ["      if (this.#options.reload === 'beside') throw error;\n", ''],
    ],
    ['test/serve/models.test.ts', 'test/serve/patches.rest.test.ts'],
  ),
];
