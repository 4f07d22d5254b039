/**
 * `switchyard import`
 * @module
 */
import { Command, Option } from 'commander';
import { floatDTypes, importCheckpoint, type FloatDTypeName } from '../checkpoints/index.js';
import { conversionProgress } from './conversion-progress.js';
import { formatCount } from './progress.js';

interface ImportFlags {
  readonly dtype?: FloatDTypeName;
  readonly pack?: boolean;
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
    .option('--json', 'print one JSON object: path, modelType, tensors, parameters')
    .addHelpText(
      'after',
      `
Weights are read and written one at a time, so a model larger than memory can be imported. The folder appears when it is
complete: an import that was interrupted is started again.

With --pack a server gets each expert by one direct read into the memory that it is computed from (docs/serving.md). The folder
is an ordinary one otherwise; a compressed model is packed as it is when rebuilt.

Examples:
  switchyard import OLMoE-1B-7B models/olmoe
  switchyard import data/stories260K/stories260K.bin models/stories
  switchyard import Mixtral-8x7B models/mixtral --dtype bfloat16 --pack`,
    )
    .action(async (source: string, out: string, { dtype, pack, json }: ImportFlags) => {
      const progress = conversionProgress('importing');
      const { modelType, tensors, parameters } = await importCheckpoint(source, out, {
        dtype,
        pack,
        onProgress: progress.update,
      });
      progress.clear();
      if (json) process.stdout.write(`${JSON.stringify({ path: out, modelType, tensors, parameters })}\n`);
      else
        process.stdout.write(
          `${out}: ${modelType}, ${formatCount(parameters)} parameters in ${tensors} tensors\n`,
        );
    });
}
