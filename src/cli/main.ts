#!/usr/bin/env node
/** The `hotrow` command. Exit codes: 0 done, 1 failed, 2 wrong usage. */
import { Command, CommanderError } from 'commander';
import { UsageError } from '../errors.ts';
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
import { printError } from './output.ts';

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
  program.addCommand(withStrictOptions(command.option('--verbose', 'print stacks of errors').exitOverride()));
}
program.exitOverride();

// A closed pipe (`hotrow … | head`) ends the output, it is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed what was wrong, or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    printError(error, process.argv.includes('--verbose'));
    process.exitCode = error instanceof UsageError && error.code === 'USAGE' ? 2 : 1;
  }
}
