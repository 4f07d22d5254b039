import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EncoderDecoder, encoderDecoderSchema, LanguageModel, languageModelSchema } from '../models/index.js';
import { nameParameters, ParameterArena } from '../nn/index.js';
import { beamSearch, type BeamOptions } from './beam-search.js';
import { CachedWriter } from './cached-writer.js';
import { Generator } from './generator.js';
import type { TextWriter } from './growing-texts.js';
import { Programs } from './programs.js';
import { logProbabilities } from './sampling.js';
import { SequenceWriter } from './sequence-writer.js';

const VOCABULARY = 4;
const sizes = {
  hiddenSize: 16,
  numHeads: 2,
  intermediateSize: 24,
  contextLength: 12,
  initialization: { scale: 3, embedding: 1 },
};

function weightsOf(model: LanguageModel | EncoderDecoder): ReadonlyMap<string, Float32Array> {
  const named = nameParameters(model);
  return ParameterArena.allocate(named).initialize(named, 11).views;
}
const languageModel = new LanguageModel({
  ...languageModelSchema.parse({ ...sizes, numLayers: 2, tieEmbeddings: false }),
  vocabSize: VOCABULARY,
});
const encoderDecoder = new EncoderDecoder({
  ...encoderDecoderSchema.parse({
    kind: 'encoderDecoder',
    ...sizes,
    numEncoderLayers: 1,
    numDecoderLayers: 2,
    padTokenId: 0,
    tieEmbeddings: false,
  }),
  vocabSize: VOCABULARY,
});

let writers: readonly TextWriter[];
beforeAll(() => {
  writers = [
    new CachedWriter(languageModel, new Programs(weightsOf(languageModel))),
    new SequenceWriter(encoderDecoder, new Programs(weightsOf(encoderDecoder))),
  ];
});
afterAll(async () => {
  for (const writer of writers) await writer.release();
});

/** Every text of up to `maxTokens` tokens with its log-probability, token by token from the beginning. */
async function everyText(
  writer: TextWriter,
  prompt: readonly number[],
  maxTokens: number,
  stop: number | undefined,
): Promise<{ ids: number[]; sum: number; length: number }[]> {
  const ended: { ids: number[]; sum: number; length: number }[] = [];
  let open: { ids: number[]; sum: number }[] = [{ ids: [], sum: 0 }];
  for (let length = 1; length <= maxTokens; length++) {
    const next: typeof open = [];
    for (const { ids, sum } of open) {
      const texts = await writer.begin([prompt]);
      for (const id of ids) await texts.append([id]);
      logProbabilities(texts.scores[0]).forEach((log, id) => {
        if (id === stop) ended.push({ ids, sum: sum + log, length });
        else next.push({ ids: [...ids, id], sum: sum + log });
      });
    }
    open = next;
  }
  return [...ended, ...open.map((text) => ({ ...text, length: maxTokens }))];
}

describe.each([0, 1])('writer %i (language model, encoder–decoder)', (which) => {
  test.each<[number, number | undefined]>([
    [1, undefined],
    [1, 2],
    [0, 2],
    [2, 3],
  ])(
    'beams for everybody find what a search through all texts finds: penalty %d, stop %s',
    async (lengthPenalty, stop) => {
      const all = await everyText(writers[which], [1, 3], 3, stop);
      const scored = all
        .map(({ ids, sum, length }) => ({ ids, score: sum / length ** lengthPenalty }))
        .sort((a, b) => b.score - a.score);
      const options: BeamOptions = {
        beams: 64,
        maxTokens: 3,
        lengthPenalty,
        ...(stop !== undefined && { stopTokens: [stop] }),
      };
      const found = await beamSearch(writers[which], [1, 3], options);
      expect(found).toHaveLength(Math.min(64, scored.length));
      found.slice(0, 5).forEach(({ ids, score }, i) => {
        expect(ids).toEqual(scored[i].ids);
        expect(score).toBeCloseTo(scored[i].score, 5);
      });
    },
  );

  test('one beam is greedy', async () => {
    const generator = new Generator(writers[which]);
    const greedy = { maxTokens: 7, temperature: 0, topK: 0, topP: 1, seed: 1 };
    const [{ ids }] = await generator.complete([[2, 1]], greedy);
    const [found] = await generator.search([2, 1], { beams: 1, maxTokens: 7 });
    expect(found.ids).toEqual(ids);
  });

  test('many beams find nothing worse than one, and often something better', async () => {
    const search = async (prompt: readonly number[], beams: number): Promise<number> =>
      (await beamSearch(writers[which], prompt, { beams, maxTokens: 6, lengthPenalty: 0 }))[0].logProbability;
    let better = 0;
    for (let pair = 0; pair < VOCABULARY ** 2; pair++) {
      const prompt = [pair % VOCABULARY, Math.floor(pair / VOCABULARY)];
      const [one, many] = [await search(prompt, 1), await search(prompt, 64)];
      expect(many).toBeGreaterThan(one - 1e-5);
      if (many > one + 1e-3) better++;
    }
    expect(better).toBeGreaterThan(0);
  });
});

test('an abort ends the search', async () => {
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(beamSearch(writers[0], [1], { beams: 2, maxTokens: 3, signal })).rejects.toThrow('enough');
});

test.each<[Partial<BeamOptions>, string]>([
  [{ beams: 0 }, 'beams 0 must be 1 or more'],
  [{ maxTokens: 0 }, 'maxTokens 0 must be 1 or more'],
  [{ lengthPenalty: NaN }, 'lengthPenalty NaN is not a number'],
])('%o is refused', async (options, message) => {
  const search = beamSearch(writers[0], [1], { beams: 2, maxTokens: 3, ...options });
  await expect(search).rejects.toThrow(new RangeError(message));
});
