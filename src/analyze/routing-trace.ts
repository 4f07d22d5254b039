/**
 * Routing as a model did it: every decision over a set of tokens, brought out of the program.
 * @module
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Batch, BatchSequence, BatchShape } from '../data/index.js';
import type { Tensor } from '../graph/index.js';
import type { LanguageModel } from '../models/index.js';
import type { RoutingRecord } from '../moe/index.js';
import { evaluationContext } from '../nn/index.js';
import { compile, type Program, type RuntimeOptions } from '../runtime/index.js';
import { batchFeeds, memoryLength, SegmentBuffers, traceObjective } from '../train/index.js';

/** One place where the model routes: a sparse layer, or one stratum of it. */
export type TracedLayer = Pick<RoutingRecord, 'name' | 'layerIndex' | 'numExperts' | 'firstExpert' | 'topK'>;

/** Decisions of one layer. */
export interface LayerTrace extends TracedLayer {
  /** `[tokens, topK]`, best first; −1 is no choice. */
  readonly experts: Int32Array;
  /** `[tokens, topK]`, as the router gave them. */
  readonly gates: Float32Array;
  /** `[tokens, numExperts]`, each row a distribution, or zeros for a token that does not come to a stratum. */
  readonly probabilities: Float32Array;
}

/** Decisions of all layers over the same tokens, padding left out. */
export interface RoutingTrace {
  /** Token ids `[tokens]`. */
  readonly tokens: Int32Array;
  /** Number of the sequence that each token stands in, `[tokens]`. */
  readonly rows: Int32Array;
  /** Place of each token in its sequence, `[tokens]`. */
  readonly positions: Int32Array;
  /** Number of the batch that each token was in, `[tokens]`. */
  readonly batches: Int32Array;
  /** Language ids `[tokens]`, where the data knows them. */
  readonly languages?: Int32Array;
  readonly layers: readonly LayerTrace[];
}

/** First choice of every token, `[tokens]`; −1 where there is none. */
export function firstChoices({ experts, topK }: Pick<LayerTrace, 'experts' | 'topK'>): Int32Array {
  return Int32Array.from({ length: experts.length / topK }, (_, token) => experts[token * topK]);
}

/** First and end of each stretch of equal neighbours: the sequences of a trace by its rows, its batches by their numbers. */
export function stretchesOf(values: ArrayLike<number>): (readonly [start: number, end: number])[] {
  const found: (readonly [number, number])[] = [];
  for (let start = 0, end = 1; start < values.length; end++) {
    if (end < values.length && values[end] === values[start]) continue;
    found.push([start, end]);
    start = end;
  }
  return found;
}

/** Batches to route. Where each goes on in the rows of the one before, as a stream does, it says so. */
export type TracedBatches = Iterable<Batch> & Pick<BatchSequence, 'continues'>;

/** A compiled forward pass that gives out routing and nothing else. Weights are read from the buffers it was given. */
export class RoutingTracer {
  private constructor(
    private readonly program: Program | undefined,
    /** Where the model routes, in order; empty for a model without records. */
    readonly layers: readonly TracedLayer[],
    private readonly shape: BatchShape,
    private readonly memory: SegmentBuffers | undefined,
  ) {}

  /** @param weights every parameter of the model by name; changes to them show in later traces. */
  static async create(
    model: LanguageModel,
    weights: Iterable<readonly [string, Float32Array]>,
    shape: BatchShape,
    runtime: RuntimeOptions = {},
  ): Promise<RoutingTracer> {
    const { records, memory } = traceObjective(model, shape, evaluationContext(), true);
    const outputs: Record<string, Tensor> = { ...memory };
    for (const { name, experts, gates, probabilities } of records) {
      outputs[`experts.${name}`] = experts;
      outputs[`gates.${name}`] = gates;
      outputs[`probabilities.${name}`] = probabilities;
    }
    const layers = records.map(({ name, layerIndex, numExperts, firstExpert, topK }) => {
      return { name, layerIndex, numExperts, firstExpert, topK };
    });
    const program = records.length === 0 ? undefined : (await compile(outputs, runtime)).bindKnown(weights);
    const buffers = SegmentBuffers.create(model, shape.batchSize, memoryLength(model, false));
    return new RoutingTracer(program, layers, shape, buffers);
  }

