/**
 * `switchyard eval`
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  openPairsForEvaluation,
  openTextForEvaluation,
  shapeOf,
  type AnyBatch,
  type BatchSequence,
  type DataConfig,
} from '../data/index.js';
import { exceeds, loadStatistics, type ClassificationScores, type Estimate } from '../metrics/index.js';
import { Classifier, EncoderDecoder, LanguageModel } from '../models/index.js';
import { loadRecipe, openRecipeData, recipeOfRun, type Recipe } from '../recipes/index.js';
import {
  evaluationOrder,
  Evaluator,
  loadTextModel,
  runtimeOptions,
  type EvaluationReport,
  type LoadedTextModel,
  type ExpertForm,
} from '../train/index.js';
import { devices } from '../runtime/index.js';
import { changeModel, collect, expertsOption, numberIn } from './options.js';

interface EvalFlags {
  readonly data?: string;
  readonly recipe?: string;
  readonly batchSize: number;
  readonly maxBatches?: number;
  readonly contextLength?: number;
  readonly device: (typeof devices)[number];
  readonly cache: string;
  readonly set?: string[];
  readonly experts?: ExpertForm;
  readonly json?: boolean;
}

/** Measures a model on a text or on examples. */
export function evalCommand(): Command {
  return new Command('eval')
    .description('measure a model: loss, perplexity, accuracy, and how its experts are used')
    .argument('<model>', 'a run folder or model folder')
    .option(
      '-d, --data <file>',
      "a UTF-8 text, or of a task a file of examples (default: the validation set of the run's recipe)",
    )
    .option(
      '--recipe <run>',
      'a run, or the name or path of a recipe, whose data is read (default: the run itself): for models that were moved, compressed or imported',
    )
    .option('-b, --batch-size <count>', 'sequences at once', numberIn(1, 65536, true), 16)
    .option('--max-batches <count>', 'stop after this many batches', numberIn(1, Infinity, true))
    .option(
      '--context-length <tokens>',
      'of a language model on --data: tokens that are read at once, for models that take more than memory has room for (default: all that it takes)',
      numberIn(1, Infinity, true),
    )
    .option('--device <device>', devices.join(', '), 'cpu')
    .option('--cache <folder>', 'where tokenised text is kept', '.cache')
    .option(
      '-s, --set <path=value>',
      'route otherwise than in training, such as model.sparse.router.stats=prefix; can be given again',
      collect,
    )
    .addOption(expertsOption())
    .option(
      '--json',
      'print one JSON object: loss, perplexity, bitsPerByte, tokens, bytes, loads, dropped; exactMatch, classification',
    )
    .addHelpText(
      'after',
      `
Examples:
  switchyard eval runs/demo/switch
  switchyard eval runs/demo/switch --data book.txt --json
  switchyard eval OLMoE-1B-7B --data book.txt --context-length 1024 --batch-size 1`,
    )
    .action(async (path: string, flags: EvalFlags) => {
      const loaded = await loadTextModel(path, changeModel(flags.set), flags);
      for (const line of loaded.warnings) process.stderr.write(`warning: ${line}\n`);
      const { sequence, name, close } = await openSequence(path, loaded, flags);
      try {
        const runtime = runtimeOptions({ device: flags.device, threads: null });
        const evaluator = await Evaluator.create(loaded.model, loaded.weights, shapeOf(sequence), runtime);
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
          ...(report.classification
            ? describeClasses(report.classification, report.loss)
            : describeText(report)),
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

function describeText({
  loss,
  perplexity,
  bitsPerByte,
  tokens,
  bytes,
  exactMatch,
}: EvaluationReport): string[] {
  return [
    `loss          ${loss.toFixed(4)} nats/token`,
    `perplexity    ${perplexity.toFixed(3)}`,
    `bits per byte ${bitsPerByte.toFixed(4)}`,
    `tokens        ${tokens} (${bytes} bytes)`,
    ...(exactMatch === undefined ? [] : [`exact targets ${(100 * exactMatch).toFixed(2)} %`]),
  ];
}

function describeClasses(scores: ClassificationScores, loss: number): string[] {
  const { accuracy, f1, matthews, majority, gain, examples } = scores;
  const told = ({ value, standardError }: Estimate): string =>
    `${value.toFixed(4)} ± ${standardError.toFixed(4)}`;
  const verdict = exceeds(gain, 0) ? 'above' : 'not above';
  return [
    `loss          ${loss.toFixed(4)} nats/example`,
    `accuracy      ${told(accuracy)}`,
    `F1            ${told(f1)}`,
    `Matthews      ${told(matthews)}`,
    `majority      ${majority.accuracy.toFixed(4)} (class ${majority.class}); the model is ${verdict} it by more than two standard errors (${told(gain)})`,
    `examples      ${examples}`,
  ];
}

/** The batches that a model is measured on: of a text, or of the validation set of a recipe. */
export async function openSequence(
  path: string,
  { model, tokenizer }: LoadedTextModel,
  {
    data: file,
    recipe: from,
    batchSize,
    contextLength: window,
    cache: cacheFolder,
  }: Pick<EvalFlags, 'data' | 'recipe' | 'batchSize' | 'contextLength' | 'cache'>,
): Promise<{ sequence: BatchSequence<AnyBatch>; name: string; close: () => void }> {
  const recipe = await findRecipe(from ?? path, from !== undefined);
  if (window !== undefined && !(file !== undefined && model instanceof LanguageModel))
    throw new Error(
      '--context-length is for language models on a text: give --data FILE as well, or leave it out',
    );
  if (file !== undefined && model instanceof LanguageModel) {
    const longest = model.options.contextLength;
    if (window !== undefined && window > longest)
      throw new Error(`--context-length ${window} is more than the model's contextLength ${longest}`);
    const shape = { batchSize, contextLength: window ?? longest };
    const order = evaluationOrder(model);
    return { ...(await openTextForEvaluation(file, tokenizer, shape, cacheFolder, order)), name: file };
  }
  if (file !== undefined && model instanceof EncoderDecoder && recipe?.data.kind !== 'task') {
    const { contextLength, targetLength = contextLength, decoderStartTokenId } = model.options;
    const start = decoderStartTokenId === undefined ? {} : { start: decoderStartTokenId };
    const shape = { batchSize, contextLength, targetLength, ...start };
    const spans = recipe?.data.spanCorruption;
    return { ...(await openPairsForEvaluation(file, tokenizer, shape, cacheFolder, spans)), name: file };
  }
  if (recipe === undefined) {
    const how =
      model instanceof Classifier
        ? 'name the run or recipe that says how examples are read with --recipe RUN'
        : 'say what to measure it on with --data FILE';
    throw new Error(`${path} is a model folder without a recipe: ${how}`);
  }
  const { kind } = model.options;
  if (recipe.model.kind !== kind) {
    throw new Error(`${path} holds a model of kind ${kind}, but the recipe is of kind ${recipe.model.kind}`);
  }
  // The model's own sizes and tokenizer, whatever the recipe is of.
  const owned = { kind: 'file', path: join(modelFolderOf(path), 'tokenizer.json') } as const;
  const data = withValidation(recipe, file);
  const opened = await openRecipeData(
    { ...recipe, model: model.options, data: { ...data, tokenizer: owned } },
    { cacheFolder, batchSize },
  );
  const name = file ?? `validation set of ${from ?? path}`;
  return { sequence: opened.validation(), name, close: () => opened.close() };
}

/** Where the files of a model lie: in its folder, or below the run's. */
function modelFolderOf(path: string): string {
  return existsSync(join(path, 'recipe.json')) ? join(path, 'model') : path;
}

async function findRecipe(name: string, isNamed: boolean): Promise<Recipe | undefined> {
  if (existsSync(join(name, 'recipe.json'))) return recipeOfRun(name);
  return isNamed ? loadRecipe(name) : undefined;
}

/** The data of a task with other examples to measure on. */
function withValidation({ data }: Recipe, validation: string | undefined): DataConfig {
  return data.kind === 'task' && validation !== undefined ? { ...data, validation } : data;
}
