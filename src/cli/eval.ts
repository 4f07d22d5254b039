/**
 * `switchyard eval`
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openTextForEvaluation, openData, type BatchSequence } from '../data/index.js';
import { loadStatistics } from '../metrics/index.js';
import { recipeOfRun } from '../recipes/index.js';
import {
  evaluationOrder,
  Evaluator,
  loadLanguageModel,
  runtimeOptions,
  type LoadedLanguageModel,
} from '../train/index.js';
import { devices } from '../runtime/index.js';
import { changeModel, collect, numberIn } from './options.js';

interface EvalFlags {
  readonly data?: string;
  readonly batchSize: number;
  readonly maxBatches?: number;
  readonly device: (typeof devices)[number];
  readonly cache: string;
  readonly set?: string[];
  readonly json?: boolean;
}

/** Measures a model on a text. */
export function evalCommand(): Command {
  return new Command('eval')
    .description('measure a model: loss, perplexity, bits per byte, and how its experts are used')
    .argument('<model>', 'a run folder or model folder')
    .option('-d, --data <file>', "a UTF-8 text (default: the validation set of the run's recipe)")
    .option('-b, --batch-size <count>', 'sequences at once', numberIn(1, 65536, true), 16)
    .option('--max-batches <count>', 'stop after this many batches', numberIn(1, Infinity, true))
    .option('--device <device>', devices.join(', '), 'cpu')
    .option('--cache <folder>', 'where tokenised text is kept', '.cache')
    .option(
      '-s, --set <path=value>',
      'route otherwise than in training, such as model.sparse.router.stats=prefix; can be given again',
      collect,
    )
    .option('--json', 'print one JSON object: loss, perplexity, bitsPerByte, tokens, bytes, loads, dropped')
    .addHelpText(
      'after',
      `
Examples:
  switchyard eval runs/demo/switch
  switchyard eval runs/demo/switch --data book.txt --json`,
    )
    .action(async (path: string, flags: EvalFlags) => {
      const loaded = await loadLanguageModel(path, changeModel(flags.set));
      for (const line of loaded.warnings) process.stderr.write(`warning: ${line}\n`);
      const shape = { batchSize: flags.batchSize, contextLength: loaded.model.options.contextLength };
      const { sequence, name, close } = await openSequence(path, loaded, flags);
      try {
        const runtime = runtimeOptions({ device: flags.device, threads: null });
        const evaluator = await Evaluator.create(loaded.model, loaded.weights, shape, runtime);
        const report = await evaluator
          .evaluate(sequence, loaded.tokenizer, flags.maxBatches ?? null)
          .finally(() => evaluator.release());
        if (flags.json) {
          process.stdout.write(`${JSON.stringify({ model: loaded.source, data: name, ...report })}\n`);
          return;
        }
        const lines = [
          `model         ${loaded.source}`,
          `data          ${name}`,
          `loss          ${report.loss.toFixed(4)} nats/token`,
          `perplexity    ${report.perplexity.toFixed(3)}`,
          `bits per byte ${report.bitsPerByte.toFixed(4)}`,
          `tokens        ${report.tokens} (${report.bytes} bytes)`,
          ...report.loads.map((load, i) => {
            const layer = evaluator.routedLayers[i];
            const { balance, maxOverMean, dead } = loadStatistics(load, layer.firstExpert);
            return `layer ${layer.name.padEnd(7)} balance ${balance.toFixed(3)}  busiest expert ${maxOverMean.toFixed(2)} × mean  dead ${dead.length}`;
          }),
        ];
        process.stdout.write(`${lines.join('\n')}\n`);
      } finally {
        close();
      }
    });
}

async function openSequence(
  path: string,
  { model, tokenizer }: LoadedLanguageModel,
  flags: EvalFlags,
): Promise<{ sequence: BatchSequence; name: string; close: () => void }> {
  const shape = { batchSize: flags.batchSize, contextLength: model.options.contextLength };
  if (flags.data !== undefined) {
    const order = evaluationOrder(model);
    const opened = await openTextForEvaluation(flags.data, tokenizer, shape, flags.cache, order);
    return { ...opened, name: flags.data };
  }
  if (!existsSync(join(path, 'recipe.json'))) {
    throw new Error(`${path} is a model folder without a recipe: say what to measure it on with --data FILE`);
  }
  const recipe = await recipeOfRun(path);
  const data = await openData(recipe.data, { ...shape, cacheFolder: flags.cache, seed: recipe.seed });
  return { sequence: data.validation(), name: `validation set of ${path}`, close: () => data.close() };
}
