import { afterEach, describe, expect, test } from 'vitest';
import { tinyData, tinyModel, tinyOptions, tinyText } from '../../../test/support/tiny-training.js';
import {
  ByteTokenizer,
  labelledExamples,
  OrderedExamples,
  pairExamples,
  ShuffledExamples,
  shapeOf,
  type AnyBatch,
  type BatchShape,
  type Examples,
  type OpenData,
} from '../../data/index.js';
import {
  Classifier,
  classifierSchema,
  EncoderDecoder,
  encoderDecoderSchema,
  type Model,
} from '../../models/index.js';
import { evaluationContext, nameParameters } from '../../nn/index.js';
import { compile } from '../../runtime/index.js';
import { Evaluator } from '../evaluator.js';
import { createWeights } from '../freeze.js';
import { Trainer } from '../trainer.js';
import { objectiveOf } from './index.js';

const [pad, end] = [256, 258];
const tokenizer = new ByteTokenizer({ specialTokens: true });
const encode = (text: string): Int32Array => Int32Array.of(...tokenizer.encode(text), end);
const stacks = {
  hiddenSize: 16,
  numEncoderLayers: 2,
  numHeads: 2,
  intermediateSize: 32,
  contextLength: 12,
  eosTokenId: end,
  padTokenId: pad,
  sparse: { every: 2, numExperts: 3, dispatch: { kind: 'dropless' } },
};
const pair = (): EncoderDecoder =>
  new EncoderDecoder({
    ...encoderDecoderSchema.parse({ kind: 'encoderDecoder', ...stacks, numDecoderLayers: 2 }),
    vocabSize: 259,
  });
const classifier = (head: 'decoderEos' | 'encoderMean' = 'decoderEos'): Classifier =>
  new Classifier({
    ...classifierSchema.parse({
      kind: 'classifier',
      ...stacks,
      ...(head === 'decoderEos' ? { numDecoderLayers: 2 } : {}),
      head,
      numLabels: 3,
    }),
    vocabSize: 259,
  });

/** Texts of one letter, 1 to 5 times; the letter is the class, the capital the target. */
const letters = Array.from({ length: 30 }, (_, i) => 'abc'[i % 3]!.repeat(1 + (i % 5)));
const sources = letters.map(encode);
const pairs = pairExamples(
  sources,
  letters.map((letter) => encode(letter[0]!.toUpperCase())),
  { start: pad, pad },
  'letters',
);
const labelled = labelledExamples(
  sources,
  letters.map((letter) => 'abc'.indexOf(letter[0]!)),
  pad,
  'letters',
);

const open: { release(): Promise<void> }[] = [];
afterEach(async () => {
  for (const program of open.splice(0)) await program.release();
});

function dataOf<Kind extends AnyBatch>(examples: Examples<Kind>, shape: BatchShape): OpenData<Kind> {
  return {
    tokenizer,
    train: new ShuffledExamples(examples, { ...shape, seed: 2 }),
    validation: () => new OrderedExamples(examples, shape),
    provenance: 'a test',
    close: () => undefined,
  };
}

async function evaluatorOf(model: Model, shape: BatchShape): Promise<Evaluator> {
  const { all } = createWeights(nameParameters(model), [], 3);
  const evaluator = await Evaluator.create(model, all, shape, {});
  open.push(evaluator);
  return evaluator;
}

const kinds: readonly (readonly [string, () => Model, Examples<AnyBatch>])[] = [
  ['pairs', pair, pairs as Examples<AnyBatch>],
  ['classes by the decoder', classifier, labelled as Examples<AnyBatch>],
  ['classes by the encoder', () => classifier('encoderMean'), labelled as Examples<AnyBatch>],
];

