import { describe, expect, test } from 'vitest';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run, type Feeds } from '../../test/support/numbers.js';
import { matrix } from '../../test/support/reference-moe.js';
import { add, input, mean, type DType } from '../graph/index.js';
import { crossEntropy, evaluationContext, nameParameters, trainingContext } from '../nn/index.js';
import { Classifier } from './classifier.js';
import { classifierSchema } from './classifier-options.js';
import { EncoderDecoder } from './encoder-decoder.js';
import { encoderDecoderSchema } from './encoder-decoder-options.js';
import { totalAuxiliaryLoss } from './language-model.js';
import { createModel } from './model.js';
import { sizeOfModel } from './size.js';

const [batch, time, vocabSize, hiddenSize, numLabels] = [3, 6, 11, 8, 3];
const stacks = {
  hiddenSize,
  numEncoderLayers: 2,
  numHeads: 2,
  headSize: 3,
  intermediateSize: 12,
  contextLength: 8,
  attentionScale: 1,
  eosTokenId: 1,
} as const;
const sparse = { every: 2, numExperts: 3, router: { kind: 'softmax', zLossCoefficient: 0.01 } };
const heads = {
  decoderEos: { head: 'decoderEos', numDecoderLayers: 2 },
  encoderMean: { head: 'encoderMean' },
} as const;

type Input = Readonly<Record<string, unknown>>;

function create(options: Input): Classifier {
  const parsed = classifierSchema.parse({ kind: 'classifier', ...stacks, numLabels, ...options });
  return new Classifier({ ...parsed, vocabSize });
}

function trace(model: Classifier, { training = false, masked = true, dtype = 'float64' as DType } = {}) {
  const parameters = nameParameters(model, dtype);
  const source = input('source', 'int32', [batch, time]);
  const mask = masked ? { sourceMask: input('sourceMask', dtype, [batch, time]) } : {};
  const context = training ? trainingContext() : evaluationContext();
  const output = model.forward({ source, ...mask }, context);
  const task = mean(crossEntropy(output.logits, input('labels', 'int32', [batch])));
  const auxiliary = totalAuxiliaryLoss(output.losses);
  return { ...output, parameters, context, loss: auxiliary ? add(task, auxiliary) : task };
}

// Texts of 6, 4 and 2 tokens; the second says 1 twice, the third was cut off before its end.
const texts = [
  [4, 7, 2, 9, 5, 1],
  [3, 1, 6, 1, 0, 0],
  [8, 10, 0, 0, 0, 0],
];
const lengths = [6, 4, 2];
const source = Int32Array.from(texts.flat());
const sourceMask = Float64Array.from(
  lengths.flatMap((length) => texts[0]!.map((_, at) => Number(at < length))),
);
const labels = Int32Array.of(2, 0, 1);
const feeds: Feeds = [
  ['source', source],
  ['sourceMask', sourceMask],
  ['labels', labels],
];

/** The head by hand on one text's states, `out(tanh(dense(x)))`. */
function headOf(weights: ReadonlyMap<string, Float64Array>, x: readonly number[]): number[] {
  const apply = (name: string, input: readonly number[]): number[] => {
    const [matrix, bias] = ['weight', 'bias'].map((kind) => weights.get(`classifier.${name}.${kind}`)!);
    return [...bias!].map((b, row) =>
      input.reduce((sum, value, column) => sum + value * matrix![row * input.length + column]!, b),
    );
  };
  return apply('output', apply('dense', x).map(Math.tanh));
}

