/**
 * `switchyard import`
 * @module
 */
import { Command, Option } from 'commander';
import { floatDTypes, importCheckpoint, type FloatDTypeName } from '../checkpoints/index.js';
import { conversionProgress } from './conversion-progress.js';
import { storeRoundedExperts } from '../serve/index.js';
import { formatCount } from './progress.js';

interface ImportFlags {
  readonly dtype?: FloatDTypeName;
  readonly pack?: boolean;
  readonly weights?: 'int4' | 'int8';
  readonly json?: boolean;
}

/** Turns a checkpoint of others into a model folder. */
export function importCommand(): Command {
  return new Command('import')
    .description('turn a checkpoint of Hugging Face or llama2.c into a model folder')
    .argument('<source>', 'a folder with config.json and .safetensors files, or a .bin file of llama2.c')
    .argument('<out>', 'a folder that does not exist yet')
    .addOption(
      new Option('--dtype <type>', 'element type of the weights; as they are stored when absent').choices(
        Object.keys(floatDTypes),
      ),
    )
    .option(
      '--pack',
      'lay each expert out in one piece, aligned to blocks of the disk, for serving from disk',
    )
    .addOption(
      new Option(
        '--weights <type>',
        'with --pack: also write the experts rounded to 4 or 8 bits, beside the others',
      ).choices(['int4', 'int8']),
    )
    .option('--json', 'print one JSON object: path, modelType, tensors, parameters')
    .addHelpText(
      'after',
      `
Weights are read and written one at a time, so a model larger than memory can be imported. The folder appears when it is
complete: an import that was interrupted is started again.

With --pack a server gets each expert by one direct read into the memory that it is computed from (docs/serving.md). The folder
is an ordinary one otherwise; a compressed model is packed as it is when rebuilt. --weights int4 adds a folder of the experts in
blocks of 32 numbers with a scale each: 5 bits a weight, 9 with int8.

Examples:
  switchyard import OLMoE-1B-7B models/olmoe
  switchyard import data/stories260K/stories260K.bin models/stories
  switchyard import Mixtral-8x7B models/mixtral --dtype bfloat16 --pack`,
    )
    .action(async (source: string, out: string, { dtype, pack, weights, json }: ImportFlags) => {
      if (weights && !pack) throw new Error('--weights is about packed experts: add --pack');
      const progress = conversionProgress('importing');
      const { modelType, tensors, parameters } = await importCheckpoint(source, out, {
        dtype,
        pack,
        onProgress: progress.update,
      });
      if (weights) await storeRoundedExperts(out, { bits: weights === 'int4' ? 4 : 8, mode: 'symmetric' });
      progress.clear();
      if (json) process.stdout.write(`${JSON.stringify({ path: out, modelType, tensors, parameters })}\n`);
      else
        process.stdout.write(
          `${out}: ${modelType}, ${formatCount(parameters)} parameters in ${tensors} tensors\n`,
        );
    });
}
