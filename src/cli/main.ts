#!/usr/bin/env node
/**
 * The `switchyard` command.
 * @module
 */
import { Command, CommanderError } from 'commander';
import { env } from 'onnxruntime-node';
import { versions } from '../recipes/index.js';
import { benchCommand } from './bench.js';
import { compareCommand } from './compare.js';
import { compressCommand } from './compress.js';
import { dataCommand } from './data.js';
import { demoCommand } from './demo.js';
import { diffCommand } from './diff.js';
import { evalCommand } from './eval.js';
import { generateCommand } from './generate.js';
import { exportCommand } from './export.js';
import { importCommand } from './import.js';
import { inspectCommand } from './inspect.js';
import { isExpected } from './errors.js';
import { predictorCommand } from './predictor.js';
import { reportCommand } from './report.js';
import { serveCommand } from './serve.js';
import { traceCommand } from './trace.js';
import { trainCommand } from './train.js';
import { upcycleCommand } from './upcycle.js';

// Whatever ONNX Runtime would print, it also throws, and the user gets it in one line.
env.logLevel = 'fatal';

// `switchyard … | head` is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const program = new Command('switchyard')
  .description('Build, train, understand, compress and serve sparse Mixture-of-Experts Transformers.')
  .version(versions()['switchyard'])
  .addHelpText('after', '\nExample:\n  switchyard demo')
  .showHelpAfterError('(add --help for options and examples)')
  .exitOverride();
for (const command of [
  demoCommand(),
  trainCommand(),
  upcycleCommand(),
  evalCommand(),
  generateCommand(),
  serveCommand(),
  inspectCommand(),
  traceCommand(),
  predictorCommand(),
  reportCommand(),
  compareCommand(),
  importCommand(),
  exportCommand(),
  compressCommand(),
  diffCommand(),
  dataCommand(),
  benchCommand(),
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
