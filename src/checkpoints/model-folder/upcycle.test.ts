import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { distance, randomParameters, run, type Feeds } from '../../../test/support/numbers.js';
import { input } from '../../graph/index.js';
import { createModel, LanguageModel, EncoderDecoder, type ModelOptions } from '../../models/index.js';
import { evaluationContext, nameParameters } from '../../nn/index.js';
import { parseOptions } from '../hugging-face/options.js';
import { saveSafetensors } from '../safetensors/index.js';
import { openCheckpoint } from './checkpoint.js';
import { ownModelType } from './own-architectures.js';
import { upcycle } from './upcycle.js';

const golden = join(import.meta.dirname, '../../../test/golden');
let root: string;
let next = 0;
beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'upcycle-'))));
afterAll(() => rm(root, { recursive: true }));

const languageModel = {
  kind: 'languageModel',
  vocabSize: 11,
  hiddenSize: 8,
  numLayers: 4,
  numHeads: 2,
  intermediateSize: 6,
  contextLength: 8,
};

type Input = Readonly<Record<string, unknown>>;

/** A model folder of ours with random weights. */
async function makeModel(options: Input): Promise<string> {
  const folder = await mkdtemp(join(root, `${next++}-`));
  const parsed = parseOptions({ ...languageModel, ...options }, folder);
  const parameters = createModel(parsed).parameters();
  const tensors = [...randomParameters(parameters, 5)].map(([name, data]) => ({
    name,
    dtype: 'F32' as const,
    shape: parameters.get(name)!.shape,
    data: Float32Array.from(data),
  }));
  await saveSafetensors(join(folder, 'model.safetensors'), tensors);
  await writeFile(
    join(folder, 'config.json'),
    JSON.stringify({ model_type: ownModelType(parsed.kind), ...parsed }),
  );
  await writeFile(join(folder, 'tokenizer.json'), '{"any": "tokenizer"}');
  return folder;
}

const output = (): string => join(root, `out-${next++}`);

/** Logits of 2 sequences of 5 tokens, and the weights that they come from. */
async function logitsOf(folder: string) {
  const checkpoint = await openCheckpoint(folder);
  const model = createModel(checkpoint.options);
  const parameters = nameParameters(model);
  const weights = new Map<string, Float32Array>();
  for (const name of parameters.keys()) weights.set(name, await checkpoint.readParameter(name));
  await checkpoint.close();
  const tokens = (name: string) => input(name, 'int32', [2, 5]);
  const context = evaluationContext();
  const { logits } =
    model instanceof LanguageModel
      ? model.forward({ tokens: tokens('source') }, context)
      : (model as EncoderDecoder).forward({ source: tokens('source'), target: tokens('target') }, context);
  const ids = Int32Array.from({ length: 10 }, (_, i) => (7 * i + 3) % 11);
  const feeds: Feeds = [...weights, ['source', ids], ['target', ids.toReversed()]];
  return {
    logits: (await run({ logits }, feeds, 'float32')).logits,
    weights,
    options: model.options as ModelOptions,
  };
}

/** Gates that sum to 1. */
const whole = { router: { kind: 'softmax', normalizeGates: true } };

describe('with gates that sum to 1 it computes what the dense model did', () => {
  test.each<[string, Input, Input]>([
    ['two of three experts, every block', {}, { numExperts: 3, topK: 2 }],
    ['one of four, every second block, gated', { activation: 'swiglu' }, { numExperts: 4, every: 2 }],
    ['biases', { feedForwardBias: true, activation: 'gelu', norm: 'layer' }, { numExperts: 3, topK: 3 }],
  ])('%s', async (_, options, sparse) => {
    const folder = await makeModel(options);
    const to = output();
    await upcycle(folder, to, { sparse: { ...whole, ...sparse } as never });
    const [before, after] = [await logitsOf(folder), await logitsOf(to)];
    expect(distance(after.logits, before.logits)).toBeLessThan(1e-6);
    const sparseBlocks = [...after.weights.keys()].filter((name) => name.endsWith('experts.up'));
    expect(sparseBlocks).toHaveLength('every' in sparse ? 2 : 4);
    expect(await readFile(join(to, 'tokenizer.json'), 'utf8')).toBe('{"any": "tokenizer"}');
  });

  test.each(['relu', 'v1.1', 'silu'])('a T5 of transformers: %s', async (name) => {
    const folder = join(golden, 't5', name);
    const to = output();
    await upcycle(folder, to, { sparse: { ...whole, numExperts: 3, topK: 2 } as never });
    const [before, after] = [await logitsOf(folder), await logitsOf(to)];
    expect(after.options.sparse).toMatchObject({
      kind: 'experts',
      numExperts: 3,
      experts: { expertDropout: 0.1 },
    });
    expect(distance(after.logits, before.logits)).toBeLessThan(1e-6);
  });
});

