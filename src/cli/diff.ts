/**
 * `switchyard diff`
 * @module
 */
import { Command } from 'commander';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  compareLogits,
  compareTensors,
  logitsOfText,
  storedTensors,
  type CheckpointDifference,
  type ComparedTensors,
  type LogitDifference,
  type TextLogits,
} from '../analyze/index.js';
import {
  openCheckpoint,
  openTensors,
  quote,
  type Checkpoint,
  type TensorInfo,
} from '../checkpoints/index.js';
import { Classifier, createModel } from '../models/index.js';
import { loadModel, runtimeOptions } from '../train/index.js';
import { modelFolderOf } from './model-folder-of.js';
import { numberIn } from './options.js';
import { formatCount, Progress } from './progress.js';

interface DiffFlags {
  readonly text?: string;
  readonly tokens: number;
  readonly by?: 'tensors' | 'parameters';
  readonly exitCode?: boolean;
  readonly json?: boolean;
}

/** Compares two checkpoints. */
export function diffCommand(): Command {
  return new Command('diff')
    .description(
      'compare two checkpoints, or a checkpoint with its compressed form: tensors, bytes, and logits on a text',
    )
    .argument('<first>', 'a model folder, a finished run, or a .safetensors file')
    .argument('<second>', 'the same')
    .option('-t, --text <file>', 'a UTF-8 text that both models read: how far their logits are apart')
    .option('--tokens <count>', 'tokens of the text that are read', numberIn(1, 1 << 16, true), 512)
    .option(
      '--by <what>',
      'compare tensors as they are called in the files, or parameters whatever the layout (default: parameters where the model types differ)',
      (value) => oneOf(value, ['tensors', 'parameters']),
    )
    .option('--exit-code', 'exit with 1 if anything differs, as diff does')
    .option(
      '--json',
      'print one JSON object: onlyFirst, onlySecond, changed, equal, parameters, bytes, logits',
    )
    .addHelpText(
      'after',
      `
Neurons of an expert may stand in another order after compression: numbers then differ where logits do not.

Examples:
  switchyard diff mixtral mixtral-resmoe --text wiki.txt
  switchyard diff runs/demo/switch/model exported --exit-code
  switchyard diff a.safetensors b.safetensors --json`,
    )
    .action(async (first: string, second: string, flags: DiffFlags) => {
      const paths = [first, second].map(modelFolderOf) as [string, string];
      const progress = new Progress(process.stderr, flags.json);
      const difference = await compareFolders(paths, flags, progress);
      const bytes = (await Promise.all(paths.map(weightBytes))) as [number, number];
      const logits =
        flags.text === undefined ? undefined : await compareOnText(paths, flags.text, flags.tokens);
      progress.clear();
      const { onlyFirst, onlySecond, changed } = difference;
      const differs =
        onlyFirst.length + onlySecond.length + changed.length > 0 || (logits?.maxAbsolute ?? 0) > 0;
      if (flags.json)
        process.stdout.write(`${JSON.stringify({ ...difference, bytes, ...(logits ? { logits } : {}) })}\n`);
      else process.stdout.write(`${describe(difference, bytes, logits).join('\n')}\n`);
      if (flags.exitCode && differs) process.exitCode = 1;
    });
}

function oneOf<Choice extends string>(value: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw new Error(`--by ${value}: expected ${choices.join(' or ')}`);
  return found;
}

/** An open checkpoint, or bare tensors. */
interface Opened {
  readonly checkpoint?: Checkpoint;
  readonly stored: ComparedTensors;
  close(): Promise<void>;
}

async function open(path: string): Promise<Opened> {
  if (existsSync(join(path, 'config.json'))) {
    const checkpoint = await openCheckpoint(path);
    return { checkpoint, stored: storedTensors(checkpoint.source), close: () => checkpoint.close() };
  }
  const source = await openTensors(path);
  return { stored: storedTensors(source), close: () => source.close() };
}

async function compareFolders(
  paths: readonly [string, string],
  { by }: DiffFlags,
  progress: Progress,
): Promise<CheckpointDifference> {
  const opened: Opened[] = [];
  try {
    for (const path of paths) opened.push(await open(path));
    const types = opened.map(({ checkpoint }) => checkpoint?.architecture.modelType);
    const isSameType = types[0] === types[1] || types.includes(undefined);
    const compared = opened.map(({ checkpoint, stored }, i) => {
      if ((by ?? (isSameType ? 'tensors' : 'parameters')) === 'tensors') return stored;
      if (checkpoint) return parametersOf(checkpoint);
      throw new Error(`--by parameters: ${paths[i]} has no config.json that says what its tensors are`);
    });
    return await compareTensors(compared[0], compared[1], (done, total) =>
      progress.update(() => `tensor ${done}/${total}`),
    );
  } finally {
    await Promise.all(opened.map((one) => one.close()));
  }
}

