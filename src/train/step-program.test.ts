import { afterEach, describe, expect, test } from 'vitest';
import { noisySwitch, tinyData, tinyModel, tinyText } from '../../test/support/tiny-training.js';
import { gradients as differentiate } from '../graph/index.js';
import { evaluationContext, nameParameters, trainingContext } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import { createWeights } from './freeze.js';
import { objectiveOf } from './objectives/index.js';
import { batchFeeds, traceObjective } from './objectives/language-modelling.js';
import { StepProgram } from './step-program.js';

const shape = { batchSize: 2, contextLength: 8 };
const open: { release(): Promise<void> }[] = [];
afterEach(async () => {
  for (const program of open.splice(0)) await program.release();
});

async function create(
  options: Readonly<Record<string, unknown>>,
  freeze: readonly string[] = [],
  padded = false,
) {
  const model = tinyModel(options);
  const parameters = nameParameters(model);
  const weights = createWeights(parameters, freeze, 1);
  const gradients = weights.trainable.like();
  const settings = { shape, padded, runtime: {}, seed: 1 };
  const step = await StepProgram.create(
    objectiveOf(model),
    parameters,
    weights.trainable,
    gradients,
    weights.frozen,
    settings,
  );
  open.push(step);
  return { model, parameters, weights, gradients, step };
}
const batch = () => tinyData(tinyText(200), tinyText(20), shape).train.next();

describe('StepProgram', () => {
  test('noise is named by the batch: the same number gives the same bits, another another loss', async () => {
    const { step } = await create(noisySwitch);
    const losses: number[] = [];
    for (const number of [7, 8, 7]) losses.push((await step.run(batchFeeds(batch()), number)).loss);
    expect(losses[2]).toBe(losses[0]);
    expect(losses[1]).not.toBe(losses[0]);
  });

  test('without noise the number of the batch says nothing', async () => {
    const { step } = await create({ sparse: { numExperts: 4 } });
    const losses: number[] = [];
    for (const number of [1, 2]) losses.push((await step.run(batchFeeds(batch()), number)).loss);
    expect(losses[1]).toBe(losses[0]);
  });

  test('gradients of the trainable parameters do not depend on what is frozen', async () => {
    const all = await create({ sparse: { numExperts: 4 } });
    const some = await create({ sparse: { numExperts: 4 } }, ['embedding.*', '*.router.*']);
    await all.step.run(batchFeeds(batch()), 0);
    await some.step.run(batchFeeds(batch()), 0);
    expect(some.gradients.views.has('embedding.weight')).toBe(false);
    for (const [name, gradient] of some.gradients.views) {
      const expected = all.gradients.views.get(name)!;
      gradient.forEach((value, i) => expect(Math.abs(value - expected[i]), name).toBeLessThan(1e-6));
      expect(
        gradient.some((value) => value !== 0),
        name,
      ).toBe(true);
    }
  });

  test('the gradients in the arena point uphill', async () => {
    const { step, weights, gradients } = await create({ sparse: { numExperts: 4 } });
    const feeds = batchFeeds(batch());
    const { loss } = await step.run(feeds, 0);
    const slope = gradients.data.reduce((sum, value) => sum + value * value, 0);
    const small = 1e-3 / Math.sqrt(slope);
    weights.trainable.data.forEach(
      (value, i) => (weights.trainable.data[i] = value - small * gradients.data[i]),
    );
    const after = (await step.run(feeds, 0)).loss;
    expect((loss - after) / (small * slope)).toBeCloseTo(1, 1);
  });

  test('padding is neither learnt from nor routed', async () => {
    const { step, gradients } = await create({ sparse: { numExperts: 4 } }, [], true);
    const { tokens, targets, mask } = batch();
    const cut = { tokens: tokens.slice(), targets: targets.slice(), mask: mask.slice() };
    cut.tokens.fill(0, 12);
    cut.targets.fill(-100, 12);
    cut.mask.fill(0, 12);
    const { loss, loads } = await step.run(batchFeeds(cut), 0);
    for (const load of loads) expect(load.reduce((a, b) => a + b, 0)).toBe(12);
    const first = gradients.data.slice();
    cut.tokens.fill(99, 12);
    expect((await step.run(batchFeeds(cut), 0)).loss).toBe(loss);
    expect(gradients.data).toEqual(first);
  });
});

describe('traceObjective', () => {
  test('the task loss is the mean over counted targets, and 0 when none counts', async () => {
    const model = tinyModel({ vocabSize: 11 });
    const parameters = nameParameters(model);
    const { taskLoss, tokenLoss, loss } = traceObjective(model, shape, evaluationContext(), false);
    const program = await compile({ taskLoss, tokenLoss, loss });
    open.push(program);
    program.bindKnown(createWeights(parameters, [], 1).all);
    const tokens = Int32Array.from({ length: 16 }, (_, i) => i % 11);
    const targets = tokens.map((token, i) => (i % 3 === 0 ? -100 : (token + 1) % 11));
    program.bindKnown(Object.entries({ tokens, targets }));
    const results = await program.run();
    const each = Array.from(results.tokenLoss as Float32Array);
    const counted = each.filter((_, i) => targets[i] >= 0);
    each.forEach((value, i) => expect(value > 0, `token ${i}`).toBe(targets[i] >= 0));
    expect(results.taskLoss[0]).toBeCloseTo(counted.reduce((a, b) => a + b, 0) / counted.length, 5);
    expect(results.loss[0]).toBe(results.taskLoss[0]);
    program.bindKnown([['targets', targets.fill(-100)]]);
    expect((await program.run()).taskLoss[0]).toBe(0);
  });

  test('a double-precision trace of the same model gives the same gradients', async () => {
    const model = tinyModel({ vocabSize: 11, sparse: { numExperts: 3 } });
    const results: Record<string, Float64Array[]> = {};
    for (const dtype of ['float32', 'float64'] as const) {
      const parameters = nameParameters(model, dtype);
      const { loss } = traceObjective(model, shape, trainingContext(), false, dtype);
      const leaves = [...parameters.values()].map(({ tensor }) => tensor);
      const derived = differentiate(loss, leaves);
      const program = await compile(Object.fromEntries(derived.map((tensor, i) => [`g${i}`, tensor])));
      open.push(program);
      const { all } = createWeights(parameters, [], 1);
      program.bindKnown(
        [...all].map(([name, data]) => [name, dtype === 'float32' ? data : Float64Array.from(data)] as const),
      );
      const tokens = Int32Array.from({ length: 16 }, (_, i) => (i * i) % 11);
      program.bindKnown(Object.entries({ tokens, targets: tokens.map((token) => (token + 1) % 11) }));
      const fetched = await program.run();
      results[dtype] = leaves.map((_, i) => Float64Array.from(fetched[`g${i}`] as Float32Array));
    }
    results['float64'].forEach((exact, i) => {
      const largest = exact.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      results['float32'][i].forEach((value, at) =>
        expect(Math.abs(value - exact[at]) / largest).toBeLessThan(1e-4),
      );
    });
  });
});