describe.each(kinds)('%s', (_, create, examples) => {
  test('neither the rows of a batch nor their padding change the measure', async () => {
    const shapes: BatchShape[] = [
      { batchSize: 1, contextLength: 6, targetLength: 2 },
      { batchSize: 7, contextLength: 12, targetLength: 5 },
    ];
    const reports = [];
    for (const shape of shapes) {
      const evaluator = await evaluatorOf(create(), shape);
      reports.push(await evaluator.evaluate(new OrderedExamples(examples, shape), tokenizer));
    }
    const [alone, together] = reports as [(typeof reports)[0], (typeof reports)[0]];
    expect(together.loss).toBeCloseTo(alone.loss, 5);
    expect(Number.isFinite(alone.loss)).toBe(true);
    expect({ ...together, loss: 0, perplexity: 0, bitsPerByte: 0 }).toEqual({
      ...alone,
      loss: 0,
      perplexity: 0,
      bitsPerByte: 0,
    });
  });

  test('is learnt: the weights end where the answers are right', async () => {
    const options = tinyOptions({
      batchSize: 10,
      steps: 60,
      accumulation: 1,
      schedule: { kind: 'constant', learningRate: 0.02, warmupSteps: 5 },
    });
    const shape = { batchSize: 10, contextLength: 6, targetLength: 2 };
    const trainer = await Trainer.create({
      model: create(),
      data: dataOf(examples, shape),
      options,
      seed: 1,
      padded: true,
    });
    open.push(trainer);
    const before = await trainer.evaluate();
    const isPair = before.exactMatch !== undefined;
    let tokens = 0;
    for (let step = 0; step < 60; step++) tokens += (await trainer.update()).tokens;
    const after = await trainer.evaluate();
    expect(after.loss).toBeLessThan(0.1 * before.loss);
    expect(after.classification?.accuracy.value ?? after.exactMatch).toBe(1);
    // 20 epochs: every source with its end token, and of pairs every target.
    const perEpoch =
      letters.reduce((sum, { length }) => sum + length + 1, 0) + (isPair ? 2 * letters.length : 0);
    expect(tokens).toBe(20 * perEpoch);
  });
});

test('scores of a classifier are those of its most likely classes', async () => {
  const model = classifier();
  const shape = { batchSize: 30, contextLength: 6 };
  const evaluator = await evaluatorOf(model, shape);
  const [batch] = new OrderedExamples(labelled, shape);
  const { all } = createWeights(nameParameters(model), [], 3);
  const traced = objectiveOf(model).trace(evaluationContext(), { shape, padded: true });
  const program = await compile({ tokenLoss: traced.tokenLoss, predictions: traced.predictions! }, {});
  open.push(program);
  program.bindKnown(all).bindKnown(Object.entries(objectiveOf(model).feeds(batch!)));
  const { tokenLoss, predictions } = await program.run();
  const report = await evaluator.evaluate(new OrderedExamples(labelled, shape), tokenizer);
  const right = [...(predictions as Int32Array)].filter((label, i) => label === i % 3).length;
  expect(report.classification?.accuracy.value).toBeCloseTo(right / 30, 12);
  expect(report.classification?.confusion.flat().reduce((a, b) => a + b)).toBe(30);
  expect(report.loss).toBeCloseTo([...(tokenLoss as Float32Array)].reduce((a, b) => a + b) / 30, 6);
  expect(report).toMatchObject({ tokens: 30, bytes: 0, bitsPerByte: 0 });
});

test('batches of another kind are refused', async () => {
  const shape = { batchSize: 2, contextLength: 8 };
  const windows = tinyData(tinyText(50), tinyText(20), shape).train.next();
  const rows = new ShuffledExamples(labelled, { ...shape, seed: 1 });
  expect(() => objectiveOf(pair()).feeds(windows)).toThrow('an encoder–decoder is trained on pairs');
  expect(() => objectiveOf(classifier()).feeds(windows)).toThrow('a classifier is trained on labelled rows');
  expect(() => objectiveOf(tinyModel()).feeds(rows.next())).toThrow(
    'a language model is trained on windows of text',
  );
  const parts = {
    model: tinyModel(),
    data: dataOf(labelled, shapeOf(shape)),
    options: tinyOptions({ batchSize: 2 }),
  };
  const trainer = await Trainer.create({ ...parts, seed: 1, padded: false });
  open.push(trainer);
  await expect(trainer.update()).rejects.toThrow('a language model is trained on windows of text');
});
