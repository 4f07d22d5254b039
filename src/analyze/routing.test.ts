import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder, tinyData, tinyModel, tinyText } from '../../test/support/tiny-training.js';
import { ByteTokenizer, MemoryTokens, StreamSequence } from '../data/index.js';
import type { LanguageModel } from '../models/index.js';
import { nameParameters, streamKey, uniformAt } from '../nn/index.js';
import { CheckpointStore, Evaluator, namedTensors, type LoadedLanguageModel } from '../train/index.js';
import { checkpointStability } from './checkpoint-stability.js';
import { analyzeRouting } from './routing.js';
import { batchesOfRows, RoutingTracer } from './routing-trace.js';

const shape = { batchSize: 2, contextLength: 8 };
const data = tinyData(tinyText(101), tinyText(101, 2), shape);
const sparse = (topK: number): Readonly<Record<string, unknown>> => ({
  sparse: { every: 1, numExperts: 4, topK, router: { kind: 'softmax' }, dispatch: { kind: 'dropless' } },
});

function weightsOf(model: LanguageModel, key: number): Map<string, Float32Array> {
  return new Map(
    [...nameParameters(model)].map(([name, { size }]) => {
      const stream = streamKey(key, name);
      return [name, Float32Array.from({ length: size }, (_, i) => 3 * (uniformAt(stream, i) - 0.5))];
    }),
  );
}

function loaded(options: Readonly<Record<string, unknown>>, key = 1): LoadedLanguageModel {
  const model = tinyModel(options);
  return {
    model,
    tokenizer: new ByteTokenizer(),
    weights: weightsOf(model, key),
    source: 'memory',
    warnings: [],
  };
}

let folder: string;
beforeAll(async () => (folder = await temporaryFolder()));
afterAll(() => rm(folder, { recursive: true, force: true }));

test('a trace holds what the evaluator counts, without padding', async () => {
  const { model, weights, tokenizer } = loaded(sparse(2));
  const tracer = await RoutingTracer.create(model, weights, shape);
  const trace = await tracer.trace(data.validation());
  await tracer.release();
  const evaluator = await Evaluator.create(model, weights, shape, {});
  const { loads, tokens } = await evaluator.evaluate(data.validation(), tokenizer);
  await evaluator.release();
  expect(trace.tokens).toHaveLength(tokens);
  expect(trace.positions.slice(0, 9)).toEqual(Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7, 0));
  expect([trace.rows.at(-1), trace.batches.at(-1)]).toEqual([12, 6]);
  trace.layers.forEach(({ experts, probabilities, numExperts, topK }, l) => {
    const counts = [0, 1, 2, 3].map((expert) => experts.filter((chosen) => chosen === expert).length);
    expect(counts).toEqual(loads[l]);
    // The first choice has the largest probability of its token.
    for (let t = 0; t < tokens; t++) {
      const row = probabilities.subarray(t * numExperts, (t + 1) * numExperts);
      expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
      expect(row[experts[t * topK]]).toBe(Math.max(...row));
    }
  });
});

test('a model with a memory routes a stream as its evaluation does, and rows of their own without a memory', async () => {
  const options = { ...sparse(2), positions: 'transformerXL', memoryLength: 8, evaluationMemoryLength: 16 };
  const { model, weights, tokenizer } = loaded(options);
  const stream = (): StreamSequence =>
    new StreamSequence(new MemoryTokens(tinyText(101, 2), 'validation'), shape);
  const tracer = await RoutingTracer.create(model, weights, shape);
  const trace = await tracer.trace(stream());
  const counts = trace.layers.map(({ experts }) =>
    [0, 1, 2, 3].map((expert) => experts.filter((chosen) => chosen === expert).length),
  );
  const evaluator = await Evaluator.create(model, weights, shape, {});
  expect(counts).toEqual((await evaluator.evaluate(stream(), tokenizer)).loads);
  await evaluator.release();
  // The sequence writes over its batch.
  const batches = Array.from(stream(), (batch) => ({
    ...batch,
    tokens: batch.tokens.slice(),
    mask: batch.mask.slice(),
  }));
  const forgetful = await tracer.trace(batches);
  expect(forgetful.layers[1].probabilities).not.toEqual(trace.layers[1].probabilities);
  const [, second] = batches;
  const first = shape.batchSize * shape.contextLength;
  const alone = await tracer.trace([second]);
  expect(forgetful.layers[1].probabilities.subarray(4 * first, 8 * first)).toEqual(
    alone.layers[1].probabilities.subarray(0, 4 * first),
  );
  await tracer.release();
});

