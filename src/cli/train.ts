/**
 * `switchyard train`
 * @module
 */
import { Command } from 'commander';
import { join } from 'node:path';
import { loadRecipe, parseRecipe, recipeOfRun, trainRecipe, type Recipe } from '../recipes/index.js';
import { collect } from './options.js';
import { formatCount, Progress } from './progress.js';
import { trainingProgress } from './training-progress.js';

interface TrainFlags {
  readonly out?: string;
  readonly set?: string[];
  readonly resume?: boolean;
  readonly from?: string;
  readonly freeze?: string[];
  readonly cache: string;
  readonly device?: string;
  readonly threads?: string;
  readonly json?: boolean;
}

/** Trains a recipe into a run folder. */
export function trainCommand(): Command {
  return new Command('train')
    .description('train a model from a recipe into a run folder')
    .argument(
      '[recipe]',
      'path of a recipe, or the name of one that comes with the package; with --resume: optional',
    )
    .option('-o, --out <folder>', 'run folder (default: runs/<name of the recipe>)')
    .option('-s, --set <path=value>', 'override a value of the recipe; can be given again', collect)
    .option('-r, --resume', 'continue the run in the folder')
    .option('--from <model>', 'start from the weights of a model or run folder')
    .option(
      '--freeze <pattern>',
      'keep parameters as they are, such as "embedding.*"; can be given again',
      collect,
    )
    .option('--device <device>', 'cpu, webgpu or cuda')
    .option('--threads <count>', 'threads inside one operator')
    .option('--cache <folder>', 'where tokenizers and tokenised text are kept', '.cache')
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      `
Examples:
  switchyard train demo
  switchyard train shakespeare-switch --set seed=2 --out runs/second
  switchyard train --resume --out runs/second
  switchyard train my.json --from runs/second --freeze "embedding.*" --freeze "blocks.0.*"`,
    )
    .action(async (recipeName: string | undefined, flags: TrainFlags) => {
      const recipe = await findRecipe(recipeName, flags);
      const folder = flags.out ?? join('runs', recipe.name);
      const progress = new Progress(process.stderr);
      const began = performance.now();
      const result = await trainRecipe(recipe, {
        folder,
        resume: flags.resume ?? false,
        ...(flags.from === undefined ? {} : { from: flags.from }),
        cacheFolder: flags.cache,
        listener: trainingProgress(progress, recipe.train.steps),
        onInterrupt: () => progress.line('finishing the step and saving; a second signal ends at once'),
      });
      progress.clear();
      const seconds = (performance.now() - began) / 1000;
      if (flags.json) {
        const { outcome, step, modelStep, evaluation, parameters } = result;
        process.stdout.write(
          `${JSON.stringify({ run: folder, outcome, step, modelStep: modelStep ?? null, parameters, seconds, validation: evaluation ?? null })}\n`,
        );
        return;
      }
      const size = `${formatCount(result.parameters)} parameters`;
      if (result.outcome === 'interrupted') {
        process.stdout.write(
          `stopped at step ${result.step} (${size}); continue with: switchyard train --resume --out ${folder}\n`,
        );
      } else {
        const reason = result.outcome === 'stoppedEarly' ? 'stopped early' : 'finished';
        process.stdout.write(
          `${reason} at step ${result.step} (${size}); the model is in ${join(folder, 'model')}\n`,
        );
      }
    });
}

async function findRecipe(name: string | undefined, flags: TrainFlags): Promise<Recipe> {
  const overrides = [
    ...(flags.set ?? []),
    ...(flags.device === undefined ? [] : [`train.device=${flags.device}`]),
    ...(flags.threads === undefined ? [] : [`train.threads=${flags.threads}`]),
    ...(flags.freeze === undefined ? [] : [`train.freeze=${JSON.stringify(flags.freeze)}`]),
  ];
  if (name !== undefined) return loadRecipe(name, overrides);
  if (!flags.resume || flags.out === undefined) {
    throw new Error('give a recipe, or --resume with --out to continue a run');
  }
  if (overrides.length > 0) {
    throw new Error('a resumed run keeps its recipe: leave out --set, --freeze, --device and --threads');
  }
  const { environment: _, ...recipe } = await recipeOfRun(flags.out);
  return parseRecipe(recipe, flags.out);
}
