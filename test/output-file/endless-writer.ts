/** endless-writer.ts FILE [listens]: writes a file that has no end; with `listens`, a signal is answered by an exit. */
import { writeOutputFile } from '../../src/output-file.ts';

const [file = '', listens] = process.argv.slice(2);
if (listens === 'listens') process.on('SIGTERM', () => process.exit(7));
await writeOutputFile(file, async function* () {
  for (let told = false; ; told = true) {
    yield new Uint8Array(1);
    await new Promise((later) => setTimeout(later, 5));
    if (!told) process.stdout.write('writing\n');
  }
});