/** States of a pre-trained encoder–decoder with the same weights: rows of the encoder, of the decoder. */
async function states(options: Input, weights: ReadonlyMap<string, Float64Array>, text: readonly number[]) {
  const { numDecoderLayers = 1 } = options;
  const pair = new EncoderDecoder({
    ...encoderDecoderSchema.parse({
      kind: 'encoderDecoder',
      ...stacks,
      sparse: options['sparse'],
      numDecoderLayers,
    }),
    vocabSize,
  });
  const names = nameParameters(pair, 'float64');
  const [tokens, said] = ['source', 'target'].map((name) => input(name, 'int32', [1, text.length]));
  const encoded = pair.encode({ source: tokens! }, evaluationContext());
  const decoded = pair.decoder.forward(
    { embedded: pair.embedding.forward(said!), tokens: said!, memory: { states: encoded.states } },
    evaluationContext(),
  );
  const kept = [...names].map(
    ([name, { size }]) => [name, weights.get(name) ?? new Float64Array(size)] as const,
  );
  const result = await run({ encoder: encoded.states, decoder: decoded.states }, [
    ...kept,
    ['source', Int32Array.from(text)],
    ['target', Int32Array.from([0, ...text.slice(0, -1)])],
  ]);
  return { encoder: matrix(result.encoder, hiddenSize), decoder: matrix(result.decoder, hiddenSize) };
}

const cases: readonly (readonly [string, Input])[] = [
  ['decoderEos', heads.decoderEos],
  ['decoderEos with experts', { ...heads.decoderEos, sparse }],
  ['encoderMean', heads.encoderMean],
  ['encoderMean with experts', { ...heads.encoderMean, sparse }],
];

test.each(cases)('%s: equals the head on the states of each text alone', async (_, options) => {
  const { parameters, logits } = trace(create(options));
  const weights = randomParameters(parameters, 3, 0.5);
  const actual = await run({ logits }, [...weights, ...feeds]);
  const expected: number[] = [];
  for (const [row, length] of lengths.entries()) {
    const { encoder, decoder } = await states(options, weights, texts[row]!.slice(0, length));
    const average = encoder[0]!.map((_, i) => encoder.reduce((sum, state) => sum + state[i]!, 0) / length);
    expected.push(...headOf(weights, options['head'] === 'decoderEos' ? decoder[length - 1]! : average));
  }
  expect(logits.shape).toEqual([batch, numLabels]);
  expect(distance(actual.logits, expected)).toBeLessThan(1e-12);
});

test('padding reaches no masked classifier, but the released mean', async () => {
  const changed = source.slice();
  changed[2 * time + 4] = 7;
  const reached = async (options: Input): Promise<number> => {
    const { parameters, logits } = trace(create(options));
    const weights = randomParameters(parameters, 3, 0.5);
    const rest = [...feeds].filter(([name]) => name !== 'source');
    const [before, after] = [
      await run({ logits }, [...weights, ...feeds]),
      await run({ logits }, [...weights, ...rest, ['source', changed]]),
    ];
    return distance(before.logits, after.logits);
  };
  for (const [, options] of cases) expect(await reached(options)).toBeLessThan(1e-12);
  expect(await reached({ ...heads.encoderMean, mean: 'released' })).toBeGreaterThan(1e-3);
});

test.each<[string, Input, number[]]>([
  ['the last end token', { eosTokenId: 1 }, [5, 3, 1]],
  ['the last real token without one', { eosTokenId: undefined }, [5, 3, 1]],
  ['another end token', { eosTokenId: 6 }, [5, 2, 1]],
])('decoderEos reads %s', async (_, options, rows) => {
  const model = create({ ...heads.decoderEos, ...options });
  const { parameters, logits } = trace(model);
  const weights = randomParameters(parameters, 3, 0.5);
  const { logits: actual } = await run({ logits }, [...weights, ...feeds]);
  const expected: number[] = [];
  for (const [at, length] of lengths.entries()) {
    const { decoder } = await states(heads.decoderEos, weights, texts[at]!.slice(0, length));
    expected.push(...headOf(weights, decoder[rows[at]!]!));
  }
  expect(distance(actual, expected)).toBeLessThan(1e-12);
});

test('without a mask everything is real', async () => {
  for (const options of [heads.decoderEos, heads.encoderMean]) {
    const open = trace(create(options), { masked: false });
    const weights = randomParameters(open.parameters, 3, 0.5);
    const without = await run({ logits: open.logits }, [...weights, ['source', source]]);
    const { logits } = trace(create(options));
    const ones = new Float64Array(batch * time).fill(1);
    const withOnes = await run({ logits }, [...weights, ['source', source], ['sourceMask', ones]]);
    expect(distance(without.logits, withOnes.logits)).toBeLessThan(1e-12);
  }
});

