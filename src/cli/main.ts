#!/usr/bin/env node
/**
 * The `switchyard` command.
 * @module
 */
import { Command, CommanderError } from 'commander';
import { versions } from '../recipes/index.js';
import { dataCommand } from './data.js';
import { demoCommand } from './demo.js';
import { evalCommand } from './eval.js';
import { generateCommand } from './generate.js';
import { inspectCommand } from './inspect.js';
import { isExpected } from './errors.js';
import { trainCommand } from './train.js';

const program = new Command('switchyard')
  .description('Build, train, understand, compress and serve sparse Mixture-of-Experts Transformers.')
  .version(versions()['switchyard']!)
  .showHelpAfterError('(add --help for options and examples)')
  .exitOverride();
for (const command of [
  demoCommand(),
  trainCommand(),
  evalCommand(),
  generateCommand(),
  inspectCommand(),
  dataCommand(),
]) {
  program.addCommand(command.exitOverride().showHelpAfterError('(add --help for options and examples)'));
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode;
  } else {
    process.exitCode = 1;
    const message = error instanceof Error ? error.message : String(error);
    const stack = error instanceof Error && !isExpected(error) ? error.stack : undefined;
    process.stderr.write(`switchyard: ${stack ?? message}\n`);
  }
}
