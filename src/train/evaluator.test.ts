import { afterEach, describe, expect, test } from 'vitest';
import { tinyModel, tinyText } from '../../test/support/tiny-training.js';
import { ByteTokenizer, MemoryTokens, SequentialWindows, type BatchSequence } from '../data/index.js';
import { nameParameters } from '../nn/index.js';
import { Evaluator } from './evaluator.js';
import { createWeights } from './freeze.js';

const tokenizer = new ByteTokenizer();
const open: Evaluator[] = [];
afterEach(async () => {
  for (const evaluator of open.splice(0)) await evaluator.release();
});

async function create(batchSize: number, options: Readonly<Record<string, unknown>> = {}) {
  const model = tinyModel({ sparse: { numExperts: 4, topK: 2 }, ...options });
  const { all } = createWeights(nameParameters(model), [], 3);
  const shape = { batchSize, contextLength: 8 };
  const evaluator = await Evaluator.create(model, all, shape, {});
  open.push(evaluator);
  return { evaluator, weights: all, shape };
}
const sequence = (text: Int32Array, batchSize: number): BatchSequence =>
  new SequentialWindows(new MemoryTokens(text, 'text'), { batchSize, contextLength: 8 });

describe('Evaluator', () => {
  test('the report is the sum over tokens that the callback sees', async () => {
    const { evaluator } = await create(4);
    const text = tinyText(8 * 9 + 4);
    let [total, tokens] = [0, 0];
    const loads = [new Array<number>(4).fill(0), new Array<number>(4).fill(0)];
    const report = await evaluator.evaluate(
      sequence(text, 4),
      tokenizer,
      null,
      ({ batch, tokenLoss, experts }) => {
        tokenLoss.forEach((value, i) => {
          expect(value > 0).toBe(batch.targets[i] >= 0);
          total += value;
        });
        tokens += batch.targets.filter((target) => target >= 0).length;
        experts.forEach((chosen, layer) => {
          expect(chosen).toHaveLength(32 * 2);
          for (const expert of chosen) if (expert >= 0) loads[layer][expert]++;
        });
      },
    );
    expect(tokens).toBe(text.length - 1);
    expect(report).toMatchObject({ tokens, bytes: tokens, dropped: 0, loads });
    expect(report.loss).toBeCloseTo(total / tokens, 10);
    expect(report.perplexity).toBeCloseTo(Math.exp(total / tokens), 6);
    expect(report.bitsPerByte).toBeCloseTo(total / tokens / Math.LN2, 10);
    expect(report.loads[0].reduce((a, b) => a + b, 0)).toBe(2 * tokens);
  });

  test('the size of a batch and its padding change nothing', async () => {
    const text = tinyText(8 * 5 + 3);
    const [small, large] = [await create(1), await create(16)];
    const one = await small.evaluator.evaluate(sequence(text, 1), tokenizer);
    const all = await large.evaluator.evaluate(sequence(text, 16), tokenizer);
    expect(all.loss).toBeCloseTo(one.loss, 5);
    expect(all).toMatchObject({ tokens: one.tokens, bytes: one.bytes, loads: one.loads });
  });

  test('reads at most maxBatches', async () => {
    const { evaluator } = await create(2);
    const text = tinyText(8 * 20 + 1);
    expect((await evaluator.evaluate(sequence(text, 2), tokenizer, 3)).tokens).toBe(3 * 16);
    expect((await evaluator.evaluate(sequence(text, 2), tokenizer, 3000)).tokens).toBe(160);
  });

  test('counts bytes, not tokens', async () => {
    const { evaluator } = await create(2);
    const text = tokenizer.encode('añb漢c');
    const report = await evaluator.evaluate(sequence(text, 2), {
      ...tokenizer,
      vocabSize: 256,
      encode: (some) => tokenizer.encode(some),
      decode: (ids) => tokenizer.decode(ids),
      // The evaluator sees tokens only: a tokenizer whose tokens stand for more bytes changes nothing else.
      byteLength: (ids) => ids.length + 3,
      toFile: () => tokenizer.toFile(),
    });
    expect(report).toMatchObject({ tokens: 7, bytes: 10 });
    expect(report.bitsPerByte).toBeCloseTo((report.loss * 7) / Math.LN2 / 10, 10);
  });

  test('counts what capacity leaves without a place', async () => {
    const dispatch = { kind: 'capacity', evalCapacityFactor: 0.25, minimumCapacity: 1 };
    const { evaluator } = await create(4, { sparse: { numExperts: 4, topK: 1, dispatch } });
    const report = await evaluator.evaluate(sequence(tinyText(65), 4), tokenizer);
    expect(report.dropped).toBeGreaterThan(0);
    // Four experts with room for 2 of a batch's 32 tokens; loads count the router's choices.
    const choices = report.loads.flat().reduce((a, b) => a + b, 0);
    expect(choices).toBe(2 * 64);
    expect(report.dropped).toBeGreaterThanOrEqual(choices - 2 * 2 * 4 * 2);
  });

  test('follows weights that change in place', async () => {
    const { evaluator, weights } = await create(4);
    const before = await evaluator.evaluate(sequence(tinyText(65), 4), tokenizer);
    for (const values of weights.values()) values.forEach((value, i) => (values[i] = 2 * value));
    const after = await evaluator.evaluate(sequence(tinyText(65), 4), tokenizer);
    expect(Math.abs(after.loss - before.loss)).toBeGreaterThan(1e-3);
  });

  test('a set without a token to predict is refused', async () => {
    const { evaluator } = await create(4);
    const none = {
      batchSize: 4,
      contextLength: 8,
      batchCount: 0,
      targetCount: 0,
      [Symbol.iterator]: () => [].values(),
    };
    await expect(evaluator.evaluate(none, tokenizer)).rejects.toThrow(
      'the validation set has no token to predict',
    );
  });
});
