/**
 * `switchyard report`
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { encodeJson, replaceFile } from '../checkpoints/index.js';
import { loadTokenizer, openData, openTextForEvaluation, type BatchSequence } from '../data/index.js';
import { memoryLengths } from '../models/index.js';
import { recipeOfRun, requireLanguageModel, type RecipeOf } from '../recipes/index.js';
import type { Report, RunReport } from '../report/index.js';
import { evaluationOrder } from '../train/index.js';
import { compressionReport } from './compression-report.js';
import { numberIn } from './options.js';
import { Progress } from './progress.js';

interface ReportFlags {
  readonly out?: string;
  readonly data?: string;
  readonly tokens: number;
  readonly seed: number;
  readonly cache: string;
  readonly json?: boolean;
}

/** Makes a page of figures about runs. */
export function reportCommand(): Command {
  return new Command('report')
    .description('make a page of figures about runs, and their numbers beside it')
    .argument('<runs...>', 'run folders, or compressed folders and their original; several are compared')
    .option('-o, --out <file>', 'the page (default: report.html in the first run)')
    .option('-d, --data <file>', "a UTF-8 text to route (default: the validation set of each run's recipe)")
    .option('--tokens <count>', 'tokens whose routing is analysed', numberIn(16, 1 << 20, true), 16_384)
    .option('--seed <seed>', 'of shuffled labels and corrupted words', numberIn(0, 2 ** 32 - 1, true), 1)
    .option('--cache <folder>', 'where tokenised text is kept', '.cache')
    .option('--json', 'print one JSON object: page, numbers, and for each run its name and last validation')
    .addHelpText(
      'after',
      `
Examples:
  switchyard report runs/demo/switch
  switchyard report runs/demo/switch runs/demo/dense --out compared.html
  switchyard report model small smaller --data other.txt --out compression.html
  switchyard report runs/mine --data other.txt --tokens 65536`,
    )
    .action(async (folders: string[], flags: ReportFlags) => {
      const areCompressed = folders.some((folder) => existsSync(join(folder, 'compression.json')));
      for (const folder of folders) {
        if (!areCompressed && !existsSync(join(folder, 'recipe.json')))
          throw new Error(`${folder} is no run folder: it has no recipe.json`);
      }
      const page = flags.out ?? join(folders[0], 'report.html');
      if (extname(page) !== '.html') throw new Error(`--out ${page}: the name of a page ends in .html`);
      const numbers = `${page.slice(0, -'.html'.length)}.json`;
      const progress = new Progress(process.stderr, flags.json);
      const names = uniqueNames(folders);
      if (areCompressed) {
        const text = { file: flags.data, tokens: flags.tokens, cache: flags.cache };
        const report = await compressionReport(folders, names, text);
        const { compressionPage } = await import('../report/index.js');
        await writePage(page, numbers, compressionPage(report, basename(numbers)), report);
        const brief = report.models.map(({ name, bytes, loss }) => ({ name, bytes, loss }));
        if (flags.json) process.stdout.write(`${JSON.stringify({ page, numbers, models: brief })}\n`);
        else process.stdout.write(`${page}\n${numbers}\n`);
        return;
      }
      const runs: RunReport[] = [];
      for (const [i, folder] of folders.entries()) {
        progress.line(`${names[i]}: routing ${flags.tokens} tokens`);
        runs.push(await runOf(folder, names[i], flags));
      }
      const data = flags.data ?? (runs.length === 1 ? 'its validation set' : 'their validation sets');
      const report: Report = { version: 1, data, runs };
      const { reportPage } = await import('../report/index.js');
      await writePage(page, numbers, reportPage(report, basename(numbers)), report);
      if (flags.json) {
        const brief = runs.map(({ name, history }) => ({
          name,
          validation: history.validation.at(-1) ?? null,
        }));
        process.stdout.write(`${JSON.stringify({ page, numbers, runs: brief })}\n`);
      } else process.stdout.write(`${page}\n${numbers}\n`);
    });
}

/** Writes a page and the numbers beside it. */
async function writePage(page: string, numbers: string, html: string, report: object): Promise<void> {
  await mkdir(dirname(page), { recursive: true });
  await replaceFile(numbers, (file) => file.writeFile(`${encodeJson(report)}\n`));
  await replaceFile(page, (file) => file.writeFile(html));
}

async function runOf(folder: string, name: string, flags: ReportFlags): Promise<RunReport> {
  // The drawing library is large, and no other command needs it.
  const { reportRun } = await import('../report/index.js');
  const recipe = requireLanguageModel(await recipeOfRun(folder));
  const { contextLength } = recipe.model;
  const shape = { batchSize: Math.min(16, recipe.train.batchSize), contextLength };
  const opened = await openValidation(folder, flags, shape, recipe);
  try {
    return await reportRun(folder, {
      name,
      description: recipe.description,
      validation: opened.validation,
      ...(opened.languages ? { languages: opened.languages } : {}),
      maxTokens: flags.tokens,
      seed: flags.seed,
      onWarning: (line) => process.stderr.write(`warning: ${line}\n`),
    });
  } finally {
    opened.close();
  }
}

async function openValidation(
  folder: string,
  { data: file, cache }: ReportFlags,
  shape: { readonly batchSize: number; readonly contextLength: number },
  { model, data: config, seed }: RecipeOf<'languageModel'>,
): Promise<{ validation: () => BatchSequence; languages?: readonly string[]; close: () => void }> {
  if (file !== undefined) {
    const tokenizer = loadTokenizer(join(folder, 'model', 'tokenizer.json'));
    const order = evaluationOrder({ memoryLengths: memoryLengths(model) });
    const { sequence, close } = await openTextForEvaluation(file, tokenizer, shape, cache, order);
    return { validation: () => sequence, close };
  }
  const data = await openData(config, { ...shape, cacheFolder: cache, seed });
  return {
    validation: () => data.validation(),
    ...(data.languages ? { languages: data.languages.map(({ code }) => code) } : {}),
    close: () => data.close(),
  };
}

/** The shortest ends of the paths that tell them apart. */
function uniqueNames(folders: readonly string[]): string[] {
  const parts = folders.map((folder) => resolve(folder).split(/[\\/]/));
  const names = (length: number): string[] => parts.map((part) => part.slice(-length).join('/'));
  const longest = Math.max(...parts.map(({ length }) => length));
  for (let length = 1; length < longest; length++) {
    if (new Set(names(length)).size === folders.length) return names(length);
  }
  throw new Error(`a run is given twice: ${folders.join(', ')}`);
}
