/**
 * `switchyard export`
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import {
  architectures,
  exportDense,
  exportHuggingFace,
  floatDTypes,
  type Conversion,
  type ExpertLayout,
  type FloatDTypeName,
} from '../checkpoints/index.js';
import { conversionProgress } from './conversion-progress.js';
import { formatCount } from './progress.js';

const targets = ['hf', 'dense'] as const;
const layouts = { 'per-expert': 'perExpert', fused: 'fused' } as const satisfies Record<string, ExpertLayout>;

interface ExportFlags {
  readonly to: (typeof targets)[number];
  readonly dtype?: FloatDTypeName;
  readonly architecture?: string;
  readonly experts: keyof typeof layouts;
  readonly json?: boolean;
}

/** Writes a model for other programs. */
export function exportCommand(): Command {
  return new Command('export')
    .description('write a model for other programs')
    .argument('<model>', 'a run folder, or a model folder of any kind, compressed or not')
    .argument('<out>', 'a folder that does not exist yet')
    .addOption(
      new Option('--to <format>', 'hf: as transformers reads it; dense: its own layout, nothing compressed')
        .choices(targets)
        .default('hf'),
    )
    .addOption(
      new Option('--dtype <type>', 'element type of the weights; as they are stored when absent').choices(
        Object.keys(floatDTypes),
      ),
    )
    .option(
      '--architecture <name>',
      `with --to hf: ${architectures.map(({ modelType }) => modelType).join(', ')}; by default that of the model`,
    )
    .addOption(
      new Option('--experts <layout>', 'with --to hf: one tensor for each expert, or one for all')
        .choices(Object.keys(layouts))
        .default('per-expert'),
    )
    .option('--json', 'print one JSON object: path, modelType, tensors, parameters')
    .addHelpText(
      'after',
      `
Weights are read and written one at a time, so a model larger than memory can be exported. The folder appears when it is
complete.

Examples:
  switchyard export runs/demo/switch exported
  switchyard export compressed/olmoe olmoe-dense --to dense
  switchyard export models/stories stories-hf --dtype bfloat16`,
    )
    .action(async (path: string, out: string, flags: ExportFlags) => {
      const progress = conversionProgress('exporting');
      const { modelType, tensors, parameters } = await write(modelFolder(path), out, flags, progress.update);
      progress.clear();
      if (flags.json)
        process.stdout.write(`${JSON.stringify({ path: out, modelType, tensors, parameters })}\n`);
      else
        process.stdout.write(
          `${out}: ${modelType}, ${formatCount(parameters)} parameters in ${tensors} tensors\n`,
        );
    });
}

function write(
  source: string,
  out: string,
  { to, dtype, architecture: modelType, experts }: ExportFlags,
  onProgress: ReturnType<typeof conversionProgress>['update'],
): Promise<Conversion> {
  switch (to) {
    case 'hf':
      return exportHuggingFace(source, out, { dtype, modelType, layout: layouts[experts], onProgress });
    case 'dense':
      return exportDense(source, out, { dtype, onProgress });
  }
}

/** The finished model of a run folder; other paths are what they are. */
function modelFolder(path: string): string {
  if (!existsSync(join(path, 'recipe.json'))) return path;
  const folder = join(path, 'model');
  if (!existsSync(join(folder, 'model.safetensors')))
    throw new Error(`${path}: the run has no finished model yet; let switchyard train --resume complete it`);
  return folder;
}
