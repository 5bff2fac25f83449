#!/usr/bin/env node
/** The `hotrow` command. Exit codes: 0 done, 1 failed, 2 wrong usage. */
import { Command, CommanderError } from 'commander';
import { UsageError, unwritable } from '../errors.ts';
import { printableLines } from '../text.ts';
import { version } from '../version.ts';
import { benchCommand } from './commands/bench.ts';
import { characterizeCommand } from './commands/characterize.ts';
import { devicesCommand } from './commands/devices.ts';
import { inspectCommand } from './commands/inspect.ts';
import { predictCommand } from './commands/predict.ts';
import { quantizeCommand } from './commands/quantize.ts';
import { reportCommand } from './commands/report.ts';
import { traceCommand } from './commands/trace.ts';
import { tuneCommand } from './commands/tune.ts';
import { withStrictOptions } from './options.ts';
import { LINE_CHARACTERS, printError } from './print.ts';

const isVerbose = process.argv.includes('--verbose');

const program = new Command('hotrow')
  .description(
    'DLRM (deep learning recommendation model) inference, with the embedding stage at the memory limit',
  )
  .version(version, '-V, --version', 'print the version')
  .showHelpAfterError('(add --help for what it takes)');

for (const command of [
  benchCommand(),
  reportCommand(),
  tuneCommand(),
  characterizeCommand(),
  predictCommand(),
  inspectCommand(),
  quantizeCommand(),
  traceCommand(),
  devicesCommand(),
]) {
  command.option('--verbose', 'print stacks of errors').exitOverride();
  // What it quotes may be the name of a file.
  command.configureOutput({
    writeErr: (text) => process.stderr.write(printableLines(text, LINE_CHARACTERS)),
  });
  program.addCommand(withStrictOptions(command));
}
program.exitOverride();

// A closed pipe (`hotrow … | head`) ends the output, it is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  printError(unwritable('standard output', error), isVerbose);
  process.exit(1);
});
// Whoever does not read errors is not told of this one either.
process.stderr.on('error', () => {});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed what was wrong, or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    printError(error, isVerbose);
    process.exitCode = error instanceof UsageError && error.code === 'USAGE' ? 2 : 1;
  }
}