test('raw gates are those of Switch: the sparse layers say less than the dense ones did', async () => {
  const folder = await makeModel({});
  const to = output();
  await upcycle(folder, to, { sparse: { numExperts: 3 } });
  const [before, after] = [await logitsOf(folder), await logitsOf(to)];
  expect(distance(after.logits, before.logits)).toBeGreaterThan(1e-3);
});

test('the same seed makes the same bytes, another one other routers', async () => {
  const folder = await makeModel({});
  const bytes = async (seed: number, noise = 0): Promise<Buffer> => {
    const to = output();
    await upcycle(folder, to, { sparse: { numExperts: 3 }, seed, noise });
    return readFile(join(to, 'model.safetensors'));
  };
  const first = await bytes(1);
  expect(first.equals(await bytes(1))).toBe(true);
  expect(first.equals(await bytes(2))).toBe(false);
  expect((await bytes(1, 0.1)).equals(await bytes(1, 0.1))).toBe(true);
});

test('noise is a share of each matrix, and parts the experts', async () => {
  const folder = await makeModel({ intermediateSize: 64 });
  const to = output();
  await upcycle(folder, to, { sparse: { numExperts: 2 }, noise: 0.1 });
  const { weights } = await logitsOf(to);
  const { weights: dense } = await logitsOf(folder);
  const size = 8 * 64;
  const rms = (values: ArrayLike<number>): number =>
    Math.sqrt(Array.from(values, (x) => x * x).reduce((a, b) => a + b, 0) / values.length);
  const bank = weights.get('blocks.2.feedForward.experts.down')!;
  const original = dense.get('blocks.2.feedForward.down.weight')!;
  const [one, two] = [bank.subarray(0, size), bank.subarray(size)];
  // [in, out] beside [out, in]
  const moved = one.map((value, i) => value - original[(i % 8) * 64 + Math.floor(i / 8)]!);
  expect(rms(moved) / rms(original)).toBeGreaterThan(0.09);
  expect(rms(moved) / rms(original)).toBeLessThan(0.11);
  expect(one).not.toEqual(two);
});

describe('refused, with nothing left behind', () => {
  test.each<[string, Input, Input, string]>([
    ['a sparse model', { sparse: { numExperts: 2 } }, {}, 'the model has sparse layers already'],
    ['biases on gates', { bias: true, activation: 'swiglu' }, {}, 'no bias on their gate'],
    ['another width', {}, { intermediateSize: 5 }, 'intermediateSize 5 is not the dense 6'],
    ['a shared expert', {}, { sharedIntermediateSize: 4 }, 'a shared expert would be added'],
    ['another kind', {}, { kind: 'topKActivation', topK: 2 }, 'of kind "topKActivation"'],
    ['too few blocks', {}, { every: 5 }, 'sparse.every: every 5 is more than numLayers 4'],
    ['more choices than experts', {}, { topK: 3 }, 'topK 3 is more than numExperts 2'],
  ])('%s', async (_, options, sparse, message) => {
    const folder = await makeModel(options);
    const to = output();
    await expect(upcycle(folder, to, { sparse: { numExperts: 2, ...sparse } as never })).rejects.toThrow(
      message,
    );
    expect(existsSync(to)).toBe(false);
  });

  test('a folder that is there', async () => {
    const folder = await makeModel({});
    await expect(upcycle(folder, folder, { sparse: { numExperts: 2 } })).rejects.toThrow('not empty');
    expect((await readdir(folder)).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
  });
});
