/**
 * `switchyard compress`
 * @module
 */
import { Command, Option } from 'commander';
import { expertLayers, openCheckpoint, type Checkpoint } from '../checkpoints/index.js';
import {
  chooseLayers,
  compressFolder,
  CompressionState,
  createMethod,
  layerJobs,
  matrixCompressorNames,
  methodKinds,
  methodSchema,
  scopes,
  verifyFolder,
  type Budget,
  type CompressionJob,
  type MethodOptions,
} from '../compress/index.js';
import { explainIssues, setPath } from '../recipes/index.js';
import { calibrationOf, describeCalibration } from './calibration.js';
import { compressionProgress, describeOutcome } from './compression-progress.js';
import { modelFolderOf } from './model-folder-of.js';
import { collect, numberIn } from './options.js';
import { Progress } from './progress.js';

interface CompressFlags {
  readonly output: string;
  readonly method: string;
  readonly residual?: string;
  readonly scope?: string;
  readonly centre?: string;
  readonly ratio: number;
  readonly layerFraction?: number;
  readonly layers: string;
  readonly set?: string[];
  readonly seed: number;
  readonly shardBytes?: number;
  readonly calibration?: string;
  readonly calibrationTokens: number;
  readonly cache: string;
  readonly json?: boolean;
}

/** Names of the methods, as their schemas have them. */
const methodNames = methodKinds.map(({ schema }) => schema.shape.kind.value);

/** Makes the experts of a checkpoint smaller. */
export function compressCommand(): Command {
  return new Command('compress')
    .description('make the experts of a checkpoint smaller: a folder that is really smaller, and loads again')
    .argument('<model>', 'a model folder, ours or Hugging Face’s, or a finished run')
    .requiredOption(
      '-o, --output <folder>',
      'the folder to write; finished layers wait beside it in <folder>.partial',
    )
    .addOption(new Option('-m, --method <method>', 'how').choices(methodNames).default('resmoe'))
    .addOption(
      new Option('--residual <kind>', 'of resmoe: how the rest beside the centre is cut').choices(
        matrixCompressorNames,
      ),
    )
    .addOption(
      new Option('--scope <scope>', 'cut an expert as one matrix, or each of its matrices alone').choices(
        scopes,
      ),
    )
    .option('--centre <kind>', 'of resmoe: what all experts share')
    .option(
      '-r, --ratio <share>',
      'share of each expert’s parameters to keep; a centre is extra',
      numberIn(1e-6, 1),
      0.25,
    )
    .option(
      '--layer-fraction <share>',
      'instead: share of a whole layer to keep, centre counted',
      numberIn(1e-6, 1),
    )
    .option('-l, --layers <which>', 'all, last:4 (of each stack), or a list: blocks.1,blocks.3 or 1,3', 'all')
    .option('-s, --set <path=value>', 'another option of the method; can be given again', collect)
    .option('--calibration <file>', 'a UTF-8 text, for methods that look at what experts see')
    .option('--calibration-tokens <count>', 'tokens of it that are read', numberIn(1, 1 << 24, true), 4096)
    .option('--cache <folder>', 'where tokenised text is kept', '.cache')
    .option('--seed <seed>', 'of everything random', numberIn(0, 2 ** 32 - 1, true), 0)
    .option('--shard-bytes <bytes>', 'most bytes in one file', numberIn(1, Infinity), 5e9)
    .option('--json', 'print one JSON object: output, layers, before, after, predictedBytes, verified')
    .addHelpText(
      'after',
      `
A killed command goes on where it was when it is given again.

Examples:
  switchyard compress runs/demo/switch --output runs/demo/small
  switchyard compress Mixtral-8x7B --residual svd --ratio 0.25 --layers last:24 --output mixtral-resmoe
  switchyard compress switch-base-8 --layers last:4 --layer-fraction 0.25 --output switch-small
  switchyard compress switch-base-8 --method wanda --calibration wiki.txt --output switch-wanda
  switchyard diff switch-base-8 switch-small`,
    )
    .action(async (path: string, flags: CompressFlags) => {
      const folder = modelFolderOf(path);
      const options = methodOptions(flags);
      const checkpoint = await openCheckpoint(folder);
      try {
        if (checkpoint.config['compression'] !== undefined)
          throw new Error(
            `${folder}: is compressed already; compress the original, or write it back with 'switchyard export --to dense' first`,
          );
        const progress = new Progress(process.stderr, flags.json);
        const job = await prepareJob(folder, checkpoint, options, flags, progress);
        progress.line(
          `compressing ${job.layers.length} of ${expertLayers(checkpoint).length} layers of experts; ` +
            `finished ones are kept in ${CompressionState.pathOf(flags.output)}`,
        );
        const outcome = await compressFolder(job, compressionProgress(progress, job));
        const verified = await verifyFolder(checkpoint.source, flags.output, (done, total) =>
          progress.update(() => `opening it again: tensor ${done}/${total}`),
        );
        progress.clear();
        if (flags.json)
          process.stdout.write(`${JSON.stringify({ output: flags.output, ...outcome, verified })}\n`);
        else process.stdout.write(`${describeOutcome(flags.output, outcome, verified).join('\n')}\n`);
      } finally {
        await checkpoint.close();
      }
    });
}

function methodOptions({ method, residual, scope, centre, set = [] }: CompressFlags): MethodOptions {
  const value: Record<string, unknown> = {
    kind: method,
    ...(residual === undefined ? {} : { residual }),
    ...(scope === undefined ? {} : { scope }),
    ...(centre === undefined ? {} : { centre: { kind: centre } }),
  };
  for (const override of set) setPath(value, override);
  const parsed = methodSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new Error(`--method ${method}: ${explainIssues(methodSchema, value, parsed.error).join('; ')}`);
}

async function prepareJob(
  folder: string,
  checkpoint: Checkpoint,
  methodOptions: MethodOptions,
  { output, ratio, layerFraction, layers: wanted, seed, shardBytes, ...flags }: CompressFlags,
  progress: Progress,
): Promise<CompressionJob> {
  const { kind, ...options } = methodOptions;
  const budget: Budget = layerFraction === undefined ? { perExpert: ratio } : { layer: layerFraction };
  const method = createMethod(methodOptions);
  if (method.needsCalibration && flags.calibration === undefined)
    throw new Error(`--method ${kind} looks at what experts see: give it a text with --calibration FILE`);
  const text =
    method.needsCalibration && flags.calibration !== undefined
      ? { file: flags.calibration, tokens: flags.calibrationTokens, cache: flags.cache }
      : undefined;
  const names = chooseLayers(
    wanted,
    expertLayers(checkpoint).map(({ name }) => name),
  );
  const about = {
    ...options,
    ...budget,
    seed,
    ...(text ? { calibration: await describeCalibration(text) } : {}),
  };
  return {
    folder,
    out: output,
    source: checkpoint.source,
    config: checkpoint.config,
    layers: layerJobs(checkpoint, wanted, text && calibrationOf(folder, names, text, progress)),
    method,
    about: { method: kind, options: about },
    budget,
    seed,
    ...(shardBytes === undefined ? {} : { maxShardBytes: shardBytes }),
  };
}
