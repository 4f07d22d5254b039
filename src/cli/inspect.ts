/**
 * `switchyard inspect`
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LanguageModel, sizeOfModel, type LanguageModelOptions } from '../models/index.js';
import { loadRecipe, recipeOfRun, type Recipe } from '../recipes/index.js';
import { readModelConfig } from '../train/index.js';
import { collect } from './options.js';
import { formatCount } from './progress.js';

/** Shows what a recipe or model is made of, without allocating it. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('show the parameters, compute and memory of a recipe, run or model; allocates nothing')
    .argument('<what>', 'a recipe, run folder or model folder')
    .option('-s, --set <path=value>', 'override a value of the recipe; can be given again', collect)
    .option('--parameters', 'list every parameter with its shape')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  switchyard inspect demo
  switchyard inspect shakespeare-switch --set model.sparse.numExperts=64 --parameters
  switchyard inspect runs/demo/switch --json`,
    )
    .action(async (what: string, flags: { set?: string[]; parameters?: boolean; json?: boolean }) => {
      const options = await findOptions(what, flags.set ?? []);
      const model = new LanguageModel(options);
      const size = sizeOfModel(model);
      const parameters = [...model.parameters()].map(([name, { shape, size: count }]) => ({
        name,
        shape,
        count,
      }));
      if (flags.json) {
        process.stdout.write(
          `${JSON.stringify({ ...size, ...(flags.parameters ? { list: parameters } : {}) })}\n`,
        );
        return;
      }
      const { sparse } = options;
      const lines = [
        `layers             ${options.numLayers} (${size.sparseLayers.length} sparse${sparse ? `: ${size.sparseLayers.join(', ')}` : ''})`,
        ...(sparse?.kind === 'experts'
          ? [
              `experts            ${sparse.numExperts} a layer, top ${sparse.topK}, router ${sparse.router.kind}, dispatch ${sparse.dispatch.kind}`,
            ]
          : []),
        `vocabulary         ${options.vocabSize}`,
        `parameters         ${formatCount(size.parameters)} (${size.parameters})`,
        `active parameters  ${formatCount(size.activeParameters)} (${size.activeParameters})`,
        `FLOPs per token    ${formatCount(size.forwardFlopsPerToken)} forward, ${formatCount(size.trainingFlopsPerToken)} with backward`,
        `memory             ${formatCount(size.weightBytes)}B weights, ${formatCount(size.trainingBytes)}B with gradients and AdamW`,
      ];
      if (flags.parameters) {
        const width = Math.max(...parameters.map(({ name }) => name.length));
        lines.push(
          '',
          ...parameters.map(
            ({ name, shape, count }) => `${name.padEnd(width)}  [${shape.join(', ')}]  ${count}`,
          ),
        );
      }
      process.stdout.write(`${lines.join('\n')}\n`);
    });
}

async function findOptions(what: string, overrides: readonly string[]): Promise<LanguageModelOptions> {
  const folder = [join(what, 'model'), what].find((path) => existsSync(join(path, 'config.json')));
  const isRun = existsSync(join(what, 'recipe.json'));
  if (folder === undefined && !isRun) return withVocabulary(loadRecipe(what, overrides));
  if (overrides.length > 0) throw new Error(`--set changes recipes; ${what} is a ${isRun ? 'run' : 'model'}`);
  return folder === undefined ? withVocabulary(await recipeOfRun(what)) : readModelConfig(folder);
}

/** The vocabulary that a recipe will have, as far as it can be known without reading the corpus. */
function withVocabulary({ model, data }: Recipe): LanguageModelOptions {
  const { tokenizer } = data;
  const known =
    model.vocabSize ??
    (tokenizer.kind === 'byte'
      ? tokenizer.specialTokens
        ? 259
        : 256
      : tokenizer.kind === 'bpe'
        ? tokenizer.vocabSize
        : undefined);
  if (known === undefined) {
    throw new Error(
      `the vocabulary of a '${tokenizer.kind}' tokenizer is known only with its text: say --set model.vocabSize=…`,
    );
  }
  return { ...model, vocabSize: known };
}
