/**
 * `switchyard generate`
 * @module
 */
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import type { GenerationOptions } from '../decode/index.js';
import { devices } from '../runtime/index.js';
import { formatBytes, type ExpertStoreStats, type PolicyName } from '../serve/index.js';
import type { ExpertForm } from '../train/index.js';
import { Conversation, converse } from './chat.js';
import { openWriter, type OpenWriter } from './open-writer.js';
import {
  bytesOption,
  collect,
  expertsOption,
  numberIn,
  policyOption,
  routingTraceOption,
} from './options.js';

interface GenerateFlags {
  readonly prompt: string;
  readonly prompts?: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly start: boolean;
  readonly stop?: string[];
  readonly seed: number;
  readonly beams?: number;
  readonly lengthPenalty: number;
  readonly chat?: boolean;
  readonly system?: string;
  readonly logProbabilities?: boolean;
  readonly device: (typeof devices)[number];
  readonly memoryBudget?: number;
  readonly policy?: PolicyName;
  readonly routingTrace?: string;
  readonly mode?: 'none' | 'prefetch';
  readonly set?: string[];
  readonly experts?: ExpertForm;
  readonly json?: boolean;
}

/** Prompts of a file that are continued together. */
const BATCH = 8;

/** Continues a text, writes the target of a source, or answers. */
export function generateCommand(): Command {
  return new Command('generate')
    .description('continue a text with a model, or write what an encoder–decoder makes of a source')
    .argument('<model>', 'a run folder or model folder')
    .option('-p, --prompt <text>', 'text to continue, or the source', '\n')
    .option('--prompts <file>', 'a prompt in every line, continued together; one JSON object a line')
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
      '--min-p <share>',
      'sample among tokens at least this share as probable as the most probable one',
      numberIn(0, 1),
      0,
    )
    .option(
      '--repetition-penalty <number>',
      'divide the scores of tokens that were said; 1 for none',
      numberIn(1e-3, 1e3),
      1,
    )
    .option('--no-start', 'leave out the tokens with which the tokenizer begins a text')
    .option('--stop <text>', 'end before this text; can be given again', collect)
    .option(
      '--seed <number>',
      'the same seed gives the same text',
      numberIn(0, Number.MAX_SAFE_INTEGER, true),
      1,
    )
    .option(
      '--beams <count>',
      'search the most probable text with this many beams instead of drawing one',
      numberIn(1, 64, true),
    )
    .option(
      '--length-penalty <number>',
      'beams are compared by log-probability / length ^ this',
      numberIn(-10, 10),
      1,
    )
    .option(
      '--chat',
      "answer --prompt, or every line of stdin, in a conversation by the model's chat template",
    )
    .option('--system <text>', 'what the conversation begins with')
    .option('--log-probabilities', 'with --json: the natural logarithm of the probability of every token')
    .option('--device <device>', devices.join(', '), 'cpu')
    .option(
      '-s, --set <path=value>',
      'route otherwise than in training, such as model.sparse.router.stats=prefix; can be given again',
      collect,
    )
    .option(
      '--memory-budget <size>',
      'for weights, such as 2GB: experts are read when they are needed (default: all are in memory)',
      bytesOption,
    )
    .addOption(policyOption())
    .addOption(routingTraceOption())
    .addOption(
      new Option(
        '--mode <mode>',
        "under a budget: read experts when a router has chosen them, or ahead as well, by what the next layer's router makes of this layer's state (the default)",
      ).choices(['none', 'prefetch']),
    )
    .addOption(expertsOption())
    .option('--json', 'print one JSON object: prompt, text, tokens, reason')
    .addHelpText(
      'after',
      `
Examples:
  switchyard generate runs/demo/switch --prompt "Il y a " --tokens 80
  switchyard generate runs/shakespeare-switch --prompt "ROMEO:" --temperature 0.7 --top-k 40 --stop "JULIET:"
  switchyard generate OLMoE-1B-7B --memory-budget 8GB --prompt "Once upon a time"
  switchyard generate models/t5 --prompt "translate English to German: Good morning." --beams 4
  switchyard generate models/my-chat-model --chat --system "Answer in one sentence." --min-p 0.05
  switchyard generate runs/demo/switch --prompts questions.txt --temperature 0 > answers.jsonl`,
    )
    .action(async (path: string, flags: GenerateFlags, command: Command) => {
      checkFlags(flags, (name) => command.getOptionValueSource(name) === 'cli');
      const writer = await openWriter(path, flags);
      try {
        await run(writer, flags, command.getOptionValueSource('prompt') === 'cli');
        tellStore(writer.storeStats());
      } finally {
        await writer.close();
      }
    });
}

