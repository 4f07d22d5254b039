import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { input } from '../graph/index.js';
import { LanguageModel, languageModelSchema } from '../models/index.js';
import { evaluationContext, nameParameters, ParameterArena } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import { Generator, type GenerationOptions } from './generator.js';

const CONTEXT = 8;
const VOCABULARY = 31;
const model = new LanguageModel({
  ...languageModelSchema.parse({
    hiddenSize: 16,
    numLayers: 2,
    numHeads: 2,
    intermediateSize: 32,
    contextLength: CONTEXT,
    positions: 'learned',
    initialization: { scale: 4, embedding: 0.5 },
    sparse: { numExperts: 4, router: { kind: 'softmax', jitter: 0.1 } },
  }),
  vocabSize: VOCABULARY,
});
const parameters = nameParameters(model);
const weights = ParameterArena.allocate(parameters).initialize(parameters, 5).views;

let generator: Generator;
beforeAll(async () => {
  generator = await Generator.create(model, weights);
});
afterAll(() => generator.release());

const base: GenerationOptions = { maxTokens: 24, temperature: 1, topK: 0, topP: 1, seed: 1 };
async function generate(
  prompt: readonly number[],
  options: Partial<GenerationOptions> = {},
): Promise<number[]> {
  const ids: number[] = [];
  for await (const id of generator.generate(prompt, { ...base, ...options })) ids.push(id);
  return ids;
}

/** The most probable next token by a program without any window, padding or mask. */
async function bestAfter(
  tokens: readonly number[],
  of = model,
  values: ReadonlyMap<string, Float32Array> = weights,
): Promise<number> {
  const { logits } = of.forward(
    { tokens: input('tokens', 'int32', [1, tokens.length]) },
    evaluationContext(),
  );
  const program = await compile({ logits });
  program.bindKnown(values).bind({ tokens: Int32Array.from(tokens) });
  const scores = Array.from((await program.run()).logits as Float32Array).slice(-VOCABULARY);
  await program.release();
  return scores.indexOf(Math.max(...scores));
}

describe('Generator', () => {
  test('the same seed gives the same text, another seed another', async () => {
    const [one, again, other] = [
      await generate([1, 2, 3]),
      await generate([1, 2, 3]),
      await generate([1, 2, 3], { seed: 2 }),
    ];
    expect(one).toHaveLength(24);
    expect(again).toEqual(one);
    expect(other).not.toEqual(one);
  });

  test('every greedy token is the best after what is visible, also when the window slides', async () => {
    const prompt = [4, 9];
    const ids = await generate(prompt, { temperature: 0, maxTokens: 14 });
    const text = [...prompt];
    for (const id of ids) {
      expect(id, `after ${text.join(' ')}`).toBe(await bestAfter(text.slice(-CONTEXT)));
      text.push(id);
    }
    expect(text.length).toBeGreaterThan(CONTEXT + 4);
  });

  test('only the last contextLength tokens of a prompt count', async () => {
    const tail = [3, 1, 4, 1, 5, 9, 2, 6];
    expect(await generate([7, 7, 7, ...tail])).toEqual(await generate(tail));
  });

  test('ends before the stop token', async () => {
    const ids = await generate([1], { temperature: 0 });
    const stop = ids.at(-1)!;
    expect(await generate([1], { temperature: 0, stopTokens: [stop] })).toEqual(ids.slice(0, ids.indexOf(stop)));
  });

  test('draws no id from vocabSize on', async () => {
    expect(Math.max(...(await generate([1, 2], { maxTokens: 60 })))).toBeGreaterThanOrEqual(10);
    expect(Math.max(...(await generate([1, 2], { maxTokens: 60, vocabSize: 10 })))).toBeLessThan(10);
  });

  test('an empty prompt is refused', async () => {
    await expect(generate([])).rejects.toThrow(
      'the prompt has no token: generation needs something to continue',
    );
  });
});

describe('models with a memory', () => {
  test.each([
    { positions: 'transformerXL', memoryLength: 4, evaluationMemoryLength: 12, norm: 'layer' },
    { positions: 'span', memoryLength: 12, blockNorm: 'postDouble', norm: 'layer' },
  ])('$positions: as much text counts as memory and segment hold', async (options) => {
    const remembering = new LanguageModel({
      ...languageModelSchema.parse({
        ...{ hiddenSize: 16, numLayers: 2, numHeads: 2, intermediateSize: 32, contextLength: 4 },
        initialization: { scale: 4, embedding: 0.5 },
        ...options,
      }),
      vocabSize: VOCABULARY,
    });
    expect(remembering.windowLength).toBe(16);
    const named = nameParameters(remembering);
    const values = ParameterArena.allocate(named).initialize(named, 5).views;
    const made = await Generator.create(remembering, values);
    const text = [4, 9, 2];
    const drawn: number[] = [];
    for await (const id of made.generate(text, { ...base, temperature: 0, maxTokens: 18 })) drawn.push(id);
    await made.release();
    for (const id of drawn) {
      expect(id, `after ${text.join(' ')}`).toBe(await bestAfter(text.slice(-16), remembering, values));
      text.push(id);
    }
    expect(new Set(drawn).size).toBeGreaterThan(2);
  });
});
