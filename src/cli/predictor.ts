/**
 * `switchyard predictor`
 * @module
 */
import { Command, Option } from 'commander';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  evaluatePredictor,
  fromWeights,
  loadPredictor,
  predictorTrainSchema,
  recordRouting,
  requireFingerprint,
  routingFingerprint,
  RoutingRecording,
  trainPredictor,
  type HitRates,
  type LoadedPredictor,
  type PredictorEvaluation,
} from '../serve/index.js';
import { Interruption, loadTextModel, type LoadedTextModel } from '../train/index.js';
import { numberIn } from './options.js';
import { trainingTexts, validationTexts, type RecordedTexts, type TextFlags } from './predictor-data.js';
import { formatCount, Progress } from './progress.js';

interface TrainFlags extends TextFlags {
  readonly out: string;
  readonly recording?: string;
  readonly tokens: number;
  readonly hiddenSize: number;
  readonly steps: number;
  readonly textsPerStep: number;
  readonly learningRate: number;
  readonly loss: 'l1' | 'kl' | 'cross-entropy';
  readonly crossEntropyWeight: number;
  readonly truncation: number;
  readonly attention: 'sparsemax' | 'none';
  readonly sparsemax: 'paper' | 'released';
  readonly causal?: boolean;
  readonly seed: number;
  readonly threads?: number;
  readonly json?: boolean;
}

interface EvalFlags extends TextFlags {
  readonly padding?: boolean;
  readonly tokens: number;
  readonly threads?: number;
  readonly json?: boolean;
}

const many = numberIn(1, Infinity, true);

function withTexts(command: Command): Command {
  return command
    .option(
      '-d, --data <file>',
      "texts to read, or of a task a file of examples (default: those of the run's recipe)",
    )
    .option('--recipe <run>', 'a run or recipe whose data is read, for models that were moved or imported')
    .option('-b, --batch-size <count>', 'texts that the model reads at once', numberIn(1, 65536, true), 32)
    .option('--tokens <count>', 'real tokens that are enough', many, 2_000_000)
    .option('--threads <count>', 'threads inside one operator', numberIn(1, 1024, true))
    .option('--cache <folder>', 'where tokenised text is kept', '.cache')
    .option('--json', 'print one JSON object');
}

/** Trains and measures predictors of routing. */
export function predictorCommand(): Command {
  return new Command('predictor')
    .description('train or measure a predictor of which experts a text will need')
    .addCommand(trainPredictorCommand())
    .addCommand(evalPredictorCommand());
}

function trainPredictorCommand(): Command {
  return withTexts(
    new Command('train')
      .description('record what the routers of a model decide, and train a predictor on it')
      .argument('<model>', 'a run or model folder')
      .requiredOption('-o, --out <folder>', 'folder of the predictor; stopped work in it is gone on with'),
  )
    .option(
      '--recording <folder>',
      'keep the recorded routing there, or use it where it is (default: beside the predictor while it is trained)',
    )
    .option('--hidden-size <size>', 'width of the predictor', many, 256)
    .option('--steps <count>', 'updates of the parameters', many, 1000)
    .option('--texts-per-step <count>', 'texts of one update', many, 64)
    .option('--learning-rate <rate>', 'highest learning rate', numberIn(0, 1), 2e-3)
    .addOption(
      new Option(
        '--loss <form>',
        "distance of the shares inside the router's best experts, or hard labels alone",
      )
        .choices(['l1', 'kl', 'cross-entropy'])
        .default('l1'),
    )
    .option('--cross-entropy-weight <weight>', 'of the hard labels beside l1 or kl', numberIn(0, 1e3), 0.005)
    .option('--truncation <count>', 'best experts of a token that are learnt', many, 30)
    .addOption(new Option('--attention <form>').choices(['sparsemax', 'none']).default('sparsemax'))
    .addOption(
      new Option('--sparsemax <form>', "by its definition, or as SiDA's released code computes it")
        .choices(['paper', 'released'])
        .default('paper'),
    )
    .option('--causal', 'let a token be predicted from those before it alone, for text that is being written')
    .option('--seed <number>', 'of weights and order', numberIn(0, Number.MAX_SAFE_INTEGER, true), 1)
    .addHelpText(
      'after',
      `
Examples:
  switchyard predictor train runs/sst2 --out runs/sst2-predictor
  switchyard predictor train OLMoE-1B-7B --data book.txt --causal --out olmoe-predictor`,
    )
    .action(trainAction);
}

async function trainAction(path: string, flags: TrainFlags): Promise<void> {
  const loaded = await open(path);
  const progress = new Progress(process.stderr);
  const stop = new AbortController();
  const interruption = new Interruption({
    onRequest: () => {
      progress.line('saving; a second signal ends at once');
      stop.abort();
    },
  });
  try {
    const folder = flags.recording ?? `${flags.out}.recording`;
    const recording = await record(loaded, path, folder, flags, progress, stop.signal);
    const predictor = await train(loaded, recording, flags, progress, stop.signal);
    if (flags.recording === undefined) await rm(folder, { recursive: true });
    progress.clear();
    const about = { predictor: predictor.source, trainedFor: predictor.trainedFor, tokens: recording.tokens };
    process.stdout.write(
      flags.json
        ? `${JSON.stringify(about)}\n`
        : `trained on ${formatCount(recording.tokens)} tokens; the predictor is in ${flags.out}\n`,
    );
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    progress.clear();
    process.stdout.write('stopped; the same command goes on\n');
  } finally {
    interruption.dispose();
  }
}