/** @throws Error naming two options that do not go together. */
function checkFlags(flags: GenerateFlags, given: (name: keyof GenerateFlags) => boolean): void {
  const drawn = ['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'seed', 'stop'] as const;
  const apart: readonly (readonly [keyof GenerateFlags, readonly (keyof GenerateFlags)[], string])[] = [
    [
      'beams',
      [...drawn, 'chat', 'prompts', 'logProbabilities'],
      'beam search takes the most probable text as it is',
    ],
    ['chat', ['prompts', 'logProbabilities'], 'a conversation has one speaker at a time'],
    ['prompts', ['prompt'], 'prompts come from one place'],
  ];
  for (const [one, others, why] of apart) {
    const other = others.find(given);
    if (given(one) && other) throw new Error(`${flag(one)} and ${flag(other)} do not go together: ${why}`);
  }
  const needs = [
    ['lengthPenalty', 'beams'],
    ['system', 'chat'],
    ['policy', 'memoryBudget'],
    ['routingTrace', 'policy'],
    ['mode', 'memoryBudget'],
  ] as const;
  for (const [one, other] of needs) {
    if (given(one) && !given(other)) throw new Error(`${flag(one)} is for ${flag(other)}`);
  }
  if (flags.stop?.includes('')) throw new Error('--stop is empty: every text would end at once');
  if (flags.logProbabilities && !flags.json && flags.prompts === undefined)
    throw new Error('--log-probabilities are printed with --json');
}

/** Says on stderr what a budget has cost. */
function tellStore(stats: ExpertStoreStats | undefined): void {
  if (!stats) return;
  const { accesses, hits, bytesRead, stallMilliseconds, slots } = stats;
  const share = accesses === 0 ? 100 : (100 * hits) / accesses;
  process.stderr.write(
    `experts: ${share.toFixed(1)} % of ${accesses} accesses found them in memory, which has ${slots} ${slots === 1 ? 'place' : 'places'}; ` +
      `${formatBytes(bytesRead)} read, ${(stallMilliseconds / 1000).toFixed(2)} s waited\n`,
  );
}

function flag(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

async function run(writer: OpenWriter, flags: GenerateFlags, prompted: boolean): Promise<void> {
  const { stopTokens, tokenizer } = writer;
  const options: GenerationOptions = {
    ...flags,
    maxTokens: flags.tokens,
    vocabSize: tokenizer.vocabSize,
    tokenizer,
    stopTokens,
    stopStrings: flags.stop ?? [],
    logProbabilities: flags.logProbabilities ?? false,
  };
  if (flags.chat) return chat(writer, options, flags, prompted);
  if (flags.prompts !== undefined) return continueLines(writer, options, flags.prompts);
  const prompt = writer.encode(flags.prompt);
  if (prompt.length === 0) throw new Error('--prompt is empty: give at least one character to continue');
  const echoed = writer.readsSources || flags.json ? '' : flags.prompt;
  if (flags.beams !== undefined) {
    const { beams, lengthPenalty, tokens: maxTokens } = flags;
    const [{ ids, ...found }] = await writer.generator.search(prompt, {
      ...{ beams, lengthPenalty, maxTokens, stopTokens },
      vocabSize: tokenizer.vocabSize,
    });
    const text = tokenizer.decode(ids);
    print(flags, { prompt: flags.prompt, text, tokens: ids.length, ...found }, `${echoed}${text}`);
    return;
  }
  if (flags.json) {
    const [{ ids, ...made }] = await writer.generator.complete([prompt], options);
    print(flags, { prompt: flags.prompt, text: made.text, tokens: ids.length, ...made }, '');
    return;
  }
  process.stdout.write(echoed);
  for await (const { text } of writer.generator.stream([prompt], options)) process.stdout.write(text ?? '');
  process.stdout.write('\n');
}

async function chat(
  writer: OpenWriter,
  options: GenerationOptions,
  flags: GenerateFlags,
  prompted: boolean,
): Promise<void> {
  const conversation = new Conversation(writer, options, flags.system);
  if (!prompted) return converse(conversation);
  const tell = (piece: string): void => void (flags.json || process.stdout.write(piece));
  const answer = await conversation.say(flags.prompt, tell);
  print(flags, { prompt: flags.prompt, ...answer }, '');
}

/** One JSON object for every line of a file, in their order. */
async function continueLines(writer: OpenWriter, options: GenerationOptions, file: string): Promise<void> {
  const lines = readLines(file);
  for (let first = 0; first < lines.length; first += BATCH) {
    const prompts = lines.slice(first, first + BATCH);
    const made = await writer.generator.complete(prompts.map(writer.encode), options);
    made.forEach(({ ids, ...rest }, i) => {
      const result = { prompt: prompts[i], text: rest.text, tokens: ids.length, ...rest };
      process.stdout.write(`${JSON.stringify(result)}\n`);
    });
  }
}

/** @throws Error if the file cannot be read, or a line has nothing to continue. */
function readLines(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`--prompts ${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`, {
      cause: error,
    });
  }
  const lines = text.replace(/\r?\n$/, '').split(/\r?\n/);
  const empty = lines.indexOf('');
  if (empty >= 0)
    throw new Error(`--prompts ${file}: line ${empty + 1} is empty: there is nothing to continue`);
  return lines;
}

/** Prints an object with `--json`, and otherwise the end of a text. */
function print({ json }: GenerateFlags, result: object, text: string): void {
  process.stdout.write(json ? `${JSON.stringify(result)}\n` : `${text}\n`);
}
