import { describe, expect, test } from 'vitest';
import { input } from '../graph/index.js';
import { EncoderDecoder, encoderDecoderSchema } from '../models/index.js';
import { evaluationContext, nameParameters, ParameterArena } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import { Generator, type GenerationOptions } from './generator.js';

const VOCABULARY = 31;
const base: GenerationOptions = { maxTokens: 12, temperature: 0, topK: 0, topP: 1, seed: 1 };

function build(options: Readonly<Record<string, unknown>> = {}): {
  model: EncoderDecoder;
  weights: ReadonlyMap<string, Float32Array>;
} {
  const model = new EncoderDecoder({
    ...encoderDecoderSchema.parse({
      kind: 'encoderDecoder',
      hiddenSize: 24,
      numEncoderLayers: 2,
      numDecoderLayers: 2,
      numHeads: 2,
      intermediateSize: 20,
      contextLength: 40,
      targetLength: 80,
      attentionScale: 1,
      initialization: { scale: 4, embedding: 1 },
      padTokenId: 3,
      tieEmbeddings: false,
      ...options,
    }),
    vocabSize: VOCABULARY,
  });
  const named = nameParameters(model);
  return { model, weights: ParameterArena.allocate(named).initialize(named, 3).views };
}

/** The most probable next token by a program without padding, cache or mask. */
async function bestAfter(
  { model, weights }: ReturnType<typeof build>,
  source: readonly number[],
  target: readonly number[],
): Promise<number> {
  const inputs = {
    source: input('source', 'int32', [1, source.length]),
    target: input('target', 'int32', [1, target.length]),
  };
  const program = await compile({ logits: model.forward(inputs, evaluationContext()).logits });
  program.bindKnown(weights).bind({ source: Int32Array.from(source), target: Int32Array.from(target) });
  const scores = Array.from((await program.run()).logits as Float32Array).slice(-VOCABULARY);
  await program.release();
  return scores.indexOf(Math.max(...scores));
}

const sources = [[5, 9, 1], [7], Array.from({ length: 23 }, (_, i) => (i * 11) % VOCABULARY)];

describe('targets', () => {
  test.each<[string, Readonly<Record<string, unknown>>]>([
    ['T5', {}],
    ['Switch', { sparse: { numExperts: 4 } }],
    ['sinusoidal positions', { positions: 'sinusoidal', norm: 'layer', scaleEmbeddings: true }],
  ])(
    '%s: every greedy token is the best after source and target, alone and in a batch',
    async (_, options) => {
      const built = build(options);
      const generator = await Generator.create(built.model, built.weights);
      const together = await generator.complete(sources, base);
      for (const [index, source] of sources.entries()) {
        const [{ ids, reason }] = await generator.complete([source], base);
        const target = [3];
        for (const id of ids) {
          expect(id, `after ${target.join(' ')}`).toBe(await bestAfter(built, source, target));
          target.push(id);
        }
        expect(together[index].ids).toEqual(ids);
        expect(reason).toBe('length');
      }
      expect(new Set(together.flatMap(({ ids }) => ids)).size).toBeGreaterThan(2);
      await generator.release();
    },
  );

  test('end at targetLength, after more tokens than the first pass had slots for', async () => {
    const { model, weights } = build();
    const generator = await Generator.create(model, weights);
    const [{ ids, reason }] = await generator.complete([[4, 4]], { ...base, maxTokens: 500, temperature: 1 });
    expect([ids.length, reason]).toEqual([80, 'length']);
    await generator.release();
  });

  test('begin with the decoder start token, where it is another than padding', async () => {
    const built = build({ decoderStartTokenId: 8 });
    const generator = await Generator.create(built.model, built.weights);
    const [{ ids }] = await generator.complete([[5, 9]], { ...base, maxTokens: 1 });
    expect(ids[0]).toBe(await bestAfter(built, [5, 9], [8]));
    await generator.release();
  });
});

test('a source that does not fit is refused with both numbers', async () => {
  const { model, weights } = build();
  const generator = await Generator.create(model, weights);
  await expect(generator.complete([new Int32Array(41)], base)).rejects.toThrow(
    "the source has 41 tokens, more than the model's contextLength 40: shorten it",
  );
  await generator.release();
});

test('a model that does not say how targets begin is refused', async () => {
  const { model, weights } = build({ padTokenId: undefined });
  await expect(Generator.create(model, weights)).rejects.toThrow(
    'the model does not say with which token a target begins: set decoderStartTokenId or padTokenId',
  );
});