async function record(
  loaded: LoadedTextModel,
  path: string,
  folder: string,
  flags: TrainFlags,
  progress: Progress,
  signal: AbortSignal,
): Promise<RoutingRecording> {
  const texts = await trainingTexts(path, loaded, flags);
  try {
    await recordRouting({
      folder,
      model: loaded.model,
      weights: loaded.weights,
      batches: texts.batches,
      source: texts.name,
      maxTokens: flags.tokens,
      truncation: flags.truncation,
      batchSize: flags.batchSize,
      ...threadsOf(flags),
      signal,
      onProgress: ({ tokens, maxTokens }) =>
        progress.update(() => `recorded ${formatCount(tokens)} of at most ${formatCount(maxTokens)} tokens`),
    });
  } finally {
    texts.close();
  }
  return RoutingRecording.open(folder);
}

function train(
  { weights }: LoadedTextModel,
  recording: RoutingRecording,
  flags: TrainFlags,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadedPredictor> {
  const { hiddenSize, attention, sparsemax, causal = false, steps, seed, threads = null } = flags;
  const { crossEntropyWeight, truncation } = flags;
  return trainPredictor({
    folder: flags.out,
    recording,
    embeddings: fromWeights(weights)('embedding.weight'),
    network: { hiddenSize, attention, sparsemax, causal },
    train: predictorTrainSchema.parse({
      batchSize: flags.textsPerStep,
      steps,
      seed,
      threads,
      loss:
        flags.loss === 'cross-entropy'
          ? { kind: 'crossEntropy' }
          : { kind: 'truncatedDistillation', distance: flags.loss, crossEntropyWeight, truncation },
      schedule: { kind: 'cosine', learningRate: flags.learningRate, warmupSteps: Math.ceil(steps / 20) },
    }),
    onStep: ({ step, loss, hitRate }) =>
      progress.update(
        () => `step ${step}/${steps}  loss ${loss.toFixed(4)}  first guesses right ${percent(hitRate)}`,
      ),
    signal,
  });
}

function evalPredictorCommand(): Command {
  return withTexts(
    new Command('eval')
      .description('measure how often a predictor foretells the routers of its model')
      .argument('<predictor>', 'folder of the predictor')
      .argument('<model>', 'the run or model folder that it was trained for'),
  )
    .option('--padding', 'measure texts that are filled up to their full length as well')
    .addHelpText(
      'after',
      `
Examples:
  switchyard predictor eval runs/sst2-predictor runs/sst2 --padding
  switchyard predictor eval olmoe-predictor OLMoE-1B-7B --data book.txt --json`,
    )
    .action(evalAction);
}

async function evalAction(folder: string, path: string, flags: EvalFlags): Promise<void> {
  const predictor = await loadPredictor(folder);
  const loaded = await open(path);
  const fingerprint = await routingFingerprint(loaded.model, fromWeights(loaded.weights));
  requireFingerprint(folder, predictor.trainedFor, fingerprint);
  const texts = await validationTexts(path, loaded, flags);
  try {
    const plain = await measure(predictor, loaded, texts, flags, false);
    const padded = flags.padding ? await measure(predictor, loaded, texts, flags, true) : undefined;
    if (flags.json) {
      process.stdout.write(
        `${JSON.stringify({ predictor: folder, data: texts.name, plain, padded: padded ?? null })}\n`,
      );
      return;
    }
    const { distinct } = plain;
    const lines = [
      `predictor     ${folder}`,
      `data          ${texts.name}`,
      `tokens        ${formatCount(plain.real.positions)}`,
      ...describe('real tokens', plain.real),
      ...plain.layers.map(
        ({ name, top1, top3 }) => `  ${name.padEnd(11)} top-1 ${percent(top1)}  top-3 ${percent(top3)}`,
      ),
      `experts/text  ${distinct.router.toFixed(1)} by the router, ${distinct.predictor.toFixed(1)} predicted`,
      ...(padded?.padded ? describe('with padding', padded.padded) : []),
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
  } finally {
    texts.close();
  }
}

function describe(what: string, { top1, top3, recall, alphaError, constantAlphaError }: HitRates): string[] {
  return [
    `${what.padEnd(13)} top-1 ${percent(top1)}  top-3 ${percent(top3)}  recall ${percent(recall)}  |α error| ${alphaError.toFixed(4)} (of 1/numExperts ${constantAlphaError.toFixed(4)})`,
  ];
}

/** Records texts into a folder that goes when they are measured. */
async function measure(
  predictor: LoadedPredictor,
  { model, weights }: LoadedTextModel,
  { batches, name }: RecordedTexts,
  flags: EvalFlags,
  padding: boolean,
): Promise<PredictorEvaluation> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-routing-'));
  try {
    await recordRouting({
      ...{ folder, model, weights, batches, padding },
      source: name,
      maxTokens: flags.tokens,
      truncation: 1,
      batchSize: flags.batchSize,
      ...threadsOf(flags),
    });
    const recording = await RoutingRecording.open(folder);
    const embeddings = fromWeights(weights)('embedding.weight');
    return await evaluatePredictor(predictor, recording, embeddings, threadsOf(flags));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function open(path: string): Promise<LoadedTextModel> {
  if (!existsSync(path)) throw new Error(`${path}: there is no such run or model folder`);
  const loaded = await loadTextModel(path);
  for (const line of loaded.warnings) process.stderr.write(`warning: ${line}\n`);
  return loaded;
}

function threadsOf({ threads }: { readonly threads?: number }): { runtime?: { threads: number } } {
  return threads === undefined ? {} : { runtime: { threads } };
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
