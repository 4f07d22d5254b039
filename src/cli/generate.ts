/**
 * `switchyard generate`
 * @module
 */
import { Command } from 'commander';
import { Generator } from '../decode/index.js';
import { loadLanguageModel, runtimeOptions } from '../train/index.js';
import { devices } from '../runtime/index.js';
import { changeModel, collect, numberIn } from './options.js';

interface GenerateFlags {
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly device: (typeof devices)[number];
  readonly set?: string[];
  readonly json?: boolean;
}

/** Continues a text. */
export function generateCommand(): Command {
  return new Command('generate')
    .description('continue a text with a model')
    .argument('<model>', 'a run folder or model folder')
    .option('-p, --prompt <text>', 'text to continue', '\n')
    .option('-n, --tokens <count>', 'tokens to add', numberIn(1, Infinity, true), 200)
    .option('-t, --temperature <number>', '0 takes the most probable token', numberIn(0, 100), 0.8)
    .option('--top-k <count>', 'sample among this many tokens; 0 for all', numberIn(0, Infinity, true), 0)
    .option(
      '--top-p <probability>',
      'sample among the most probable tokens that reach this',
      numberIn(1e-9, 1),
      1,
    )
    .option(
      '--seed <number>',
      'the same seed gives the same text',
      numberIn(0, Number.MAX_SAFE_INTEGER, true),
      1,
    )
    .option('--device <device>', devices.join(', '), 'cpu')
    .option(
      '-s, --set <path=value>',
      'route otherwise than in training, such as model.sparse.router.stats=prefix; can be given again',
      collect,
    )
    .option('--json', 'print one JSON object: prompt, text, tokens')
    .addHelpText(
      'after',
      `
Examples:
  switchyard generate runs/demo/switch --prompt "Il y a " --tokens 80
  switchyard generate runs/shakespeare-switch --prompt "ROMEO:" --temperature 0.7 --top-k 40`,
    )
    .action(async (path: string, flags: GenerateFlags) => {
      const { model, tokenizer, weights, warnings } = await loadLanguageModel(path, changeModel(flags.set));
      for (const line of warnings) process.stderr.write(`warning: ${line}\n`);
      const prompt = tokenizer.encode(flags.prompt);
      if (prompt.length === 0) throw new Error('--prompt is empty: give at least one character to continue');
      const runtime = runtimeOptions({ device: flags.device, threads: null });
      const generator = await Generator.create(model, weights, runtime);
      const ids: number[] = [];
      let printed = '';
      if (!flags.json) process.stdout.write(flags.prompt);
      const options = {
        ...flags,
        maxTokens: flags.tokens,
        vocabSize: tokenizer.vocabSize,
        ...(tokenizer.special.eos !== undefined && { stopTokens: [tokenizer.special.eos] }),
      };
      for await (const id of generator.generate(prompt, options)) {
        ids.push(id);
        // A character may need several tokens: whatever still ends in a replacement character waits.
        const text = tokenizer.decode(ids);
        if (!flags.json && !text.endsWith('\uFFFD')) {
          process.stdout.write(text.slice(printed.length));
          printed = text;
        }
      }
      await generator.release();
      const text = tokenizer.decode(ids);
      if (flags.json) {
        process.stdout.write(`${JSON.stringify({ prompt: flags.prompt, text, tokens: ids.length })}\n`);
      } else {
        process.stdout.write(`${text.slice(printed.length)}\n`);
      }
    });
}
