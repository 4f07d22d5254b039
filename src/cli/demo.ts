/**
 * `switchyard demo`: trains a Switch Transformer and its dense twin on the built-in corpus and shows what the experts
 * learned.
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SpecializationTable } from '../analyze/index.js';
import { CldrCorpus, openData } from '../data/index.js';
import { Generator } from '../decode/index.js';
import { LanguageModel, sizeOfModel } from '../models/index.js';
import {
  loadRecipe,
  parseRecipe,
  recipePath,
  requireLanguageModel,
  trainRecipe,
  type RecipeOf,
} from '../recipes/index.js';
import {
  Evaluator,
  loadLanguageModel,
  type EvaluationReport,
  type LoadedLanguageModel,
} from '../train/index.js';
import { collect } from './options.js';
import { formatCount, formatDuration, Progress } from './progress.js';
import { drawSpecialization } from './specialization-table.js';
import { trainingProgress } from './training-progress.js';

type LanguageModelRecipe = RecipeOf<'languageModel'>;

interface DemoFlags {
  readonly out: string;
  readonly set?: string[];
  readonly fresh?: boolean;
  readonly json?: boolean;
}

/** Languages in which the trained model speaks at the end. */
const SAMPLED = ['en', 'fr', 'ru', 'ar', 'hi', 'ja'];

interface Measured {
  readonly report: EvaluationReport;
  readonly tables: readonly SpecializationTable[];
}

/** The main job of the package, in about two minutes. */
export function demoCommand(): Command {
  return new Command('demo')
    .description(
      'train a Switch Transformer and a dense twin on the built-in corpus, and show who handles what',
    )
    .option('-o, --out <folder>', 'folder of the two runs', join('runs', 'demo'))
    .option('-s, --set <path=value>', 'override a value of the recipe; can be given again', collect)
    .option('--fresh', 'delete earlier runs of the demo in the folder')
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      `
An interrupted demo goes on where it stopped.

Examples:
  switchyard demo
  switchyard demo --fresh --set seed=2 --set train.steps=300`,
    )
    .action(async (flags: DemoFlags) => {
      const progress = new Progress();
      const began = performance.now();
      if (flags.fresh)
        for (const kind of ['switch', 'dense'])
          await rm(join(flags.out, kind), { recursive: true, force: true });
      const recipe = requireLanguageModel(loadRecipe(recipePath('demo'), flags.set));
      const dense = requireLanguageModel(
        parseRecipe(
          { ...recipe, name: `${recipe.name}-dense`, model: { ...recipe.model, sparse: null } },
          'demo',
        ),
      );
      progress.line(introduction(recipe, dense));
      const runs = { switch: recipe, dense };
      for (const [kind, one] of Object.entries(runs)) {
        const result = await trainRecipe(one, {
          folder: join(flags.out, kind),
          resume: existsSync(join(flags.out, kind, 'recipe.json')),
          listener: trainingProgress(progress, one.train.steps, kind.padEnd(6)),
          onInterrupt: () => progress.line('finishing the step and saving; run the demo again to go on'),
        });
        progress.clear();
        if (result.outcome === 'interrupted') return;
      }
      const loaded = await loadLanguageModel(join(flags.out, 'switch'));
      const measured = await measure(recipe, loaded);
      const baseline = await measure(dense, await loadLanguageModel(join(flags.out, 'dense')));
      await saveTables(join(flags.out, 'switch', 'routing'), measured.tables);
      const samples = await speak(recipe, loaded);
      const seconds = (performance.now() - began) / 1000;
      if (flags.json) {
        const specialization = measured.tables.map(tableAsJson);
        process.stdout.write(
          `${JSON.stringify({ switch: measured.report, dense: baseline.report, samples, specialization, seconds })}\n`,
        );
      } else {
        process.stdout.write(`${summary(flags.out, measured, baseline, samples, seconds)}\n`);
      }
    });
}

function introduction(recipe: LanguageModelRecipe, dense: LanguageModelRecipe): string {
  const size = (one: LanguageModelRecipe): ReturnType<typeof sizeOfModel> =>
    sizeOfModel(new LanguageModel({ ...one.model, vocabSize: one.model.vocabSize ?? 256 }));
  const [sparse, plain] = [size(recipe), size(dense)];
  return [
    `switch  ${formatCount(sparse.parameters)} parameters, ${formatCount(sparse.activeParameters)} active a token, sparse in layers ${sparse.sparseLayers.join(', ')}`,
    `dense   ${formatCount(plain.parameters)} parameters, all active`,
  ].join('\n');
}

