import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { input } from '../graph/index.js';
import { LanguageModel, languageModelSchema } from '../models/index.js';
import { evaluationContext, nameParameters, ParameterArena } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import { CachedWriter } from './cached-writer.js';
import { Generator, type GenerationOptions } from './generator.js';
import { Programs } from './programs.js';
import { WindowWriter } from './window-writer.js';

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
    expect(await generate([1], { temperature: 0, stopTokens: [stop] })).toEqual(
      ids.slice(0, ids.indexOf(stop)),
    );
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

/** A model of random weights, large enough that it decides for good reasons. */
function build(options: Readonly<Record<string, unknown>> = {}) {
  const built = new LanguageModel({
    ...languageModelSchema.parse({
      hiddenSize: 24,
      numLayers: 2,
      numHeads: 2,
      intermediateSize: 20,
      contextLength: 24,
      initialization: { scale: 4, embedding: 0.7 },
      ...options,
    }),
    vocabSize: VOCABULARY,
  });
  const named = nameParameters(built);
  return { model: built, weights: ParameterArena.allocate(named).initialize(named, 3).views };
}

const prompts = [
  [4, 9, 2],
  [1],
  [30, 2, 8, 8, 1, 0, 17],
  Array.from({ length: 30 }, (_, i) => (i * 7) % VOCABULARY),
];
const sparse = { numExperts: 4, topK: 2, intermediateSize: 12 };

describe('with a cache the text is the one of the whole window', () => {
  test.each<[string, Readonly<Record<string, unknown>>]>([
    ['dense', {}],
    ['Switch', { sparse: { ...sparse, topK: 1 } }],
    ['σ-MoE', { sparse: { ...sparse, router: { kind: 'sigmoid' } } }],
    ['shared experts', { sparse: { ...sparse, sharedIntermediateSize: 8, sharedGate: true } }],
    ['grouped queries, relative positions', { numHeads: 4, numKeyValueHeads: 2, positions: 'relative' }],
    ['learned positions', { positions: 'learned', norm: 'layer' }],
  ])('%s', async (_, options) => {
    const { model: built, weights: values } = build(options);
    const [cached, plain] = [
      new Generator(new CachedWriter(built, new Programs(values))),
      new Generator(new WindowWriter(built, new Programs(values))),
    ];
    // Beyond 24 tokens the window slides, from the first token on for the last prompt.
    for (const settings of [{ temperature: 0 }, { temperature: 1, topK: 8, repetitionPenalty: 1.3 }]) {
      const all = { ...base, ...settings, maxTokens: 26, logProbabilities: true };
      const [made, expected] = [await cached.complete(prompts, all), await plain.complete(prompts, all)];
      expect(made.map(({ ids }) => ids)).toEqual(expected.map(({ ids }) => ids));
      made.forEach(({ logProbabilities: logs }, i) =>
        logs!.forEach((log, t) =>
          expect(Math.abs(log - expected[i].logProbabilities![t])).toBeLessThan(1e-5),
        ),
      );
      expect(new Set(made.flatMap(({ ids }) => ids)).size).toBeGreaterThan(5);
    }
    await Promise.all([cached.release(), plain.release()]);
  });

  test('a text longer than the slots of its first pass goes on: they double', async () => {
    const { model: built, weights: values } = build({ contextLength: 300, hiddenSize: 8, numLayers: 1 });
    const [cached, plain] = [
      new Generator(new CachedWriter(built, new Programs(values))),
      new Generator(new WindowWriter(built, new Programs(values))),
    ];
    const prompt = Array.from({ length: 250 }, (_, i) => (i * 5) % VOCABULARY);
    const settings = { ...base, temperature: 0, maxTokens: 20 };
    expect(await cached.complete([prompt], settings)).toEqual(await plain.complete([prompt], settings));
    await Promise.all([cached.release(), plain.release()]);
  });
});

describe('a batch', () => {
  test('gives each prompt the text that it gets alone, whoever is beside it and finishes first', async () => {
    const { model: built, weights: values } = build({ sparse });
    const made = new Generator(new CachedWriter(built, new Programs(values)));
    const settings = { ...base, temperature: 0, maxTokens: 18 };
    const alone: (readonly number[])[] = [];
    for (const prompt of prompts) alone.push((await made.complete([prompt], settings))[0].ids);
    const stop = alone[0][4];
    const [together, ended] = [
      await made.complete(prompts, settings),
      await made.complete(prompts, { ...settings, stopTokens: [stop] }),
    ];
    expect(together.map(({ ids }) => ids)).toEqual(alone);
    ended.forEach(({ ids, reason }, i) => {
      const end = alone[i].indexOf(stop);
      expect(ids).toEqual(end < 0 ? alone[i] : alone[i].slice(0, end));
      expect(reason).toBe(end < 0 ? 'length' : 'stop');
    });
    expect(ended[0].ids.length).toBeLessThan(18);
    await made.release();
  });

  test('texts draw from streams of their own: equal prompts, other texts, the same every time', async () => {
    const twice = [
      [4, 9],
      [4, 9],
    ];
    const [first, again] = [await generator.complete(twice, base), await generator.complete(twice, base)];
    expect(first).toEqual(again);
    expect(first[1].ids).not.toEqual(first[0].ids);
    expect(first[0].ids).toEqual(await generate([4, 9]));
  });
});