  /**
   * Routes batches until `maxTokens` real tokens are collected. A model with a memory remembers the batch before where
   * batches continue each other, as in its evaluation, and nothing where they do not.
   * @throws RangeError if there is no token in the batches.
   */
  async trace(batches: TracedBatches, maxTokens = Infinity): Promise<RoutingTrace> {
    const collected = this.layers.map(() => ({ experts: [], gates: [], probabilities: [] }));
    const [tokens, rows, positions, batchOf, languages]: number[][] = [[], [], [], [], []];
    let index = 0;
    for (const batch of batches) {
      if (index === 0 || !batches.continues) this.memory?.reset();
      if (tokens.length >= maxTokens) break;
      // A second Ctrl-C must not wait for the end of a long trace.
      await nextTurn();
      const results = await this.run(batch);
      const { contextLength, batchSize } = this.shape;
      for (let i = 0; i < batch.tokens.length && tokens.length < maxTokens; i++) {
        if (!batch.mask[i]) continue;
        tokens.push(batch.tokens[i]);
        rows.push(index * batchSize + Math.floor(i / contextLength));
        positions.push(i % contextLength);
        batchOf.push(index);
        if (batch.languages) languages.push(batch.languages[i]);
        this.layers.forEach((layer, l) => collect(collected[l], results[l], layer, i));
      }
      index++;
    }
    if (tokens.length === 0) throw new RangeError('there is no token to route');
    return {
      tokens: Int32Array.from(tokens),
      rows: Int32Array.from(rows),
      positions: Int32Array.from(positions),
      batches: Int32Array.from(batchOf),
      ...(languages.length === tokens.length ? { languages: Int32Array.from(languages) } : {}),
      layers: this.layers.map((layer, l) => ({
        ...layer,
        experts: Int32Array.from(collected[l].experts),
        gates: Float32Array.from(collected[l].gates),
        probabilities: Float32Array.from(collected[l].probabilities),
      })),
    };
  }

  private async run(batch: Batch): Promise<readonly RawDecisions[]> {
    if (!this.program) return [];
    const { languages = new Int32Array(batch.tokens.length) } = batch;
    this.program.bindKnown(Object.entries(batchFeeds({ ...batch, languages })));
    this.memory?.bind(this.program);
    const results = await this.program.run();
    this.memory?.advance();
    return this.layers.map(({ name }) => ({
      experts: results[`experts.${name}`] as Int32Array,
      gates: results[`gates.${name}`] as Float32Array,
      probabilities: results[`probabilities.${name}`] as Float32Array,
    }));
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program?.release();
  }
}

type Collected = Record<'experts' | 'gates' | 'probabilities', number[]>;
type RawDecisions = Pick<LayerTrace, 'experts' | 'gates' | 'probabilities'>;

function collect(
  into: Collected,
  from: RawDecisions,
  { topK, numExperts }: TracedLayer,
  token: number,
): void {
  for (let k = token * topK; k < (token + 1) * topK; k++) {
    into.experts.push(from.experts[k]);
    into.gates.push(from.gates[k]);
  }
  for (let e = token * numExperts; e < (token + 1) * numExperts; e++) {
    into.probabilities.push(from.probabilities[e]);
  }
}

/** Batches of given rows of ids, each cut to the context and padded behind; one language for all of a row. */
export function* batchesOfRows(
  rows: readonly ArrayLike<number>[],
  { batchSize, contextLength }: BatchShape,
  languageOf: (row: number) => number = () => 0,
): Generator<Batch> {
  const size = batchSize * contextLength;
  for (let first = 0; first < rows.length; first += batchSize) {
    const tokens = new Int32Array(size);
    const mask = new Uint8Array(size);
    const languages = new Int32Array(size);
    rows.slice(first, first + batchSize).forEach((row, i) => {
      const length = Math.min(row.length, contextLength);
      for (let t = 0; t < length; t++) tokens[i * contextLength + t] = row[t];
      mask.fill(1, i * contextLength, i * contextLength + length);
      languages.fill(languageOf(first + i), i * contextLength, i * contextLength + length);
    });
    yield { tokens, mask, languages, targets: new Int32Array(size).fill(-100) };
  }
}
