import { describe, expect, test } from 'vitest';
import { MemoryTokens, SequentialWindows } from '../data/index.js';
import type { Tensor } from '../graph/index.js';
import { LanguageModel, languageModelSchema } from '../models/index.js';
import { SparseLayer } from '../moe/index.js';
import { evaluationContext, nameParameters } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import { createWeights, objectiveOf } from '../train/index.js';
import { calibrate } from './calibrate.js';

const sizes = { hiddenSize: 8, numLayers: 3, numHeads: 2, intermediateSize: 6, contextLength: 10 };
const [numExperts, topK] = [4, 2];

function create(): LanguageModel {
  const sparse = {
    layers: [0, 2],
    numExperts,
    topK,
    router: { kind: 'softmax' },
    experts: { kind: 'feedForward', bias: true },
  };
  return new LanguageModel({
    ...languageModelSchema.parse({ ...sizes, activation: 'swiglu', sparse }),
    vocabSize: 20,
  });
}

/** 26 tokens: two full windows and one with padding, in batches of two. */
const text = Int32Array.from({ length: 26 }, (_, i) => (i * i) % 20);
const batches = (): SequentialWindows =>
  new SequentialWindows(new MemoryTokens(text, 'squares'), { batchSize: 2, contextLength: 10, pad: 0 });

describe('calibration', () => {
  const model = create();
  const { all: weights } = createWeights(nameParameters(model), [], 3);
  // Biases start at zero, which would hide them.
  for (const [name, values] of weights) if (name.endsWith('Bias')) values.fill(0.3);

  test('is what plain loops find over the tokens that are no padding', async () => {
    const found = await calibrate(model, weights, ['blocks.0', 'blocks.2'], batches());
    for (const block of [0, 2]) {
      const wanted = await byLoops(block);
      const { tokensOf, inputNorms, hiddenNorms, routerLogits } = found.get(`blocks.${block}`)!;
      expect(tokensOf).toEqual(wanted.tokensOf);
      expect(tokensOf.reduce((sum, count) => sum + count)).toBe(25 * topK);
      expectClose(
        inputNorms.flatMap((row) => [...row]),
        wanted.inputs.flat().map(Math.sqrt),
      );
      expectClose(
        hiddenNorms.flatMap((row) => [...row]),
        wanted.inner.flat().map(Math.sqrt),
      );
      expectClose([...routerLogits], wanted.logits);
    }
  });

  test('leaves the model as it was, and stops after the batch with the last token', async () => {
    const layer = model.blocks[0].feedForward as SparseLayer;
    const found = await calibrate(model, weights, ['blocks.0'], batches(), { maxTokens: 5 });
    expect(Object.hasOwn(layer, 'forward')).toBe(false);
    expect(found.get('blocks.0')!.routerLogits).toHaveLength(20 * numExperts);
  });

  test('refuses a layer without experts in one line', async () => {
    await expect(calibrate(model, weights, ['blocks.1'], batches())).rejects.toThrow(
      'blocks.1: there are no whole experts behind a router',
    );
  });

  async function byLoops(block: number) {
    const layer = model.blocks[block].feedForward as SparseLayer;
    const probe: { hidden?: Tensor; experts?: Tensor; logits?: Tensor } = {};
    layer.forward = (hidden, context) => {
      const output = SparseLayer.prototype.forward.call(layer, hidden, context);
      probe.hidden = hidden;
      probe.experts = output.records[0].experts;
      return output;
    };
    const objective = objectiveOf(model);
    objective.trace(evaluationContext(), { shape: { batchSize: 2, contextLength: 10 }, padded: true });
    Reflect.deleteProperty(layer, 'forward');
    const get = (name: string): Float32Array => weights.get(`blocks.${block}.feedForward.${name}`)!;
    const zeros = (width: number): number[][] =>
      Array.from({ length: numExperts }, () => new Array<number>(width).fill(0));
    const result = {
      tokensOf: new Array<number>(numExperts).fill(0),
      inputs: zeros(8),
      inner: zeros(6),
      logits: [] as number[],
    };
    const program = await compile({ hidden: probe.hidden!, experts: probe.experts! });
    program.bindKnown(weights);
    for (const batch of batches()) {
      program.bindKnown(Object.entries(objective.feeds(batch)));
      const values = await program.run();
      for (let token = 0; token < batch.tokens.length; token++) {
        if (!batch.mask[token]) continue;
        const x = Array.from((values.hidden as Float32Array).subarray(token * 8, token * 8 + 8));
        const router = get('router.classifier.weight');
        for (let e = 0; e < numExperts; e++)
          result.logits.push(x.reduce((sum, value, i) => sum + value * router[e * 8 + i], 0));
        for (let k = 0; k < topK; k++) {
          const e = Number(values.experts[token * topK + k]);
          result.tokensOf[e]++;
          x.forEach((value, i) => (result.inputs[e][i] += value * value));
          for (let n = 0; n < 6; n++) {
            const project = (weight: Float32Array): number =>
              x.reduce((sum, value, i) => sum + value * weight[(e * 8 + i) * 6 + n], 0);
            const gate = project(get('experts.gate'));
            const up = project(get('experts.up')) + get('experts.upBias')[e * 6 + n];
            result.inner[e][n] += ((gate / (1 + Math.exp(-gate))) * up) ** 2;
          }
        }
      }
    }
    await program.release();
    return result;
  }
});

function expectClose(actual: readonly number[], wanted: readonly number[]): void {
  expect(actual).toHaveLength(wanted.length);
  actual.forEach((value, i) => expect(value).toBeCloseTo(wanted[i], 4));
}