test('a token by itself never overflows an expert: places are for passes of training and evaluation', async () => {
  const places = {
    ...sparse,
    topK: 1,
    dispatch: { kind: 'capacity', evalCapacityFactor: 0.25, minimumCapacity: 1 },
  };
  const [few, any] = [build({ sparse: places }), build({ sparse: { ...sparse, topK: 1 } })];
  const [crowded, free] = [
    new Generator(new CachedWriter(few.model, new Programs(few.weights))),
    new Generator(new CachedWriter(any.model, new Programs(any.weights))),
  ];
  const settings = { ...base, temperature: 0 };
  expect(await crowded.complete(prompts, settings)).toEqual(await free.complete(prompts, settings));
  // With places for a few only, the pass over the whole window drops tokens and says other things.
  const window = new Generator(new WindowWriter(few.model, new Programs(few.weights)));
  expect(await window.complete(prompts, settings)).not.toEqual(await free.complete(prompts, settings));
  await Promise.all([crowded.release(), free.release(), window.release()]);
});

describe('options', () => {
  test('a repetition penalty keeps tokens from coming again', async () => {
    const settings = { temperature: 0, maxTokens: 24 };
    const [plain, penalised] = [
      await generate([1, 2, 3], settings),
      await generate([1, 2, 3], { ...settings, repetitionPenalty: 50 }),
    ];
    const repeats = (ids: readonly number[]): number => 27 - new Set([1, 2, 3, ...ids]).size;
    expect(repeats(plain)).toBeGreaterThan(3);
    expect(repeats(penalised)).toBeLessThan(repeats(plain));
  });

  test('log-probabilities are those of the model, whatever is done to the scores', async () => {
    const settings = { ...base, temperature: 0, maxTokens: 1, logProbabilities: true };
    const [{ ids, logProbabilities: logs }] = await generator.complete([[1, 2]], settings);
    const options = { ...settings, temperature: 2, repetitionPenalty: 3, topK: 1 };
    const texts = await generator.complete([[1, 2]], options);
    expect(ids[0]).toBe(texts[0].ids[0]);
    expect(texts[0].logProbabilities).toEqual(logs);
    expect(logs![0]).toBeLessThan(0);
  });

  test('an abort ends the text between two tokens with its reason', async () => {
    const controller = new AbortController();
    const ids: number[] = [];
    const run = async (): Promise<void> => {
      for await (const id of generator.generate([1, 2], { ...base, signal: controller.signal })) {
        ids.push(id);
        if (ids.length === 3) controller.abort(new Error('enough'));
      }
    };
    await expect(run()).rejects.toThrow('enough');
    expect(ids).toHaveLength(3);
    // The generator is as good as before.
    expect(await generate([1, 2, 3])).toHaveLength(24);
  });

  test('a stop string ends the text before it, also where it comes in pieces', async () => {
    const letters = {
      decode: (ids: ArrayLike<number>) => Array.from(ids, (id) => String.fromCharCode(97 + id)).join(''),
    };
    const settings = { ...base, temperature: 0, maxTokens: 12, tokenizer: letters };
    const [{ text, ids }] = await generator.complete([[1, 2, 3]], settings);
    expect(text).toBe(letters.decode(ids));
    const stop = text!.slice(5, 8);
    const [ended] = await generator.complete([[1, 2, 3]], { ...settings, stopStrings: ['never', stop] });
    expect(ended.text).toBe(text!.slice(0, text!.indexOf(stop)));
    expect(ended.reason).toBe('stop');
  });

  test.each<[Partial<GenerationOptions>, string]>([
    [{ maxTokens: 0 }, 'maxTokens 0 must be 1 or more'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty 0 must be more than 0'],
    [{ stopStrings: ['x'] }, 'stopStrings need a tokenizer, which says what the tokens spell'],
    [{ minP: 2 }, 'minP 2 must be in [0, 1]'],
  ])('%o is refused', async (options, message) => {
    await expect(generate([1], options)).rejects.toThrow(new RangeError(message));
  });

  test('an empty prompt of a batch is named', async () => {
    await expect(generator.complete([[1], []], base)).rejects.toThrow('prompt 1 has no token');
  });
});
