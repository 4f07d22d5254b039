/**
 * Multi-head latent attention: keys and values of all heads out of one short vector a token, which is all that a cache
 * keeps of it. DeepSeek-V2, arXiv 2405.04434 §2.1.
 * @module
 */
import { broadcastTo, concat, matmul, reshape, slice, type Tensor } from '../graph/index.js';
import {
  joinHeads,
  probabilityDropout,
  scaledDotProductAttention,
  splitHeads,
  type AttentionInputs,
  type AttentionLayer,
  type AttentionPast,
  type CacheEntry,
  type CacheSizes,
} from './attention.js';
import { cachedAttention } from './cached-attention.js';
import type { TraceContext } from './context.js';
import type { Initializer } from './initializers.js';
import { Linear, RMSNorm } from './layers.js';
import { Module } from './module.js';
import { rotate, type RotaryPositions } from './rotary.js';

/** Sizes of a {@link LatentAttention}. */
export interface LatentAttentionSizes {
  readonly hiddenSize: number;
  readonly numHeads: number;
  /** Length of the vector that queries come out of; null projects them from the hidden state. */
  readonly queryRank: number | null;
  /** Length of the vector that keys and values come out of. */
  readonly keyValueRank: number;
  /** Features of a query and key that know nothing of positions. */
  readonly contentHeadSize: number;
  /** Features of a query and key that are rotated; those of the key are the same in all heads. */
  readonly rotaryHeadSize: number;
  readonly valueHeadSize: number;
  /** Biases on the projections of the hidden state to the short vectors. */
  readonly bias?: boolean;
  /** A bias on the output projection; as `bias` when absent. */
  readonly outputBias?: boolean;
  /** Multiplies the scores beside 1 / √(contentHeadSize + rotaryHeadSize). */
  readonly scoreFactor?: number;
}

/**
 * With `c = norm(W_down x)` and the rotated `r`: head h has the key `[W_uk,h c, r]` and the value `W_uv,h c`. A cache keeps
 * `[c, r]`; passes that go on from it never make the keys: `q · W_uk c = (W_ukᵀ q) · c`.
 */
export class LatentAttention extends Module implements AttentionLayer {
  /** W_q, or W_uq where queries have a vector of their own. */
  readonly query: Linear;
  readonly queryDown: Linear | undefined;
  readonly queryNorm: RMSNorm | undefined;
  /** To `[keyValueRank, rotaryHeadSize]`. */
  readonly keyValueDown: Linear;
  readonly keyValueNorm: RMSNorm;
  /** To `[numHeads, contentHeadSize + valueHeadSize]`. */
  readonly keyValueUp: Linear;
  readonly output: Linear;

  constructor(
    private readonly sizes: LatentAttentionSizes,
    weight: (fanIn: number) => Initializer,
    outputWeight: Initializer,
  ) {
    super();
    const { hiddenSize, numHeads, queryRank, keyValueRank, rotaryHeadSize, valueHeadSize } = sizes;
    const { contentHeadSize, bias = false, outputBias = bias } = sizes;
    const queryWidth = numHeads * (contentHeadSize + rotaryHeadSize);
    if (queryRank === null) this.query = new Linear(hiddenSize, queryWidth, weight(hiddenSize));
    else {
      this.queryDown = new Linear(hiddenSize, queryRank, weight(hiddenSize), { bias });
      // The norms of the short vectors have 1e-6, whatever the model's own have.
      this.queryNorm = new RMSNorm(queryRank);
      this.query = new Linear(queryRank, queryWidth, weight(queryRank));
    }
    this.keyValueDown = new Linear(hiddenSize, keyValueRank + rotaryHeadSize, weight(hiddenSize), { bias });
    this.keyValueNorm = new RMSNorm(keyValueRank);
    const width = numHeads * (contentHeadSize + valueHeadSize);
    this.keyValueUp = new Linear(keyValueRank, width, weight(keyValueRank));
    this.output = new Linear(numHeads * valueHeadSize, hiddenSize, outputWeight, { bias: outputBias });
  }

  /** `[batch, time, hiddenSize]` → the same shape */
  forward(x: Tensor, inputs: AttentionInputs, context: TraceContext): Tensor {
    return this.attend(x, this.latents(x, inputs.rotary), inputs, context);
  }

