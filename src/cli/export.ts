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
  exportOnnx,
  floatDTypes,
  openCheckpoint,
  type Conversion,
  type ExpertLayout,
  type FloatDTypeName,
} from '../checkpoints/index.js';
import { conversionProgress } from './conversion-progress.js';
import { numberIn } from './options.js';
import { formatCount } from './progress.js';

/** Options that each format takes. */
const formats = {
  hf: ['dtype', 'architecture', 'experts'],
  dense: ['dtype'],
  onnx: ['length', 'batch'],
} as const satisfies Record<string, readonly string[]>;
const layouts = { 'per-expert': 'perExpert', fused: 'fused' } as const satisfies Record<string, ExpertLayout>;

interface ExportFlags {
  readonly to: keyof typeof formats;
  readonly dtype?: FloatDTypeName;
  readonly architecture?: string;
  readonly experts: keyof typeof layouts;
  readonly length?: number;
  readonly batch: number;
  readonly json?: boolean;
}

/** Writes a model for other programs. */
export function exportCommand(): Command {
  return new Command('export')
    .description('write a model for other programs')
    .argument('<model>', 'a run folder, or a model folder of any kind, compressed or not')
    .argument('<out>', 'a folder that does not exist yet')
    .addOption(
      new Option(
        '--to <format>',
        'hf: as transformers reads it; dense: its own layout, nothing compressed; onnx: for any ONNX Runtime',
      )
        .choices(Object.keys(formats))
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
    .option(
      '--length <tokens>',
      'with --to onnx: tokens of a text, shorter ones are padded; by default what the model takes, at most 512',
      numberIn(1, Infinity, true),
    )
    .addOption(
      new Option('--batch <texts>', 'with --to onnx: texts side by side')
        .argParser(numberIn(1, Infinity, true))
        .default(1),
    )
    .option(
      '--json',
      'print one JSON object: path, modelType, tensors, parameters; with --to onnx path, opset, graphs',
    )
    .addHelpText(
      'after',
      `
Weights are read and written one at a time, so a model larger than memory can be exported. The folder appears when it is
complete.

Examples:
  switchyard export models/olmoe olmoe-hf --experts fused
  switchyard export compressed/olmoe olmoe-dense --to dense
  switchyard export models/stories stories-hf --dtype bfloat16
  switchyard export models/stories stories-onnx --to onnx --length 256`,
    )
    .action(async (path: string, out: string, flags: ExportFlags, command: Command) => {
      checkOptions(flags.to, command);
      if (flags.to === 'onnx') return writeOnnx(modelFolder(path), out, flags);
      const progress = conversionProgress('exporting');
      const { modelType, tensors, parameters } = await write(
        modelFolder(path),
        out,
        { ...flags, to: flags.to },
        progress.update,
      );
      progress.clear();
      if (flags.json)
        process.stdout.write(`${JSON.stringify({ path: out, modelType, tensors, parameters })}\n`);
      else
        process.stdout.write(
          `${out}: ${modelType}, ${formatCount(parameters)} parameters in ${tensors} tensors\n`,
        );
    });
}

/** @throws Error for an option that would do nothing. */
function checkOptions(to: ExportFlags['to'], command: Command): void {
  const taken: readonly string[] = formats[to];
  for (const name of new Set(Object.values(formats).flat())) {
    if (command.getOptionValueSource(name) === 'cli' && !taken.includes(name))
      throw new Error(`--${name} does not go with --to ${to}, which takes --${taken.join(', --')}`);
  }
}

/** Exports graphs and says what they are called and read. */
async function writeOnnx(path: string, out: string, { length, batch, json }: ExportFlags): Promise<void> {
  const progress = conversionProgress('exporting');
  const checkpoint = await openCheckpoint(path);
  try {
    const { opset, graphs } = await exportOnnx(checkpoint, out, {
      ...(length === undefined ? {} : { sequenceLength: length }),
      batchSize: batch,
      onProgress: progress.update,
    });
    progress.clear();
    if (json) {
      process.stdout.write(`${JSON.stringify({ path: out, opset, graphs })}\n`);
      return;
    }
    for (const [file, { inputs, outputs }] of Object.entries(graphs)) {
      const list = (values: typeof inputs): string =>
        values.map(({ name, shape }) => `${name} [${shape.join(', ')}]`).join(', ');
      process.stdout.write(`${out}/${file}: opset ${opset}; ${list(inputs)} → ${list(outputs)}\n`);
    }
  } finally {
    await checkpoint.close();
  }
}

function write(
  source: string,
  out: string,
  { to, dtype, architecture: modelType, experts }: ExportFlags & { readonly to: 'hf' | 'dense' },
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
