/**
 * Classifier of whole texts on the encoder–decoder Transformer.
 * @module
 */
import {
  add,
  argMax,
  cast,
  concat,
  divide,
  equal,
  fill,
  gather,
  greater,
  maximum,
  mean,
  multiply,
  range,
  reshape,
  slice,
  sum,
  tanh,
  type Tensor,
} from '../graph/index.js';
import {
  biasInitializer,
  dropout,
  Embedding,
  Linear,
  Module,
  normal,
  weightInitializer,
  type TraceContext,
} from '../nn/index.js';
import type { ClassifierOptions } from './classifier-options.js';
import type { SourceInputs } from './encoder-decoder.js';
import { EncoderDecoderStack } from './encoder-decoder-stack.js';
import type { ModelReport } from './layer-reports.js';

/** What a traced classifier returns. */
export interface ClassifierOutput extends ModelReport {
  /** `[batch, numLabels]` */
  readonly logits: Tensor;
}

/** `W_out tanh(W x + b) + b_out`, with dropout before each map in training. */
class ClassificationHead extends Module {
  readonly dense: Linear;
  readonly output: Linear;

  constructor(private readonly options: ClassifierOptions) {
    super();
    const { hiddenSize, numLabels, initialization } = options;
    const weight = weightInitializer(initialization, hiddenSize);
    const bias = biasInitializer(initialization, hiddenSize);
    this.dense = new Linear(hiddenSize, hiddenSize, weight, { bias });
    this.output = new Linear(hiddenSize, numLabels, weight, { bias });
  }

  /** `[batch, hiddenSize]` → `[batch, numLabels]` */
  forward(x: Tensor, context: TraceContext): Tensor {
    const drop = (y: Tensor, part: string): Tensor =>
      dropout(y, this.options.headDropout, `classifier.${part}`, context);
    const inner = tanh(this.dense.forward(drop(x, 'input')));
    return this.output.forward(drop(inner, 'inner'));
  }
}

/**
 * Tells which class a text belongs to, by what a Transformer made of it: ResMoE's head on the decoder's state at the
 * end of the text, or SiDA's on the mean of the encoder's states. Parameters of encoder and decoder have the names that
 * they have in an {@link EncoderDecoder}, so a pre-trained one's fit as they are; the head's begin with `classifier.`.
 */
export class Classifier extends Module {
  readonly embedding: Embedding;
  readonly encoder: EncoderDecoderStack;
  /** Absent where the head reads the encoder. */
  readonly decoder: EncoderDecoderStack | undefined;
  readonly classifier: ClassificationHead;

  constructor(readonly options: ClassifierOptions) {
    super();
    const { vocabSize, hiddenSize, initialization, numEncoderLayers, head } = options;
    this.embedding = new Embedding(vocabSize, hiddenSize, normal(initialization.embedding));
    this.encoder = new EncoderDecoderStack(options, 'encoder', 0);
    this.decoder =
      head === 'decoderEos' ? new EncoderDecoderStack(options, 'decoder', numEncoderLayers) : undefined;
    this.classifier = new ClassificationHead(options);
  }

  /**
   * Traces the model over static `[batch, sourceTime]` ids, each text followed by its end token and padding.
   * @throws RangeError if there are more tokens than it takes.
   */
  forward(inputs: SourceInputs, context: TraceContext): ClassifierOutput {
    const { source: tokens, sourceMask: mask, sourceLanguages: languages } = inputs;
    const encoded = this.encoder.forward(
      { embedded: this.embedding.forward(tokens), tokens, mask, languages },
      context,
    );
    if (!this.decoder) {
      const { states, ...reports } = encoded;
      return { logits: this.classifier.forward(this.meanOf(states, mask), context), ...reports };
    }
    const shifted = this.shiftRight(tokens);
    const decoded = this.decoder.forward(
      {
        embedded: this.embedding.forward(shifted),
        tokens: shifted,
        mask,
        languages,
        memory: { states: encoded.states, mask },
      },
      context,
    );
    return {
      logits: this.classifier.forward(this.stateAtEnd(decoded.states, inputs), context),
      records: [...encoded.records, ...decoded.records],
      losses: [...encoded.losses, ...decoded.losses],
      updates: [...encoded.updates, ...decoded.updates],
    };
  }

  /** Over real tokens, or over all positions: `[batch, time, hiddenSize]` → `[batch, hiddenSize]` */
  private meanOf(states: Tensor, mask: Tensor | undefined): Tensor {
    if (!mask || this.options.mean === 'released') return mean(states, 1);
    const [batch, time] = mask.shape;
    const total = sum(multiply(states, reshape(mask, [batch, time, 1])), 1);
    return divide(total, maximum(sum(mask, 1, true), 1));
  }

  /** What the decoder reads: the start token, then the text without its last position. */
  private shiftRight(tokens: Tensor): Tensor {
    const { padTokenId = 0, decoderStartTokenId = padTokenId } = this.options;
    const [batch, time] = tokens.shape as [number, number];
    const start = fill('int32', [batch, 1], decoderStartTokenId);
    return time === 1 ? start : concat([start, slice(tokens, 1, 0, time - 1)], 1);
  }

  /** The state at the last end token, or at the last real token of a text that was cut off before its end. */
  private stateAtEnd(states: Tensor, { source, sourceMask }: SourceInputs): Tensor {
    const { eosTokenId, hiddenSize } = this.options;
    const [batch, time] = source.shape as [number, number];
    const isEnd =
      eosTokenId === undefined
        ? fill('float32', [batch, time], 0)
        : cast(equal(source, eosTokenId), 'float32');
    const rank = add(multiply(isEnd, time), cast(range(time), 'float32'));
    const last = argMax(sourceMask ? multiply(rank, cast(greater(sourceMask, 0), 'float32')) : rank);
    const row = add(last, multiply(range(batch), time));
    return gather(reshape(states, [batch * time, hiddenSize]), row);
  }
}