async function measure(
  recipe: LanguageModelRecipe,
  { model, weights, tokenizer }: LoadedLanguageModel,
): Promise<Measured> {
  const shape = { batchSize: recipe.train.batchSize, contextLength: recipe.model.contextLength };
  const data = await openData(recipe.data, { ...shape, cacheFolder: '.cache', seed: recipe.seed });
  const evaluator = await Evaluator.create(model, weights, shape, {});
  const names = (data.languages ?? []).map(({ code }) => code);
  const tables = evaluator.routedLayers.map(
    ({ name, numExperts }) => new SpecializationTable(name, names, numExperts),
  );
  const report = await evaluator.evaluate(data.validation(), tokenizer, null, ({ batch, experts }) => {
    if (batch.languages) tables.forEach((table, i) => table.add(batch.languages!, experts[i]));
  });
  await evaluator.release();
  data.close();
  return { report, tables };
}

async function speak(
  recipe: LanguageModelRecipe,
  { model, weights, tokenizer }: LoadedLanguageModel,
): Promise<{ language: string; prompt: string; text: string }[]> {
  const known = recipe.data.kind === 'cldr' ? recipe.data.languages : [];
  const languages = SAMPLED.filter((code) => known.includes(code));
  const corpus = new CldrCorpus({ seed: recipe.seed, languages });
  const generator = await Generator.create(model, weights);
  const samples: { language: string; prompt: string; text: string }[] = [];
  for (const [position, language] of languages.entries()) {
    const line = Array.from(corpus.parallel('validation', 3).texts[position]);
    const prompt = line.slice(0, Math.max(4, Math.floor(line.length / 3))).join('');
    const options = {
      maxTokens: 96,
      temperature: 0.5,
      topK: 0,
      topP: 0.95,
      seed: recipe.seed,
      vocabSize: tokenizer.vocabSize,
    };
    const ids: number[] = [];
    // A newline opens the line, as every line of the training text follows one.
    for await (const id of generator.generate(tokenizer.encode(`\n${prompt}`), options)) ids.push(id);
    samples.push({
      language,
      prompt,
      text: tokenizer
        .decode(ids)
        .split('\n')[0]
        .replace(/\uFFFD+$/, ''),
    });
  }
  await generator.release();
  return samples;
}

function tableAsJson(table: SpecializationTable): object {
  const { layer, classes: languages, counts } = table;
  return { layer, languages, counts, mutualInformation: table.mutualInformation() };
}

async function saveTables(folder: string, tables: readonly SpecializationTable[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'expert-language.json'), `${JSON.stringify(tables.map(tableAsJson))}\n`);
}

function summary(
  folder: string,
  { report, tables }: Measured,
  { report: dense }: Measured,
  samples: readonly { language: string; prompt: string; text: string }[],
  seconds: number,
): string {
  const gain = (100 * (dense.loss - report.loss)) / dense.loss;
  const verdict = gain > 0 ? `${gain.toFixed(1)} % lower than` : `${(-gain).toFixed(1)} % higher than`;
  const clearest = [...tables].sort((a, b) => b.mutualInformation() - a.mutualInformation())[0];
  return [
    '',
    `validation      bits per byte   loss`,
    `switch          ${report.bitsPerByte.toFixed(4)}          ${report.loss.toFixed(4)}`,
    `dense           ${dense.bitsPerByte.toFixed(4)}          ${dense.loss.toFixed(4)}`,
    `The Switch model's loss is ${verdict} that of the dense model with as many active parameters.`,
    '',
    'What it says (the prompt is before the bar):',
    ...samples.map(({ language, prompt, text }) => `  ${language}  ${prompt}│${text}`),
    ...(clearest ? ['', drawSpecialization(clearest)] : []),
    '',
    `${formatDuration(seconds)} in all. Next: switchyard eval ${join(folder, 'switch')}   switchyard generate ${join(folder, 'switch')} --prompt "…"`,
  ].join('\n');
}
