/**
 * `switchyard inspect`
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readModelConfig } from '../checkpoints/index.js';
import { createModel, sizeOfModel, type ModelOptions, type ModelSize } from '../models/index.js';
import { loadRecipe, recipeOfRun, vocabularySize, type Recipe } from '../recipes/index.js';
import { inspectRouting } from './inspect-routing.js';
import { collect } from './options.js';
import { formatCount } from './progress.js';

interface InspectFlags {
  readonly set?: string[];
  readonly parameters?: boolean;
  readonly routing?: string;
  readonly json?: boolean;
}

/** Shows what a recipe or model is made of, without allocating it. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('show the parameters, compute and memory of a recipe, run or model; allocates nothing')
    .argument('<what>', 'a recipe, run folder or model folder')
    .option('-s, --set <path=value>', 'override a value of the recipe; can be given again', collect)
    .option('--parameters', 'list every parameter with its shape')
    .option('--routing <text>', 'show the path of each token of a text through the experts of a run or model')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  switchyard inspect demo
  switchyard inspect paper/switch-base-128
  switchyard inspect shakespeare-switch --set model.sparse.numExperts=64 --parameters
  switchyard inspect runs/demo/switch --json
  switchyard inspect runs/demo/switch --routing "Good morning"`,
    )
    .action(async (what: string, flags: InspectFlags) => {
      if (flags.routing !== undefined) return inspectRouting(what, flags.routing, flags);
      const options = await findOptions(what, flags.set ?? []);
      const model = createModel(options);
      const size = sizeOfModel(model);
      const list = [...model.parameters()].map(([name, { shape, size: count }]) => ({ name, shape, count }));
      const shown = flags.parameters ? list : [];
      if (flags.json) {
        const { kind, vocabSize, sparse } = options;
        const about = { kind, vocabSize, ...size, sparse, ...(flags.parameters ? { list } : {}) };
        process.stdout.write(`${JSON.stringify(about)}\n`);
        return;
      }
      const width = Math.max(...shown.map(({ name }) => name.length));
      const lines = [
        ...describeModel(options, size),
        ...(flags.parameters ? [''] : []),
        ...shown.map(({ name, shape, count }) => `${name.padEnd(width)}  [${shape.join(', ')}]  ${count}`),
      ];
      process.stdout.write(`${lines.join('\n')}\n`);
    });
}

function describeModel(options: ModelOptions, size: ModelSize): string[] {
  const { sparse, vocabSize } = options;
  const layers =
    options.kind === 'languageModel'
      ? String(options.numLayers)
      : `${options.numEncoderLayers} + ${options.numDecoderLayers}`;
  const indices = sparse ? `: ${abridged(size.sparseLayers).join(', ')}` : '';
  const { forwardFlopsPerToken, trainingFlopsPerToken, weightBytes, trainingBytes } = size;
  const what = options.kind === 'encoderDecoder' ? ', of one source and one target token' : '';
  return [
    `layers             ${layers} (${size.sparseLayers.length} sparse${indices})`,
    ...(sparse ? [describeSparse(sparse)] : []),
    `vocabulary         ${vocabSize}`,
    `parameters         ${formatCount(size.parameters)} (${size.parameters})`,
    `active parameters  ${formatCount(size.activeParameters)} (${size.activeParameters})`,
    `FLOPs per token    ${formatCount(forwardFlopsPerToken)} forward, ${formatCount(trainingFlopsPerToken)} with backward${what}`,
    `memory             ${formatBytes(weightBytes)} weights, ${formatBytes(trainingBytes)} with gradients and AdamW, activations besides`,
  ];
}

/** The first few and the last. */
function abridged(indices: readonly number[]): readonly (number | string)[] {
  return indices.length <= 12 ? indices : [...indices.slice(0, 4), '…', indices.at(-1)!];
}

/** `58.6GB` */
function formatBytes(bytes: number): string {
  return `${formatCount(bytes).replace('B', 'G')}B`;
}

function describeSparse(sparse: NonNullable<ModelOptions['sparse']>): string {
  if (sparse.kind === 'experts') {
    const { numExperts, topK, router, dispatch } = sparse;
    return `experts            ${numExperts} a layer, top ${topK}, router ${router.kind}, dispatch ${dispatch.kind}`;
  }
  const { kind, every: _, ...settings } = sparse;
  const told = Object.entries<unknown>(settings)
    .filter(([, value]) => value !== null && (typeof value !== 'object' || Array.isArray(value)))
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join('-') : String(value)}`);
  return `sparse layers      ${[kind, ...told].join(', ')}`;
}

async function findOptions(what: string, overrides: readonly string[]): Promise<ModelOptions> {
  const folder = [join(what, 'model'), what].find((path) => existsSync(join(path, 'config.json')));
  const isRun = existsSync(join(what, 'recipe.json'));
  if (folder === undefined && !isRun) return withVocabulary(loadRecipe(what, overrides));
  if (overrides.length > 0) throw new Error(`--set changes recipes; ${what} is a ${isRun ? 'run' : 'model'}`);
  if (folder === undefined) return withVocabulary(await recipeOfRun(what));
  return (await readModelConfig(folder)).options;
}

function withVocabulary(recipe: Recipe): ModelOptions {
  return { ...recipe.model, vocabSize: vocabularySize(recipe) };
}
