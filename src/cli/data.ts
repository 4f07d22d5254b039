/**
 * `switchyard data`
 * @module
 */
import { Command } from 'commander';
import { once } from 'node:events';
import { CldrCorpus, cldrLanguages, datasets, fetchDatasetByName } from '../data/index.js';
import { numberIn } from './options.js';
import { formatCount, formatDuration, Progress } from './progress.js';

/** Lists, shows and downloads corpora. */
export function dataCommand(): Command {
  const command = new Command('data')
    .description('list, show and download corpora')
    .addHelpText('after', '\nExample:\n  switchyard data list');
  command
    .command('list')
    .description('corpora that recipes can name')
    .option('--json', 'print one JSON object: languages, datasets')
    .addHelpText('after', '\nExample:\n  switchyard data list --json')
    .action(({ json }: { json?: boolean }) => {
      const known = Object.entries(datasets).map(([name, { bytes, url }]) => ({ name, bytes, url }));
      if (json) {
        process.stdout.write(`${JSON.stringify({ languages: cldrLanguages, datasets: known })}\n`);
        return;
      }
      const languages = cldrLanguages.map(({ code }) => code).join(' ');
      process.stdout.write(`cldr  built in, ${cldrLanguages.length} languages: ${languages}\n`);
      for (const { name, bytes, url } of known) {
        process.stdout.write(`${name}  ${formatCount(bytes)}B, switchyard data fetch ${name} (${url})\n`);
      }
    });
  command
    .command('show')
    .description('print lines of the built-in corpus')
    .option('-l, --languages <codes>', 'comma-separated BCP 47 codes')
    .option('-n, --lines <count>', 'how many', numberIn(1, 1_000_000, true), 10)
    .option('--seed <number>', 'seed of the corpus', numberIn(0, Number.MAX_SAFE_INTEGER, true), 1)
    .addHelpText('after', '\nExample:\n  switchyard data show --languages en,ja,ar --lines 6')
    .action(async ({ languages, lines, seed }: { languages?: string; lines: number; seed: number }) => {
      const corpus = new CldrCorpus({
        seed,
        ...(languages === undefined ? {} : { languages: languages.split(',') }),
      });
      for (let index = 0; index < lines; index++) {
        const { text, language } = corpus.line('train', index);
        const isRead = process.stdout.write(`${corpus.languages[language].code}\t${text}\n`);
        if (!isRead) await once(process.stdout, 'drain');
      }
    });
  command
    .command('fetch')
    .description('download a public data set; an interrupted download is continued')
    .argument('<name>', Object.keys(datasets).join(', '))
    .option('-o, --out <folder>', 'where data sets are kept', 'data')
    .addHelpText('after', '\nExample:\n  switchyard data fetch tinyshakespeare')
    .action(async (name: string, { out }: { out: string }) => {
      const progress = new Progress();
      const began = performance.now();
      const path = await fetchDatasetByName(name, {
        folder: out,
        onProgress: ({ received, total }) =>
          progress.update(() => {
            const seconds = (performance.now() - began) / 1000;
            const rate = received / Math.max(seconds, 0.001);
            return `${name}  ${formatCount(received)}B of ${formatCount(total)}B  ${formatCount(rate)}B/s  ${formatDuration((total - received) / rate)} left`;
          }),
      });
      progress.clear();
      process.stdout.write(`${path}\n`);
    });
  return command;
}
