/**
 * `switchyard trace`: the paths of the tokens of many texts through the experts.
 * @module
 */
import { Command } from 'commander';
import { createWriteStream } from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { temporaryName } from '../checkpoints/index.js';
import { loadTextModel } from '../train/index.js';
import { collect, numberIn } from './options.js';
import { formatCount, Progress } from './progress.js';
import { TextRouter } from './text-router.js';

interface TraceFlags {
  readonly text?: string[];
  readonly data?: string;
  readonly out?: string;
  readonly maxTexts?: number;
}

/** Writes one line of JSON a text, of the form that `inspect --routing --json` prints. */
export function traceCommand(): Command {
  return new Command('trace')
    .description('write the path of each token of texts through the experts of a run or model')
    .argument('<model>', 'a run folder or model folder')
    .option('--text <text>', 'a text; can be given again', collect)
    .option('-d, --data <file>', 'a UTF-8 file with one text a line')
    .option('-o, --out <file>', 'where to write (default: standard output)')
    .option('--max-texts <count>', 'stop after this many texts', numberIn(1, Infinity, true))
    .addHelpText(
      'after',
      `
One JSON object a text and line: its tokens, their ids, the layers, and [tokens, layers, topK] experts and gates, as
"switchyard inspect MODEL --routing TEXT --json" prints them.

Examples:
  switchyard trace runs/demo/switch --text "Good morning" --text "Good night"
  switchyard trace runs/sst2 --data sentences.txt --out routing.jsonl`,
    )
    .action(async (path: string, flags: TraceFlags) => {
      const texts = await textsOf(flags);
      const loaded = await loadTextModel(path);
      for (const line of loaded.warnings) process.stderr.write(`warning: ${line}\n`);
      const router = new TextRouter(loaded);
      const progress = new Progress(process.stderr, flags.out === undefined);
      const temporary = flags.out === undefined ? undefined : temporaryName(flags.out);
      const file = temporary === undefined ? process.stdout : createWriteStream(temporary);
      let [count, tokens] = [0, 0];
      try {
        if (temporary !== undefined) await once(file, 'open');
        for (const text of texts) {
          const paths = await router.route(text);
          if (!file.write(`${JSON.stringify(paths)}\n`)) await once(file, 'drain');
          tokens += paths.ids.length;
          progress.update(() => `traced ${++count} of ${texts.length} texts`);
        }
        if (temporary !== undefined && flags.out !== undefined) {
          file.end();
          await once(file, 'finish');
          await rename(temporary, flags.out);
          progress.clear();
          process.stdout.write(
            `wrote ${texts.length} texts of ${formatCount(tokens)} tokens to ${flags.out}\n`,
          );
        }
      } finally {
        if (temporary !== undefined) await rm(temporary, { force: true });
        await router.release();
      }
    });
}

async function textsOf({ text = [], data, maxTexts = Infinity }: TraceFlags): Promise<readonly string[]> {
  const lines = data === undefined ? [] : (await readFile(data, 'utf8')).split(/\r?\n/);
  const all = [...text, ...lines].filter((line) => line.trim() !== '').slice(0, maxTexts);
  if (all.length > 0) return all;
  throw new Error(
    data === undefined ? 'give a text with --text, or a file of texts with --data' : `${data} has no text`,
  );
}
