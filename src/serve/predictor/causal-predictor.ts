/**
 * A causal predictor that goes on token by token, for text that is being written.
 * @module
 */
import { add, cast, gather, input, relu, softmax, topK, type Tensor } from '../../graph/index.js';
import { nameParameters } from '../../nn/index.js';
import { compile, type Program, type RuntimeOptions } from '../../runtime/index.js';
import { PredictorError } from './errors.js';
import { embeddingName } from './fingerprint.js';
import type { LstmState } from './lstm.js';
import { RoutingPredictor } from './network.js';
import type { PredictedLayer } from './options.js';
import type { LoadedPredictor } from './predictor-folder.js';

/** What the predictor remembers of one text. */
export interface TextMemory {
  /** Tokens that it has seen. */
  length: number;
  /** Hidden state and cell of each LSTM layer. */
  readonly recurrent: readonly { readonly hidden: Float32Array; readonly cell: Float32Array }[];
  /** The last LSTM layer's state at each token: what attention looks at. */
  readonly states: Float32Array[];
}

/** One step of a {@link RoutingPredictor} with `causal`: the same numbers as over the whole text. */
export class CausalPredictor {
  private constructor(
    private readonly predictor: LoadedPredictor,
    private readonly recurrence: Program,
    private readonly heads: Program,
  ) {}

  /**
   * @param embeddings the model's token embeddings `[vocabSize, embeddingSize]`, row after row.
   * @param options of the runtime; `topK` are the guesses for a token, each layer's own number of choices when absent
   * @throws PredictorError if the predictor looks at later tokens, or reads embeddings of another width.
   */
  static async open(
    predictor: LoadedPredictor,
    embeddings: Float32Array,
    { topK: wanted, ...runtime }: RuntimeOptions & { readonly topK?: number | undefined } = {},
  ): Promise<CausalPredictor> {
    const { causal, embeddingSize, hiddenSize, layers } = predictor.options;
    if (!causal)
      throw new PredictorError(
        `${predictor.source}: it looks at later tokens, so it cannot foretell a text that is being written: train one with --causal`,
      );
    if (embeddings.length % embeddingSize !== 0)
      throw new PredictorError(
        `${predictor.source}: it reads embeddings of width ${embeddingSize}, which the model's are not`,
      );
    const network = new RoutingPredictor(predictor.options);
    nameParameters(network);
    const table = input(embeddingName, 'float32', [embeddings.length / embeddingSize, embeddingSize]);
    const state = (name: string): Tensor => input(name, 'float32', [1, hiddenSize]);
    const compressed = relu(network.compression.forward(gather(table, input('id', 'int32', [1]))));
    const recurrent: Record<string, Tensor> = { residual: network.residual.forward(compressed) };
    let below = compressed;
    network.recurrent.forEach((layer, l) => {
      const next: LstmState = layer.step(below, { hidden: state(`hidden.${l}`), cell: state(`cell.${l}`) });
      recurrent[`next.hidden.${l}`] = next.hidden;
      recurrent[`next.cell.${l}`] = next.cell;
      below = next.hidden;
    });
    const joined = add(state('context'), state('residual'));
    const guesses = Object.fromEntries(
      network.heads.map((head, l) => {
        const { indices } = topK(
          softmax(head.forward(joined)),
          Math.min(wanted ?? layers[l].topK, layers[l].numExperts),
        );
        return [`experts.${l}`, cast(indices, 'int32')] as const;
      }),
    );
    const bound = async (outputs: Record<string, Tensor>): Promise<Program> =>
      (await compile(outputs, runtime)).bindKnown(predictor.weights);
    const recurrence = (await bound(recurrent)).bind({ [embeddingName]: embeddings });
    return new CausalPredictor(predictor, recurrence, await bound(guesses));
  }

  /** The layers that are predicted. */
  get layers(): readonly PredictedLayer[] {
    return this.predictor.options.layers;
  }

  /** The memory of a text before its first token. */
  begin(): TextMemory {
    const { recurrentLayers, hiddenSize } = this.predictor.options;
    return {
      length: 0,
      recurrent: Array.from({ length: recurrentLayers }, () => ({
        hidden: new Float32Array(hiddenSize),
        cell: new Float32Array(hiddenSize),
      })),
      states: [],
    };
  }

  /**
   * Reads a text's next token.
   * @param memory is changed
   * @returns its probable experts in each layer, best first
   */
  async next(memory: TextMemory, token: number): Promise<readonly Int32Array[]> {
    const feeds = Object.fromEntries(
      memory.recurrent.flatMap(({ hidden, cell }, l) => [
        [`hidden.${l}`, hidden] as const,
        [`cell.${l}`, cell] as const,
      ]),
    );
    const found = await this.recurrence.run({ id: Int32Array.of(token), ...feeds });
    memory.recurrent.forEach(({ hidden, cell }, l) => {
      hidden.set(found[`next.hidden.${l}`] as Float32Array);
      cell.set(found[`next.cell.${l}`] as Float32Array);
    });
    memory.length++;
    const state = memory.recurrent.at(-1)!.hidden.slice();
    memory.states.push(state);
    const { attention, sparsemax } = this.predictor.options;
    const context = attention === 'none' ? state : attend(memory.states, state, sparsemax === 'released');
    const residual = found['residual'] as Float32Array;
    const results = await this.heads.run({ context, residual });
    return this.layers.map((_, l) => Int32Array.from(results[`experts.${l}`] as Int32Array));
  }

  /** Frees both sessions. */
  async release(): Promise<void> {
    await this.recurrence.release();
    await this.heads.release();
  }
}

/** `SparseMax(H h) H` for one state. */
function attend(states: readonly Float32Array[], query: Float32Array, released: boolean): Float32Array {
  const scores = states.map((state) => {
    let sum = 0;
    for (let i = 0; i < query.length; i++) sum += state[i] * query[i];
    return sum;
  });
  const sorted = [...scores].sort((a, b) => b - a);
  let [support, total, running] = [1, sorted[0], 0];
  sorted.forEach((score, i) => {
    running += score;
    if (1 + (i + 1) * score > running) [support, total] = [i + 1, running];
  });
  const threshold = (total - (released ? 2 : 1)) / support;
  const shares = scores.map((score) => Math.max(0, score - threshold));
  const mass = released ? shares.reduce((a, b) => a + b, 0) : 1;
  const context = new Float32Array(query.length);
  states.forEach((state, s) => {
    if (shares[s] > 0) for (let i = 0; i < context.length; i++) context[i] += (shares[s] / mass) * state[i];
  });
  return context;
}