/** The parameters of a checkpoint, which have the same names in every layout. */
function parametersOf(checkpoint: Checkpoint): ComparedTensors {
  const parameters = createModel(checkpoint.options).parameters();
  const tensors = new Map(
    [...parameters].map(([name, { shape }]): [string, TensorInfo] => [name, { name, dtype: 'F32', shape }]),
  );
  return {
    tensors,
    read: (name, rows) => checkpoint.readParameter(name, rows ? { at: rows[0] } : {}),
  };
}

async function compareOnText(
  paths: readonly [string, string],
  file: string,
  tokens: number,
): Promise<LogitDifference> {
  const text = readFileSync(file, 'utf8');
  const read: TextLogits[] = [];
  let ids: readonly number[] | undefined;
  for (const path of paths) {
    // One after the other: two models need not fit into memory together.
    const { model, tokenizer, weights } = await loadModel(path);
    if (model instanceof Classifier)
      throw new Error(`${path}: a classifier says nothing about each token of a text`);
    if (!tokenizer && !ids)
      throw new Error(`${path}: has no tokenizer.json, without which a text is no tokens`);
    const own = tokenizer && [...tokenizer.encode(text)].slice(0, tokens);
    if (ids && own && ids.join() !== own.join())
      throw new Error(
        `${paths[0]} and ${paths[1]} cut the text into different tokens, so their logits cannot be compared`,
      );
    ids ??= own!;
    read.push(await logitsOfText(model, weights, ids, runtimeOptions({ device: 'cpu', threads: null })));
  }
  return compareLogits(read[0], read[1]);
}

async function weightBytes(path: string): Promise<number> {
  if (!statSync(path).isDirectory()) return statSync(path).size;
  const names = (await readdir(path)).filter((name) => name.endsWith('.safetensors'));
  return names.reduce((total, name) => total + statSync(join(path, name)).size, 0);
}

/** Tensors that are listed by name; the rest is counted. */
const MOST_LINES = 40;

function describe(
  { onlyFirst, onlySecond, changed, equal, parameters }: CheckpointDifference,
  bytes: readonly [number, number],
  logits: LogitDifference | undefined,
): string[] {
  const listed = (infos: readonly TensorInfo[], sign: string): string[] =>
    infos.map(({ name, dtype, shape }) => `${sign} ${quote(name)} ${dtype} [${shape.join(', ')}]`);
  const differences = changed.map(
    ({ name, dtypes, shapes, maxAbsolute, meanAbsolute, relative, changed: count }) => {
      const [from, to] = shapes.map((shape, i) => `${dtypes[i]} [${shape.join(', ')}]`);
      const form = from === to ? from : `${from} → ${to}`;
      return maxAbsolute === Infinity
        ? `! ${quote(name)} ${form}`
        : `! ${quote(name)} ${form}  ${count} differ, by ${meanAbsolute.toExponential(2)} on average, ${maxAbsolute.toExponential(2)} at most; relative ${relative.toExponential(2)}`;
    },
  );
  const lines = [...listed(onlyFirst, '-'), ...listed(onlySecond, '+'), ...differences];
  const more = lines.length - MOST_LINES;
  const pair = ([a, b]: readonly [number, number], unit: string): string =>
    `${formatCount(a)}${unit} and ${formatCount(b)}${unit} (${((100 * b) / a).toFixed(2)} %)`;
  return [
    ...lines.slice(0, MOST_LINES),
    ...(more > 0 ? [`… and ${more} more; --json lists all`] : []),
    `tensors     ${equal} equal, ${changed.length} changed, ${onlyFirst.length} only in the first, ${onlySecond.length} only in the second`,
    `parameters  ${pair(parameters, '')}`,
    `on disk     ${pair(bytes, 'B')}`,
    ...(logits
      ? [
          `logits      at ${logits.positions} positions: ${logits.maxAbsolute.toExponential(3)} apart at most, ` +
            `KL ${logits.divergence.toExponential(3)} nats, same first choice ${(100 * logits.agreement).toFixed(2)} %`,
        ]
      : []),
  ];
}
