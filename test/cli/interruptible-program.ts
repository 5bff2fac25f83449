/** Says when it was interrupted, and goes on for ever: a command that ends by itself, and does not. */
import { onAbort } from '../../src/checks/abort.ts';
import { endsWithWhatItHas, interruptible } from '../../src/cli/interrupt.ts';
import { temporaryFolder } from '../../src/temporary-folder.ts';

await temporaryFolder();
onAbort(endsWithWhatItHas(), () => process.stdout.write('interrupted\n'));
const forEver = setInterval(() => {}, 1000);
process.stdout.write('waiting\n');
await interruptible(
  () => new Promise(() => {}),
  () => process.stderr.write('aborted\n'),
);
clearInterval(forEver);
