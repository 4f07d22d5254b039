import { expect, test } from 'vitest';
import { buildModel, KeptExperts } from '../../../test/support/kept-experts.js';
import { CachedWriter, Programs, type Passes } from '../../decode/index.js';
import type { LanguageModel } from '../../models/index.js';
import { openSplitModel } from '../engine/split-model.js';
import { PagedExpertStore } from '../store/paged-store.js';
import { createPolicy } from '../store/policies/index.js';
import { dequantise, quantise } from './blocks.js';
import { RoundedProducts } from './rounded-products.js';
import { input, matmul, gather } from '../../graph/index.js';

const rounding = { bits: 8, mode: 'symmetric' } as const;
const built = buildModel(
  {
    hiddenSize: 128,
    numLayers: 2,
    numHeads: 4,
    intermediateSize: 32,
    contextLength: 32,
    positions: 'rotary',
    tieEmbeddings: false,
    initialization: { scale: 4, embedding: 0.5 },
    sparse: { every: 1, numExperts: 4, topK: 2, router: { kind: 'softmax' } },
  },
  150,
);

async function scoresOf(passes: Passes): Promise<number[]> {
  const texts = await new CachedWriter(built.model as LanguageModel, passes).begin([[3, 1, 4, 1, 5]]);
  const all = [...texts.scores[0]];
  for (let token = 0; token < 3; token++) {
    await texts.append([token]);
    all.push(...texts.scores[0]);
  }
  return all;
}

test('products of attention and output are those with the rounded weights, routers and tables keep theirs', async () => {
  const weights = new Map(built.weights);
  for (const [name, { shape }] of built.model.parameters()) {
    if (!/attention\.(query|key|value|output)\.weight$|^head\.weight$/.test(name)) continue;
    const [outSize, inSize] = shape as [number, number];
    const blocks = quantise(weights.get(name)!, { ...rounding, outSize, inSize, layout: 'outIn' });
    weights.set(name, dequantise(blocks, 'outIn'));
  }
  const whole = new Programs(weights);
  const expected = await scoresOf(whole);
  await whole.release();
  const store = new PagedExpertStore(new KeptExperts(built), {
    slots: Infinity,
    policy: createPolicy('lru', { numExperts: [4, 4] }),
  });
  const passes = await openSplitModel(built.model, built.weights, store, { dense: rounding });
  const scores = await scoresOf(passes);
  await passes.release();
  await store.close();
  const difference = scores.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0);
  const size = expected.reduce((sum, value) => sum + value ** 2, 0);
  // Rows are rounded to 8 bits before each product.
  expect(Math.sqrt(difference / size)).toBeLessThan(0.03);
});

test('small matrices, routers and other uses of a weight stay as they are', () => {
  const weights = new Map([
    ['table', new Float32Array(130 * 128)],
    ['layer.router.classifier.weight', new Float32Array(128 * 128)],
    ['small', new Float32Array(64 * 128)],
  ]);
  const products = new RoundedProducts(weights, rounding);
  const x = input('x', 'float32', [1, 128]);
  const table = input('table', 'float32', [130, 128]);
  const outputs = {
    rows: gather(table, input('ids', 'int32', [2])),
    scores: matmul(x, table, { transposeB: true }),
    routed: matmul(x, input('layer.router.classifier.weight', 'float32', [128, 128]), { transposeB: true }),
    narrow: matmul(x, input('small', 'float32', [64, 128]), { transposeB: true }),
  };
  const replaced = products.replace(outputs);
  expect(replaced.scores.node.operator.name).toBe('quantisedMatmul');
  expect(replaced.rows).toBe(outputs.rows);
  expect(replaced.routed).toBe(outputs.routed);
  expect(replaced.narrow).toBe(outputs.narrow);
});
