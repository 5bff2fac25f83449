#!/usr/bin/env node
/** The `hotrow` command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 and 143 interrupted (SIGINT, SIGTERM). */
import { Command, CommanderError } from 'commander';
import { UsageError, unwritable } from '../errors.ts';
import { printableLines } from '../text.ts';
import { version } from '../version.ts';
import { endInterrupted, interruptible, wasInterrupted } from './interrupt.ts';
import { withStrictOptions } from './options.ts';
import { LINE_CHARACTERS, notice, printError, progress } from './print.ts';

const isVerbose = process.argv.includes('--verbose');

const program = new Command('hotrow')
  .description(
    'DLRM (deep learning recommendation model) inference, with the embedding stage at the memory limit',
  )
  .version(version, '-V, --version', 'print the version')
  .showHelpAfterError('(add --help for what it takes)');

/** A command's modules are loaded when it is asked for: all of them take most of a second. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  bench: async () => (await import('./commands/bench.ts')).benchCommand(),
  report: async () => (await import('./commands/report.ts')).reportCommand(),
  evaluate: async () => (await import('./commands/evaluate.ts')).evaluateCommand(),
  tune: async () => (await import('./commands/tune.ts')).tuneCommand(),
  characterize: async () => (await import('./commands/characterize.ts')).characterizeCommand(),
  predict: async () => (await import('./commands/predict.ts')).predictCommand(),
  serve: async () => (await import('./commands/serve.ts')).serveCommand(),
  inspect: async () => (await import('./commands/inspect.ts')).inspectCommand(),
  quantize: async () => (await import('./commands/quantize.ts')).quantizeCommand(),
  load: async () => (await import('./commands/load.ts')).loadCommand(),
  trace: async () => (await import('./commands/trace.ts')).traceCommand(),
  devices: async () => (await import('./commands/devices.ts')).devicesCommand(),
};
const named = process.argv[2] ?? '';
const wanted = Object.hasOwn(COMMANDS, named) ? [named] : Object.keys(COMMANDS);

for (const name of wanted) {
  const command = await (COMMANDS[name] as () => Promise<Command>)();
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

/** What an interrupted command says, whatever it was at. */
function endAborted(): never {
  progress('');
  notice('aborted');
  endInterrupted();
}

try {
  await interruptible(() => program.parseAsync(), endAborted);
} catch (error) {
  if (wasInterrupted()) {
    // What it was given up with is no failure: programs that it waited for were ended, too.
  } else if (error instanceof CommanderError) {
    // Commander has printed what was wrong, or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    printError(error, isVerbose);
    process.exitCode = error instanceof UsageError && error.code === 'USAGE' ? 2 : 1;
  }
}
if (wasInterrupted()) endAborted();
