/**
 * Runs a model over a text and notes what its experts see.
 * @module
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { shapeOf, type AnyBatch, type BatchSequence } from '../data/index.js';
import {
  concat,
  log,
  matmul,
  maximum,
  multiply,
  oneHot,
  reshape,
  slice,
  sum,
  type Tensor,
} from '../graph/index.js';
import type { Model } from '../models/index.js';
import { FeedForwardBank, SparseLayer } from '../moe/index.js';
import { evaluationContext, Linear } from '../nn/index.js';
import { compile, type RuntimeOptions } from '../runtime/index.js';
import { objectiveOf } from '../train/index.js';
import type { LayerCalibration } from './calibration.js';

/** Settings of {@link calibrate}. */
export interface CalibrateOptions {
  /** Tokens that are read, padding not counted; all when absent. A batch is never cut. */
  readonly maxTokens?: number;
  readonly runtime?: RuntimeOptions;
  readonly onProgress?: (tokens: number) => void;
}

/** What is fetched of one layer after every batch. */
interface Probe {
  /** `[numExperts, hiddenSize]`: Σ x² over the tokens sent to each expert. */
  readonly inputs: Tensor;
  /** `[numExperts, intermediateSize]`: Σ h² */
  readonly inner: Tensor;
  /** `[tokens, numExperts]` */
  readonly logits: Tensor;
  /** Int32 `[tokens, topK]`, −1 for padding. */
  readonly experts: Tensor;
}

/** Sums over all batches. */
class Statistics {
  readonly tokensOf: number[];
  readonly inputs: Float64Array;
  readonly inner: Float64Array;
  readonly logits: number[] = [];

  constructor(
    readonly numExperts: number,
    { inputs, inner }: Probe,
  ) {
    this.tokensOf = new Array<number>(numExperts).fill(0);
    this.inputs = new Float64Array(numExperts * (inputs.shape[1] as number));
    this.inner = new Float64Array(numExperts * (inner.shape[1] as number));
  }

  /** @returns tokens that are no padding. */
  add(
    { inputs, inner, logits, experts }: Readonly<Record<keyof Probe, ArrayLike<number>>>,
    topK: number,
  ): number {
    for (let i = 0; i < inputs.length; i++) this.inputs[i] += inputs[i];
    for (let i = 0; i < inner.length; i++) this.inner[i] += inner[i];
    let tokens = 0;
    for (let token = 0; token < experts.length / topK; token++) {
      if (experts[token * topK] < 0) continue;
      tokens++;
      for (let k = 0; k < topK; k++) {
        const expert = experts[token * topK + k];
        if (expert >= 0) this.tokensOf[expert]++;
      }
      for (let expert = 0; expert < this.numExperts; expert++)
        this.logits.push(logits[token * this.numExperts + expert]);
    }
    return tokens;
  }

  finish(): LayerCalibration {
    const roots = (squares: Float64Array): Float32Array[] => {
      const width = squares.length / this.numExperts;
      return Array.from({ length: this.numExperts }, (_, expert) =>
        Float32Array.from(squares.subarray(expert * width, (expert + 1) * width), Math.sqrt),
      );
    };
    return {
      tokensOf: this.tokensOf,
      inputNorms: roots(this.inputs),
      hiddenNorms: roots(this.inner),
      routerLogits: Float32Array.from(this.logits),
    };
  }
}

/**
 * Statistics of layers of experts over some batches.
 *
 * @param weights every parameter of the model by name.
 * @param layers names of the layers' blocks, such as `blocks.3` or `encoder.blocks.1`.
 * @returns by the names of the layers.
 * @throws RangeError if a layer is not of whole experts behind a router, or the batches have no token.
 */
