/**
 * `switchyard upcycle`
 * @module
 */
import { Command } from 'commander';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { upcycle, type JsonObject } from '../checkpoints/index.js';
import { createModel, sizeOfModel } from '../models/index.js';
import { changeModel, collect, numberIn } from './options.js';
import { formatCount, Progress } from './progress.js';

interface UpcycleFlags {
  readonly experts: number;
  readonly topK: number;
  readonly every: number;
  readonly rawGates?: boolean;
  readonly noise: number;
  readonly seed: number;
  readonly set?: string[];
}

/** Makes a dense model sparse. */
export function upcycleCommand(): Command {
  return new Command('upcycle')
    .description(
      'make a dense model sparse: every expert starts as a copy of the feed-forward layer in its place',
    )
    .argument('<model>', 'a dense model: a run folder or model folder, or a Hugging Face folder (llama, t5)')
    .argument('<folder>', 'where the sparse model goes; must not exist')
    .requiredOption('-e, --experts <count>', 'experts of each sparse layer', numberIn(1, 65536, true))
    .option('-k, --top-k <count>', 'experts that a token visits', numberIn(1, 65536, true), 2)
    .option('--every <n>', 'make every n-th block sparse', numberIn(1, 65536, true), 2)
    .option('--raw-gates', "weigh experts by the router's probabilities as they are, as Switch does")
    .option('--noise <share>', 'noise on each expert, as a share of its matrices', numberIn(0, 10), 0)
    .option('--seed <number>', 'seed of routers and noise', numberIn(0, Number.MAX_SAFE_INTEGER, true), 1)
    .option(
      '-s, --set <path=value>',
      'any other option of the sparse layers, such as model.sparse.router.jitter=0.01; can be given again',
      collect,
    )
    .addHelpText(
      'after',
      `
Gates sum to 1 unless --raw-gates is given: without noise the new model says what the old one did. With --top-k 1 such
a gate is always 1, and the router learns from its balance loss alone.

Examples:
  switchyard upcycle runs/dense models/sparse --experts 8
  switchyard upcycle t5-small models/t5-moe --experts 8 --top-k 1 --raw-gates --noise 0.01`,
    )
    .action(async (path: string, folder: string, flags: UpcycleFlags) => {
      const from = existsSync(join(path, 'recipe.json')) ? join(path, 'model') : path;
      const sparse: JsonObject = {
        every: flags.every,
        numExperts: flags.experts,
        topK: flags.topK,
        router: { kind: 'softmax', normalizeGates: !flags.rawGates },
      };
      const stray = flags.set?.find((override) => !override.startsWith('model.sparse.'));
      if (stray !== undefined)
        throw new Error(
          `--set ${stray}: only the sparse layers are new, such as model.sparse.router.jitter=0.01`,
        );
      changeModel(flags.set)({ sparse });
      const progress = new Progress();
      const options = await upcycle(from, folder, {
        sparse,
        seed: flags.seed,
        noise: flags.noise,
        onProgress: ({ bytes, totalBytes }) =>
          progress.update(
            () => `${Math.floor((100 * bytes) / totalBytes)} % of ${formatCount(totalBytes)} bytes`,
          ),
      }).finally(() => progress.clear());
      const size = sizeOfModel(createModel(options));
      process.stdout.write(
        `${folder}: ${formatCount(size.parameters)} parameters, ${formatCount(size.activeParameters)} active, ` +
          `${size.sparseLayers.length} sparse layers\n`,
      );
    });
}
