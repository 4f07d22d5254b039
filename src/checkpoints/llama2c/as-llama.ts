/**
 * Tensors of llama2.c under the names of Hugging Face's Llama, with rotary pairs where ours are.
 * @module
 */
import { elementsOf, storedDTypes } from '../safetensors/dtypes.js';
import type { ReadOptions, StoredArray, TensorInfo } from '../safetensors/index.js';
import { quote, SafetensorsError } from '../safetensors/errors.js';
import type { TensorSource } from '../tensors/index.js';

const names: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  [/^tok_embeddings\./, 'model.embed_tokens.'],
  [/^norm\./, 'model.norm.'],
  [/^output\./, 'lm_head.'],
  [/^layers\.(\d+)\.attention_norm\./, 'model.layers.$1.input_layernorm.'],
  [/^layers\.(\d+)\.ffn_norm\./, 'model.layers.$1.post_attention_layernorm.'],
  [/^layers\.(\d+)\.attention\.w([qkvo])\./, 'model.layers.$1.self_attn.$2_proj.'],
  [/^layers\.(\d+)\.feed_forward\.w1\./, 'model.layers.$1.mlp.gate_proj.'],
  [/^layers\.(\d+)\.feed_forward\.w2\./, 'model.layers.$1.mlp.down_proj.'],
  [/^layers\.(\d+)\.feed_forward\.w3\./, 'model.layers.$1.mlp.up_proj.'],
];

/**
 * llama2.c turns the neighbours 2i and 2i + 1 of a head, Hugging Face's Llama and this project i and i + headSize / 2.
 * Rows of queries and keys are put in the second order when they are read: all scores stay the same, because queries
 * and keys move alike.
 */
export class LlamaNames implements TensorSource {
  readonly location: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #originals: ReadonlyMap<string, string>;

  /** @param headSize even. */
  constructor(
    private readonly source: TensorSource,
    private readonly headSize: number,
  ) {
    this.location = source.location;
    const renamed = [...source.tensors.keys()].map((original) => {
      const rule = names.find(([pattern]) => pattern.test(original));
      return [rule ? original.replace(...(rule as [RegExp, string])) : original, original] as const;
    });
    this.#originals = new Map(renamed);
    this.tensors = new Map(
      renamed.map(([name, original]) => [name, { ...source.tensors.get(original)!, name }]),
    );
  }

  async read(name: string, options: ReadOptions = {}): Promise<StoredArray> {
    const original = this.#originals.get(name);
    if (original === undefined)
      throw new SafetensorsError('missing', this.location, `no tensor ${quote(name)}`);
    const { shape } = this.tensors.get(name)!;
    if (!/\.self_attn\.[qk]_proj\.weight$/.test(name) || shape[0] % this.headSize !== 0) {
      return this.source.read(original, options);
    }
    return this.#readHalfSplit(original, options);
  }

  close(): Promise<void> {
    return this.source.close();
  }

  async #readHalfSplit(original: string, { rows, into }: ReadOptions): Promise<StoredArray> {
    const { shape, dtype } = this.source.tensors.get(original)!;
    const stored = await this.source.read(original);
    const width = elementsOf(shape.slice(1));
    const [begin, end] = rows ?? [0, shape[0]];
    const target = into ?? new storedDTypes[dtype].array((end - begin) * width);
    if (target.length !== (end - begin) * width)
      throw new SafetensorsError('target', this.location, `${quote(original)} does not fit the given array`);
    const half = this.headSize / 2;
    for (let row = begin; row < end; row++) {
      const within = row % this.headSize;
      const from = row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
      target.set(stored.subarray(from * width, (from + 1) * width) as never, (row - begin) * width);
    }
    return target;
  }
}