export async function calibrate(
  model: Model,
  weights: Iterable<readonly [string, Float32Array]>,
  layers: readonly string[],
  batches: BatchSequence<AnyBatch>,
  { maxTokens = Infinity, runtime = {}, onProgress }: CalibrateOptions = {},
): Promise<ReadonlyMap<string, LayerCalibration>> {
  const objective = objectiveOf(model);
  objective.requireContinuation(batches, 'the batches of a calibration');
  const probes = new Map<string, Probe>();
  const restore = layers.map((name) =>
    observe(sparseLayerOf(model, name), (probe) => probes.set(name, probe)),
  );
  const shape = shapeOf(batches);
  const { memory: kept } = objective.trace(evaluationContext(), { shape, padded: true });
  for (const undo of restore) undo();
  const outputs: Record<string, Tensor> = { ...kept };
  for (const [name, probe] of probes)
    for (const [part, tensor] of Object.entries(probe as unknown as Record<string, Tensor>))
      outputs[`${part} of ${name}`] = tensor;
  const program = (await compile(outputs, runtime)).bindKnown(weights);
  const memory = objective.memory(shape.batchSize, false);
  const statistics = new Map(
    [...probes].map(([name, probe]) => [name, new Statistics(probe.logits.shape[1] as number, probe)]),
  );
  memory?.reset();
  let tokens = 0;
  try {
    for (const batch of batches) {
      if (tokens >= maxTokens) break;
      await nextTurn();
      program.bindKnown(Object.entries(objective.feeds(batch)));
      memory?.bind(program);
      const results = await program.run();
      memory?.advance();
      let most = 0;
      for (const [name, probe] of probes) {
        const values = Object.fromEntries(
          (['inputs', 'inner', 'logits', 'experts'] as const).map((part) => [
            part,
            results[`${part} of ${name}`],
          ]),
        ) as unknown as Record<keyof Probe, ArrayLike<number>>;
        most = Math.max(most, statistics.get(name)!.add(values, probe.experts.shape[1] as number));
      }
      tokens += most;
      onProgress?.(tokens);
    }
  } finally {
    await program.release();
  }
  if (tokens === 0) throw new RangeError('there is no token to calibrate with');
  return new Map([...statistics].map(([name, each]) => [name, each.finish()]));
}

function sparseLayerOf(model: Model, name: string): SparseLayer {
  const path = `${name}.feedForward`.split('.');
  const found = path.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], model);
  if (found instanceof SparseLayer && found.experts instanceof FeedForwardBank) return found;
  throw new RangeError(`${name}: there are no whole experts behind a router, whose inputs could be measured`);
}

/** While a model is traced, tells what a layer computes. @returns what ends that. */
function observe(layer: SparseLayer, tell: (probe: Probe) => void): () => void {
  const own: SparseLayer['forward'] = (hidden, context) => {
    const output = SparseLayer.prototype.forward.call(layer, hidden, context);
    const [{ experts, probabilities }] = output.records;
    tell(probeOf(layer, output.routing?.expertInput ?? hidden, experts, probabilities));
    return output;
  };
  layer.forward = own;
  return () => Reflect.deleteProperty(layer, 'forward');
}

function probeOf(layer: SparseLayer, hidden: Tensor, experts: Tensor, probabilities: Tensor): Probe {
  const bank = layer.experts as FeedForwardBank;
  const [tokens, topK] = experts.shape as [number, number];
  // [tokens, numExperts]: 1 where a token was sent.
  const sent = sum(
    reshape(oneHot(reshape(experts, [tokens * topK]), bank.numExperts, 'float32'), [
      tokens,
      topK,
      bank.numExperts,
    ]),
    1,
  );
  const inner = bank.innerRows(Array.from({ length: bank.numExperts }, () => hidden));
  const squares = inner.map((rows, expert) =>
    matmul(slice(sent, 1, expert, expert + 1), multiply(rows, rows), { transposeA: true }),
  );
  const { classifier } = layer.router as { classifier?: unknown };
  return {
    inputs: matmul(sent, multiply(hidden, hidden), { transposeA: true }),
    inner: concat(squares, 0),
    logits: classifier instanceof Linear ? classifier.forward(hidden) : log(maximum(probabilities, 1e-30)),
    experts,
  };
}