test.each<[string, Input, boolean]>([
  ['decoderEos, Switch', { ...heads.decoderEos, sparse }, false],
  ['decoderEos while it trains', { ...heads.decoderEos, dropout: 0.1, headDropout: 0.2 }, true],
  ['encoderMean, Switch', { ...heads.encoderMean, sparse }, false],
  [
    'encoderMean, released, while it trains',
    { ...heads.encoderMean, mean: 'released', headDropout: 0.2 },
    true,
  ],
])('gradients equal finite differences: %s', async (_, options, training) => {
  const { parameters, loss, context } = trace(create(options), { training });
  const noise = Object.fromEntries(
    [...context.noise.feeds].map(([name, { shape }]) => [
      name,
      new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
    ]),
  );
  context.noise.fill(1, 2, noise);
  const error = await leafGradientError(
    loss,
    new Map([...parameters].map(([name, { tensor }]) => [name, tensor])),
    new Map<string, Float64Array | Int32Array>([
      ...randomParameters(parameters, 3),
      ...([...feeds] as [string, Float64Array | Int32Array][]),
      ...Object.entries(noise),
    ]),
    { samples: 4, seed: 5 },
  );
  expect(error).toBeLessThan(1e-7);
});

test('its names are those of an encoder–decoder, and the head beside them', () => {
  const pair = new EncoderDecoder({
    ...encoderDecoderSchema.parse({ kind: 'encoderDecoder', ...stacks, numDecoderLayers: 2, sparse }),
    vocabSize,
  });
  const head = ['dense', 'output'].flatMap((part) => [
    `classifier.${part}.weight`,
    `classifier.${part}.bias`,
  ]);
  const names = (model: Classifier): string[] => [...model.parameters().keys()];
  expect(names(create({ ...heads.decoderEos, sparse }))).toEqual([...pair.parameters().keys(), ...head]);
  expect(names(create({ ...heads.encoderMean, sparse }))).toEqual([
    ...[...pair.parameters().keys()].filter((name) => !name.startsWith('decoder.')),
    ...head,
  ]);
});

test('sizes: the head counts once a text', () => {
  const pair = sizeOfModel(
    createModel({
      ...encoderDecoderSchema.parse({ kind: 'encoderDecoder', ...stacks, numDecoderLayers: 2, sparse }),
      vocabSize,
    }),
  );
  const both = sizeOfModel(create({ ...heads.decoderEos, sparse }));
  const head = hiddenSize * (hiddenSize + numLabels);
  const biases = hiddenSize + numLabels;
  expect(both.parameters - pair.parameters).toBe(head + biases);
  expect(both.activeParameters - pair.activeParameters).toBe(head + biases);
  expect(both.forwardFlopsPerToken - pair.forwardFlopsPerToken).toBe(
    (2 * head) / 8 - 2 * vocabSize * hiddenSize,
  );
  expect(both.sparseLayers).toEqual([1, 3]);
  expect(sizeOfModel(create({ ...heads.encoderMean, sparse })).sparseLayers).toEqual([1]);
});

describe('options', () => {
  test.each<[string, Input, string]>([
    ['numDecoderLayers', { head: 'decoderEos' }, 'decoderEos reads the decoder: set numDecoderLayers'],
    ['numDecoderLayers', { head: 'encoderMean', numDecoderLayers: 2 }, 'leave numDecoderLayers out'],
    ['mean', { ...heads.decoderEos, mean: 'masked' }, 'use head encoderMean'],
    ['head', { head: 'cls' }, '"decoderEos"'],
    ['numLabels', { ...heads.encoderMean, numLabels: 1 }, '>=2'],
    ['eosTokenId', { ...heads.encoderMean, vocabSize: 5, eosTokenId: 5 }, 'not in a vocabulary of 5'],
    ['', { ...heads.encoderMean, tieEmbeddings: true }, '"tieEmbeddings"'],
  ])('a bad %s is refused where it stands: %j', (path, options, message) => {
    const { error } = classifierSchema.safeParse({ kind: 'classifier', ...stacks, numLabels, ...options });
    expect(error?.issues.map((issue) => issue.path.join('.'))).toEqual([path]);
    expect(error!.issues[0]!.message).toContain(message);
  });
});
