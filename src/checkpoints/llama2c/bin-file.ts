/**
 * Reads the model file of llama2.c (legacy version 0, `export.py` and `run.c`).
 * @module
 */
import { open, type FileHandle } from 'node:fs/promises';
import { ModelFolderError } from '../hugging-face/errors.js';
import type { JsonObject } from '../json.js';
import { elementsOf } from '../safetensors/dtypes.js';
import type { ReadOptions, StoredArray, TensorInfo } from '../safetensors/index.js';
import { quote, SafetensorsError } from '../safetensors/errors.js';
import { explain } from '../system-error.js';
import type { TensorSource } from '../tensors/index.js';

/** Seven int32. */
const HEADER_BYTES = 28;

/** Larger sizes are no model but another kind of file. */
const LARGEST_SIZE = 1 << 24;

/** Where a tensor lies: element offset after the header. */
interface Place {
  readonly info: TensorInfo;
  readonly offset: number;
}

/** What the header says, but for the sign of the vocabulary. */
interface Sizes {
  readonly dim: number;
  readonly hiddenDim: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  readonly vocabSize: number;
  readonly seqLen: number;
}

/** An open file: what it says of the model, by the names of llama2.c's `ModelArgs`, and its tensors by theirs. */
export interface Llama2cFile {
  readonly config: JsonObject;
  readonly source: TensorSource;
}

/**
 * Opens a file: seven little-endian int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, negative where the
 * classifier has weights of its own, seq_len), then float32: embedding; for each kind of weight a stack over the layers;
 * last norm; two tables of angles, which are not used; the classifier. Nothing but the header is read until asked for.
 *
 * @throws ModelFolderError in one line if sizes and length of the file do not fit.
 */
export async function openLlama2cFile(path: string): Promise<Llama2cFile> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    throw new ModelFolderError(`${path}: cannot open: ${explain(error)}`, { cause: error });
  }
  try {
    const { size } = await handle.stat();
    const header = Buffer.alloc(HEADER_BYTES);
    await handle.read(header, 0, HEADER_BYTES, 0);
    const numbers = Array.from({ length: 7 }, (_, index) => header.readInt32LE(4 * index));
    const [dim, hiddenDim, numLayers, numHeads, numKeyValueHeads, signedVocab, seqLen] = numbers;
    const sizes = {
      dim,
      hiddenDim,
      numLayers,
      numHeads,
      numKeyValueHeads,
      vocabSize: Math.abs(signedVocab),
      seqLen,
    };
    const isModel =
      Object.values(sizes).every((each) => each > 0 && each < LARGEST_SIZE) && dim % numHeads === 0;
    if (size < HEADER_BYTES || !isModel) {
      throw new ModelFolderError(`${path}: no model of llama2.c: its header is ${numbers.join(', ')}`);
    }
    const { places, elements } = layOut(sizes, signedVocab > 0);
    const expected = HEADER_BYTES + 4 * elements;
    if (size !== expected) {
      throw new ModelFolderError(
        `${path}: a model of llama2.c with the header ${numbers.join(', ')} has ${expected} bytes, this file ${size}`,
      );
    }
    return {
      config: {
        dim,
        hidden_dim: hiddenDim,
        n_layers: numLayers,
        n_heads: numHeads,
        n_kv_heads: numKeyValueHeads,
        vocab_size: sizes.vocabSize,
        max_seq_len: seqLen,
        tie_word_embeddings: signedVocab > 0,
      },
      source: new BinSource(path, handle, places),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function layOut(
  { dim, hiddenDim, numLayers, numHeads, numKeyValueHeads, vocabSize, seqLen }: Sizes,
  isTied: boolean,
): { places: ReadonlyMap<string, Place>; elements: number } {
  const keyWidth = (dim / numHeads) * numKeyValueHeads;
  const places = new Map<string, Place>();
  let offset = 0;
  const put = (name: string, ...shape: number[]): void => {
    places.set(name, { info: { name, dtype: 'F32', shape }, offset });
    offset += elementsOf(shape);
  };
  const stack = (name: string, ...shape: number[]): void => {
    for (let layer = 0; layer < numLayers; layer++) put(`layers.${layer}.${name}.weight`, ...shape);
  };
  put('tok_embeddings.weight', vocabSize, dim);
  stack('attention_norm', dim);
  stack('attention.wq', dim, dim);
  stack('attention.wk', keyWidth, dim);
  stack('attention.wv', keyWidth, dim);
  stack('attention.wo', dim, dim);
  stack('ffn_norm', dim);
  stack('feed_forward.w1', hiddenDim, dim);
  stack('feed_forward.w2', dim, hiddenDim);
  stack('feed_forward.w3', hiddenDim, dim);
  put('norm.weight', dim);
  // Cosines and sines: [seq_len, head size / 2] each.
  offset += seqLen * Math.floor(dim / numHeads / 2) * 2;
  if (!isTied) put('output.weight', vocabSize, dim);
  return { places, elements: offset };
}

class BinSource implements TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;

  constructor(
    readonly location: string,
    private readonly handle: FileHandle,
    private readonly places: ReadonlyMap<string, Place>,
  ) {
    this.tensors = new Map([...places].map(([name, { info }]) => [name, info]));
  }

  async read(name: string, { rows, into }: ReadOptions = {}): Promise<StoredArray> {
    const place = this.places.get(name);
    if (!place) throw new SafetensorsError('missing', this.location, `no tensor ${quote(name)}`);
    const [height, ...rest] = place.info.shape;
    const [begin, end] = rows ?? [0, height];
    if (!(Number.isInteger(begin) && Number.isInteger(end) && begin >= 0 && begin <= end && end <= height))
      throw new SafetensorsError('target', this.location, `${quote(name)} has no rows ${begin} to ${end}`);
    const width = elementsOf(rest);
    const length = (end - begin) * width;
    const target = into ?? new Float32Array(length);
    if (!(target instanceof Float32Array) || target.length !== length)
      throw new SafetensorsError(
        'target',
        this.location,
        `${quote(name)} takes a Float32Array of ${length} elements`,
      );
    const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
    let position = HEADER_BYTES + 4 * (place.offset + begin * width);
    for (let done = 0; done < bytes.length;) {
      const { bytesRead } = await this.handle.read(
        bytes,
        done,
        Math.min(bytes.length - done, 64 << 20),
        position,
      );
      if (bytesRead === 0)
        throw new SafetensorsError(
          'changed',
          this.location,
          `was cut short while it was open, at ${quote(name)}`,
        );
      done += bytesRead;
      position += bytesRead;
    }
    return target;
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}