  get cacheSizes(): CacheSizes {
    return { latent: { heads: 1, size: this.sizes.keyValueRank + this.sizes.rotaryHeadSize } };
  }

  forwardCached(
    x: Tensor,
    inputs: AttentionInputs,
    past: AttentionPast | undefined,
    context: TraceContext,
  ): { output: Tensor; entry: CacheEntry } {
    const latent = this.latents(x, inputs.rotary);
    const entry = { latent };
    if (!past) return { output: this.attend(x, latent, inputs, context), entry };
    const { content, rotated } = this.queries(x, inputs.rotary);
    const [keys, values] = this.upMatrices();
    const absorbed = concat([matmul(content, keys), rotated], 3);
    const read = cachedAttention(
      absorbed,
      this.asKeyAndValue(latent),
      { ...past, entry: this.asKeyAndValue(past.entry['latent']) },
      { ...inputs, scale: this.scale },
    );
    return { output: this.output.forward(joinHeads(matmul(read, values, { transposeB: true }))), entry };
  }

  private get scale(): number {
    const { contentHeadSize, rotaryHeadSize, scoreFactor = 1 } = this.sizes;
    return scoreFactor / Math.sqrt(contentHeadSize + rotaryHeadSize);
  }

  /** `[c, r]`: `[batch, 1, time, keyValueRank + rotaryHeadSize]`. */
  private latents(x: Tensor, rotary: RotaryPositions | undefined): Tensor {
    const { keyValueRank: rank, rotaryHeadSize } = this.sizes;
    const down = this.keyValueDown.forward(x);
    const content = this.keyValueNorm.forward(slice(down, 2, 0, rank));
    const rotated = rotate(splitHeads(slice(down, 2, rank, rank + rotaryHeadSize), 1), rotary);
    return concat([splitHeads(content, 1), rotated], 3);
  }

  /** The parts of the queries, `[batch, numHeads, time, …]`. */
  private queries(x: Tensor, rotary: RotaryPositions | undefined): { content: Tensor; rotated: Tensor } {
    const { numHeads, contentHeadSize: content, rotaryHeadSize } = this.sizes;
    const from = this.queryDown && this.queryNorm ? this.queryNorm.forward(this.queryDown.forward(x)) : x;
    const query = splitHeads(this.query.forward(from), numHeads);
    return {
      content: slice(query, 3, 0, content),
      rotated: rotate(slice(query, 3, content, content + rotaryHeadSize), rotary),
    };
  }

  /** Full attention: keys and values of every head are made. */
  private attend(x: Tensor, latent: Tensor, inputs: AttentionInputs, context: TraceContext): Tensor {
    const { numHeads, keyValueRank: rank, contentHeadSize, valueHeadSize, rotaryHeadSize } = this.sizes;
    const { content, rotated } = this.queries(x, inputs.rotary);
    const [batch, , time] = latent.shape as [number, number, number];
    const flat = reshape(slice(latent, 3, 0, rank), [batch, time, rank]);
    const up = splitHeads(this.keyValueUp.forward(flat), numHeads);
    const shared = broadcastTo(slice(latent, 3, rank, rank + rotaryHeadSize), [
      batch,
      numHeads,
      time,
      rotaryHeadSize,
    ]);
    const attended = scaledDotProductAttention(
      concat([content, rotated], 3),
      concat([slice(up, 3, 0, contentHeadSize), shared], 3),
      slice(up, 3, contentHeadSize, contentHeadSize + valueHeadSize),
      { ...inputs, scale: this.scale, dropProbabilities: probabilityDropout(inputs, context) },
    );
    return this.output.forward(joinHeads(attended));
  }

  /** W_uk and W_uv of every head: `[numHeads, size, keyValueRank]`. */
  private upMatrices(): [keys: Tensor, values: Tensor] {
    const { numHeads, keyValueRank, contentHeadSize: content, valueHeadSize } = this.sizes;
    const up = reshape(this.keyValueUp.weight.tensor, [numHeads, content + valueHeadSize, keyValueRank]);
    return [slice(up, 1, 0, content), slice(up, 1, content, content + valueHeadSize)];
  }

  /** Latents in the place of a single head's keys and values. */
  private asKeyAndValue(latent: Tensor): CacheEntry {
    return { key: latent, value: slice(latent, 3, 0, this.sizes.keyValueRank) };
  }
}
