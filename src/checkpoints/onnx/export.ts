/**
 * Models as ONNX, for any ONNX Runtime.
 * @module
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createModel, type Model } from '../../models/index.js';
import { nameParameters } from '../../nn/index.js';
import { encodeModel, lower, OPSET, type LoweredProgram } from '../../runtime/index.js';
import { createSynced } from '../atomic-file.js';
import { createFolder } from '../atomic-folder.js';
import type { Checkpoint } from '../model-folder/index.js';
import type { SaveProgress } from '../tensors/index.js';
import { checkOnnx, type OnnxSummary } from './check.js';
import { layOut, placesOf, writeData, type DataLayout } from './data-file.js';
import { OnnxError } from './errors.js';
import { renameValues } from './rename.js';
import { traceGraphs } from './trace.js';

/** Name of the file of weights, which all graphs of a model share. */
export const DATA_FILE = 'model.onnx.data';

/** Bytes that a protobuf message can have. */
const MAX_MODEL_BYTES = 2 ** 31 - 1;

/** What is exported. A checkpoint is one; a model in memory is one with a `readParameter` of its own. */
export type ExportSource = Pick<Checkpoint, 'options' | 'readParameter'> &
  Partial<Pick<Checkpoint, 'tokenizerFile'>>;

/** Options of {@link exportOnnx}. */
export interface ExportOnnxOptions {
  /** Texts side by side, 1 by default. */
  readonly batchSize?: number;
  /** Tokens of a text (of the source, where there are two), by default what the model takes but at most 512. */
  readonly sequenceLength?: number;
  /** Tokens of the target of an encoder–decoder, by default as many as of the source. */
  readonly targetLength?: number;
  /** Called after every parameter. */
  readonly onProgress?: (progress: Pick<SaveProgress, 'bytes' | 'totalBytes'>) => void;
}

/** What was exported. */
export interface ExportedOnnx {
  /** Version of the standard operators; `com.microsoft` operators of ONNX Runtime are used beside them. */
  readonly opset: number;
  /** Graphs by file name, as they were read back. */
  readonly graphs: Readonly<Record<string, OnnxSummary>>;
  /** Bytes of `model.onnx.data`. */
  readonly dataBytes: number;
}

/**
 * Exports the forward pass of a model to a new folder: `model.onnx`, or `encoder_model.onnx` and `decoder_model.onnx`;
 * their weights by range in `model.onnx.data`, which may have any size; and `tokenizer.json`, where there is one.
 *
 * | graph | inputs | outputs |
 * |---|---|---|
 * | `model` | `input_ids`, `attention_mask` | `logits` `[batch, time, vocabSize]`; of a classifier `[batch, numLabels]` |
 * | `encoder_model` | `input_ids`, `attention_mask` | `last_hidden_state` `[batch, time, hiddenSize]` |
 * | `decoder_model` | `input_ids`, `decoder_attention_mask`, `encoder_hidden_states`, `encoder_attention_mask` | `logits` |
 *
 * Ids and masks are int64 `[batch, time]`, all else float32. Sizes are fixed: a shorter text is padded at its right, where
 * its mask is 0. Every graph is read back and checked before the folder appears, whole or not at all.
 *
 * @throws OnnxError if a graph would not fit a file.
 * @throws FolderError if the folder exists and is not empty, or cannot be written.
 */
export async function exportOnnx(
  source: ExportSource,
  folder: string,
  options: ExportOnnxOptions = {},
): Promise<ExportedOnnx> {
  const model = createModel(source.options);
  const parameters = nameParameters(model);
  const graphs = traceGraphs(model, sizesOf(model, options)).map(({ name, outputs }) => ({
    name: `${name}.onnx`,
    lowered: lower(outputs),
  }));
  const used = new Set(graphs.flatMap(({ lowered }) => lowered.feeds.map(({ name }) => name)));
  const layout = layOut(
    [...parameters].filter(([name]) => used.has(name)).map(([name, { shape }]) => [name, shape]),
  );
  return createFolder(folder, async (temporary) => {
    await createSynced(join(temporary, DATA_FILE), (handle) =>
      writeData(
        handle,
        layout,
        (name, slice) => source.readParameter(name, slice),
        (bytes) => options.onProgress?.({ bytes, totalBytes: layout.bytes }),
      ),
    );
    const summaries: Record<string, OnnxSummary> = {};
    for (const { name, lowered } of graphs) {
      const bytes = encodeGraph(lowered, layout, join(folder, name));
      await createSynced(join(temporary, name), (handle) => handle.writeFile(bytes));
      summaries[name] = await checkOnnx(join(temporary, name));
    }
    if (source.tokenizerFile !== undefined) {
      const tokenizer = await readFile(source.tokenizerFile);
      await createSynced(join(temporary, 'tokenizer.json'), (handle) => handle.writeFile(tokenizer));
    }
    return { opset: OPSET, graphs: summaries, dataBytes: layout.bytes };
  });
}

function sizesOf(
  model: Model,
  { batchSize = 1, sequenceLength, targetLength }: ExportOnnxOptions,
): Required<Pick<ExportOnnxOptions, 'batchSize' | 'sequenceLength' | 'targetLength'>> {
  const longest = 'contextLength' in model.options ? model.options.contextLength : Infinity;
  const length = sequenceLength ?? Math.min(512, longest);
  const sizes = { batchSize, sequenceLength: length, targetLength: targetLength ?? length };
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isSafeInteger(size) || size < 1)
      throw new RangeError(`${name} must be a whole number above 0, not ${size}`);
  }
  return sizes;
}

function encodeGraph(
  { graph, feeds, fetches }: LoweredProgram,
  layout: DataLayout,
  file: string,
): Uint8Array {
  const placed = new Map(layout.parameters.map((parameter) => [parameter.name, parameter]));
  const external = new Map(
    feeds.flatMap((feed) => {
      const parameter = placed.get(feed.name);
      return parameter ? placesOf(feed, parameter, DATA_FILE) : [];
    }),
  );
  const names = new Map(fetches.map(({ name, values }) => [values[0], name]));
  const inside = [...graph.constants.values()].reduce((bytes, { data }) => bytes + 8 * data.length, 0);
  if (inside > MAX_MODEL_BYTES)
    throw new OnnxError(
      file,
      `the graph would take more than 2 GB; export a smaller sequenceLength or batchSize`,
    );
  return encodeModel(renameValues(graph, names), { external });
}