test('rows of ids: cut to the context, padded behind, and traced without their padding', async () => {
  const { model, weights } = loaded(sparse(1));
  const tracer = await RoutingTracer.create(model, weights, shape);
  const rows = [[1, 2, 3], [4], [...Array(12).keys()]];
  const trace = await tracer.trace(batchesOfRows(rows, shape));
  expect([...trace.tokens]).toEqual([1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7]);
  expect([...trace.rows]).toEqual([0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
  expect(await tracer.trace(batchesOfRows(rows, shape), 2)).toMatchObject({ tokens: Int32Array.of(1, 2) });
  await expect(tracer.trace([])).rejects.toThrow('there is no token to route');
  await tracer.release();
});

test('the analysis of a model: every figure over the same tokens, and the same again', async () => {
  const analyze = (): ReturnType<typeof analyzeRouting> =>
    analyzeRouting(loaded(sparse(2)), { sequence: data.validation(), corruptionRate: 1 });
  const analysis = (await analyze())!;
  expect(analysis.tokens).toBe(100);
  expect(analysis.profiles.map(({ layer, load }) => [layer, load.reduce((a, b) => a + b)])).toEqual([
    ['0', 200],
    ['1', 200],
  ]);
  expect(analysis.agreement.layers).toEqual(['0', '1']);
  expect(analysis.classes.map(({ kind, classes }) => [kind, classes])).toEqual([
    ['script', ['Latin']],
    ['character', ['letter']],
  ]);
  expect(analysis.capacity).toEqual([]);
  // The text is one word a sequence, so that a swapped word leaves nothing, and swapped characters nothing either.
  expect(analysis.robustness.map(({ kind, edits, tokens }) => [kind, edits > 0, tokens])).toEqual([
    ['wordSwap', true, 0],
    ['characterSwap', true, 0],
  ]);
  expect(await analyze()).toEqual(analysis);
});

test('corruption changes routing after it and, in a causal model, nothing before it', async () => {
  const text = new TextEncoder().encode('ab cd ef gh ij kl mn op qr st uv wx yz '.repeat(6));
  const worded = tinyData(tinyText(101), Int32Array.from(text), shape);
  const analysis = (await analyzeRouting(loaded(sparse(1)), {
    sequence: worded.validation(),
    corruptionRate: 0.5,
  }))!;
  for (const { tokens, tokensAfterEdit, layers } of analysis.robustness) {
    expect(tokens).toBeGreaterThan(tokensAfterEdit);
    for (const { changed, changedAfterEdit, overlapAfterEdit } of layers) {
      expect(changed * tokens).toBeCloseTo(changedAfterEdit * tokensAfterEdit, 9);
      expect(overlapAfterEdit).toBeCloseTo(1 - changedAfterEdit, 12);
    }
    expect(layers[1].changed).toBeGreaterThan(0);
  }
});

test('a model without records has no analysis', async () => {
  expect(await analyzeRouting(loaded({}), { sequence: data.validation() })).toBeUndefined();
});

test('stability: the same weights change nothing, other weights do', async () => {
  const model = tinyModel(sparse(1));
  const store = new CheckpointStore(join(folder, 'checkpoints'), { keepLast: 5 });
  const shapes = new Map([...nameParameters(model)].map(([name, parameter]) => [name, parameter.shape]));
  const look = (): ReturnType<typeof checkpointStability> =>
    checkpointStability(folder, model, () => data.validation(), shape, 50);
  const save = (step: number, key: number): Promise<unknown> =>
    store.save(step, { model: namedTensors(shapes, weightsOf(model, key)), optimizer: [], state: { step } });
  await save(10, 1);
  expect(await look()).toBeUndefined();
  await save(20, 1);
  await save(30, 2);
  const stability = (await look())!;
  expect(stability).toMatchObject({ steps: [10, 20, 30], tokens: 50 });
  for (const { changed } of stability.layers) {
    expect(changed[0]).toBe(0);
    expect(changed[1]).toBeGreaterThan(0.1);
  }
});
