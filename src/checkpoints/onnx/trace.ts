/**
 * The graphs that a model is exported as, with the names that `optimum` and `transformers.js` give to files, inputs and
 * outputs.
 * @module
 */
import { cast, input, reshape, type Tensor } from '../../graph/index.js';
import { Classifier, EncoderDecoder, LanguageModel, type Model } from '../../models/index.js';
import { evaluationContext } from '../../nn/index.js';

/** One graph to export. */
export interface TracedGraph {
  /** Name of its file without `.onnx`. */
  readonly name: string;
  /** What it computes, by name. */
  readonly outputs: Readonly<Record<string, Tensor>>;
}

/** Sizes that the graphs are traced for. */
export interface TraceSizes {
  /** Texts side by side. */
  readonly batchSize: number;
  /** Tokens of a text, of the source where there are two. */
  readonly sequenceLength: number;
  /** Tokens of the target. */
  readonly targetLength: number;
}

/** Tokens (int32) and mask (float) of a text, fed as int64 `[batch, time]` as all exports of the field have them. */
function textInputs(
  batch: number,
  time: number,
  maskName = 'attention_mask',
): { readonly tokens: Tensor; readonly mask: Tensor } {
  return {
    tokens: cast(input('input_ids', 'int64', [batch, time]), 'int32'),
    mask: cast(input(maskName, 'int64', [batch, time]), 'float32'),
  };
}

/** Traces a model whose parameters have been named. */
export function traceGraphs(model: Model, sizes: TraceSizes): readonly TracedGraph[] {
  if (model instanceof LanguageModel) return [traceLanguageModel(model, sizes)];
  if (model instanceof Classifier) return [traceClassifier(model, sizes)];
  return [traceEncoder(model, sizes), traceDecoder(model, sizes)];
}

function traceLanguageModel(
  model: LanguageModel,
  { batchSize: batch, sequenceLength: time }: TraceSizes,
): TracedGraph {
  const { tokens, mask } = textInputs(batch, time);
  const { logits } = model.forward({ tokens, mask }, evaluationContext());
  return {
    name: 'model',
    outputs: { logits: reshape(logits, [batch, time, model.options.vocabSize]) },
  };
}

function traceClassifier(
  model: Classifier,
  { batchSize: batch, sequenceLength: time }: TraceSizes,
): TracedGraph {
  const { tokens: source, mask: sourceMask } = textInputs(batch, time);
  const { logits } = model.forward({ source, sourceMask }, evaluationContext());
  return { name: 'model', outputs: { logits } };
}

function traceEncoder(
  model: EncoderDecoder,
  { batchSize: batch, sequenceLength: time }: TraceSizes,
): TracedGraph {
  const { tokens: source, mask: sourceMask } = textInputs(batch, time);
  const { states } = model.encode({ source, sourceMask }, evaluationContext());
  return { name: 'encoder_model', outputs: { last_hidden_state: states } };
}

function traceDecoder(
  model: EncoderDecoder,
  { batchSize: batch, sequenceLength, targetLength: time }: TraceSizes,
): TracedGraph {
  const { hiddenSize, vocabSize } = model.options;
  const { tokens: target, mask: targetMask } = textInputs(batch, time, 'decoder_attention_mask');
  const states = input('encoder_hidden_states', 'float32', [batch, sequenceLength, hiddenSize]);
  const sourceMask = cast(input('encoder_attention_mask', 'int64', [batch, sequenceLength]), 'float32');
  const { logits } = model.decode({ target, targetMask, states, sourceMask }, evaluationContext());
  return {
    name: 'decoder_model',
    outputs: { logits: reshape(logits, [batch, time, vocabSize]) },
  };
}
