/**
 * A predictor that runs: texts in, the router's probable decisions out.
 * @module
 */
import { cast, gather, input, softmax, topK, type Tensor } from '../../graph/index.js';
import { nameParameters } from '../../nn/index.js';
import { compile, type Program, type RuntimeOptions } from '../../runtime/index.js';
import { PredictorError } from './errors.js';
import { embeddingName } from './fingerprint.js';
import { PerBucket } from './length-buckets.js';
import { RoutingPredictor } from './network.js';
import type { PredictedLayer } from './options.js';
import type { LoadedPredictor } from './predictor-folder.js';
import { tokenFeeds } from './training-batches.js';

/** What a predictor says of one layer over several texts. */
export interface LayerPrediction {
  readonly layer: PredictedLayer;
  /** Guesses for a token. */
  readonly topK: number;
  /** `[positions, topK]`: the most probable experts, best first; texts one after the other, without padding. */
  readonly experts: Int32Array;
  /**
   * `[positions, topK]`: SiDA's α, the student's softmax over all experts at those; not renormalised.
   */
  readonly probabilities: Float32Array;
}

/** Settings of {@link PredictorProgram}. */
export interface PredictorProgramOptions {
  /** Texts that are computed at once; default 16. */
  readonly batchSize?: number;
  /** Guesses for a token; fewer where a layer has fewer experts. By default each layer's own number of choices. */
  readonly topK?: number;
  /** Longest text. */
  readonly contextLength: number;
  readonly runtime?: RuntimeOptions;
}

/** A compiled predictor over one table of embeddings. */
export class PredictorProgram {
  private readonly programs: PerBucket<Program>;
  private readonly widths: readonly number[];
  private readonly batchSize: number;
  private running: Promise<unknown> = Promise.resolve();

  /**
   * Programs are compiled when a length first needs them.
   * @param embeddings the model's token embeddings `[vocabSize, embeddingSize]`, row after row.
   * @throws PredictorError if they are of another width.
   */
  constructor(
    private readonly predictor: LoadedPredictor,
    embeddings: Float32Array,
    private readonly options: PredictorProgramOptions,
  ) {
    const { batchSize = 16, contextLength, runtime = {} } = options;
    const { embeddingSize, layers } = predictor.options;
    if (embeddings.length % embeddingSize !== 0)
      throw new PredictorError(
        `${predictor.source}: it reads embeddings of width ${embeddingSize}, which the model's are not`,
      );
    this.batchSize = batchSize;
    this.widths = layers.map(({ numExperts, topK: chosen }) => Math.min(options.topK ?? chosen, numExperts));
    const network = new RoutingPredictor(predictor.options);
    nameParameters(network);
    this.programs = new PerBucket(contextLength, async (length) => {
      const table = input(embeddingName, 'float32', [embeddings.length / embeddingSize, embeddingSize]);
      const size = [batchSize, length];
      const mask = cast(input('mask', 'bool', size), 'float32');
      const logits = network.forward(gather(table, input('ids', 'int32', size)), mask);
      const outputs: Record<string, Tensor> = {};
      logits.forEach((scores, l) => {
        const { values, indices } = topK(softmax(scores), this.widths[l]);
        outputs[`experts.${l}`] = cast(indices, 'int32');
        outputs[`probabilities.${l}`] = values;
      });
      const program = await compile(outputs, runtime);
      return program.bindKnown(predictor.weights).bind({ [embeddingName]: embeddings });
    });
  }

  /** The layers that are predicted, in the order of the predictions. */
  get layers(): readonly PredictedLayer[] {
    return this.predictor.options.layers;
  }

  /**
   * Predicts whole texts. Calls run one after another.
   * @param rows token ids of each
   * @throws RangeError for an empty text or one that is too long.
   */
  predict(rows: readonly Int32Array[]): Promise<readonly LayerPrediction[]> {
    const run = this.running.then(() => this.predictNow(rows));
    this.running = run.catch(() => undefined);
    return run;
  }

  private async predictNow(rows: readonly Int32Array[]): Promise<readonly LayerPrediction[]> {
    const { contextLength } = this.options;
    const starts: number[] = [];
    let positions = 0;
    for (const { length } of rows) {
      if (length === 0 || length > contextLength)
        throw new RangeError(`a text of ${length} tokens cannot be predicted: 1 to ${contextLength} can`);
      starts.push(positions);
      positions += length;
    }
    const predictions = this.layers.map((layer, l) => ({
      layer,
      topK: this.widths[l],
      experts: new Int32Array(positions * this.widths[l]),
      probabilities: new Float32Array(positions * this.widths[l]),
    }));
    const byLength = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length);
    for (let first = 0; first < byLength.length; first += this.batchSize) {
      const chosen = byLength.slice(first, first + this.batchSize);
      const { length, program } = await this.programs.for(rows[chosen.at(-1)!].length);
      const feeds = tokenFeeds(
        chosen.map((i) => rows[i]),
        this.batchSize,
        length,
      );
      // A predictor without attention reads no mask.
      const results = await program.bindKnown(Object.entries(feeds)).run();
      predictions.forEach(({ topK: width, experts, probabilities }, l) => {
        const guesses = results[`experts.${l}`] as Int32Array;
        const shares = results[`probabilities.${l}`] as Float32Array;
        chosen.forEach((row, at) => {
          const [from, count] = [at * length * width, rows[row].length * width];
          experts.set(guesses.subarray(from, from + count), starts[row] * width);
          probabilities.set(shares.subarray(from, from + count), starts[row] * width);
        });
      });
    }
    return predictions;
  }

  /** Frees all sessions. */
  async release(): Promise<void> {
    await this.programs.release();
  }
}
