import { afterEach, describe, expect, test } from 'vitest';
import { tinyTrainer, type TinyTraining } from '../../test/support/tiny-training.js';
import type { Trainer } from './trainer.js';

const open: Trainer[] = [];
async function create(training: TinyTraining): Promise<Trainer> {
  const { trainer } = await tinyTrainer(training);
  open.push(trainer);
  return trainer;
}
afterEach(async () => {
  for (const trainer of open.splice(0)) await trainer.release();
});

const speed = 0.125;
const balanced = (more: object = {}) => ({
  sparse: { numExperts: 4, topK: 2, router: { kind: 'biasBalanced', updateSpeed: speed }, ...more },
});
const biases = (trainer: Trainer): Map<string, number[]> =>
  new Map(
    [...trainer.weights.all]
      .filter(([name]) => name.endsWith('.loadBias'))
      .map(([name, data]) => [name, [...data]]),
  );
/** The bias after one update from zero: against the crowd, then centred. */
function moved(load: ArrayLike<number>): number[] {
  const loads = Array.from(load);
  const mean = loads.reduce((a, b) => a + b, 0) / loads.length;
  const steps = loads.map((count) => speed * Math.sign(mean - count));
  const centre = steps.reduce((a, b) => a + b, 0) / steps.length;
  return steps.map((step) => step - centre);
}

describe('biases that balance the load', () => {
  test('every layer has its own, which follows its own load', async () => {
    const trainer = await create({ model: balanced() });
    const { loads } = await trainer.update();
    const after = biases(trainer);
    expect([...after.keys()]).toEqual([
      'blocks.0.feedForward.router.loadBias',
      'blocks.1.feedForward.router.loadBias',
    ]);
    [...after.values()].forEach((bias, layer) => {
      expect(bias).toEqual(moved(loads[layer]));
      expect(bias.some((value) => value !== 0)).toBe(true);
    });
  });

  test('their mean stays 0', async () => {
    const trainer = await create({ model: balanced() });
    for (let i = 0; i < 15; i++) await trainer.update();
    for (const bias of biases(trainer).values()) {
      expect(bias.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 6);
      expect(Math.max(...bias)).toBeGreaterThan(0);
    }
  });

  test('evaluation leaves them alone', async () => {
    const trainer = await create({ model: balanced() });
    await trainer.update();
    const before = biases(trainer);
    await trainer.evaluate();
    await trainer.evaluate();
    expect(biases(trainer)).toEqual(before);
  });

  test('the batches of one update move them once, by their common load', async () => {
    const trainer = await create({ model: balanced(), train: { accumulation: 3 } });
    const { loads, tokens } = await trainer.update();
    expect(loads[0].reduce((a, b) => a + b, 0)).toBe(2 * tokens);
    [...biases(trainer).values()].forEach((bias, layer) => expect(bias).toEqual(moved(loads[layer])));
  });

  test('a router that several layers share has one, which follows their loads together', async () => {
    const trainer = await create({ model: balanced({ routerSharing: { share: 'weights' } }) });
    const { loads } = await trainer.update();
    const after = [...biases(trainer).values()];
    expect(after).toHaveLength(1);
    expect(after[0]).toEqual(moved(loads[0].map((count, expert) => count + loads[1][expert])));
  });

  test('a run that goes on from its arrays keeps them to the bit', async () => {
    const [straight, resumed] = [await create({ model: balanced() }), await create({ model: balanced() })];
    for (let i = 0; i < 3; i++) await straight.update();
    expect([...biases(straight).values()].flat().some((value) => value !== 0)).toBe(true);
    resumed.restore(straight.state());
    for (const [name, values] of straight.weights.all) resumed.weights.all.get(name)!.set(values);
    for (const [name, { data }] of straight.optimizerState) resumed.optimizerState.get(name)!.data.set(data);
    for (const trainer of [straight, resumed]) for (let i = 0; i < 3; i++) await trainer.update();
    expect(biases(resumed)).toEqual(biases(straight));
  });

  test('they are no weights: the optimiser passes them by, frozen ones stay', async () => {
    const trainer = await create({ model: balanced(), train: { freeze: ['blocks.1.*'] } });
    await trainer.update();
    const [first, second] = [...biases(trainer).values()];
    expect(first.every((value) => value % (speed / 4) === 0)).toBe(true);
    expect(second).toEqual([0, 0, 0, 0]);
  });
});

describe('the unit embeddings of adaptive clustering', () => {
  const sparse = {
    numExperts: 4,
    topK: 2,
    router: { kind: 'adaptiveClustering', preset: 'released-lm', inner: { kind: 'softmax' } },
  };
  const embeddings = (trainer: Trainer): number[][] => {
    const data = trainer.weights.all.get('blocks.1.feedForward.router.gate.embeddings')!;
    return Array.from({ length: 4 }, (_, e) => [
      ...data.subarray((e * data.length) / 4, ((e + 1) * data.length) / 4),
    ]);
  };

  test('learn, and keep the length at which they are stored', async () => {
    const trainer = await create({ model: { sparse } });
    const before = embeddings(trainer);
    for (let i = 0; i < 5; i++) await trainer.update();
    const after = embeddings(trainer);
    for (const row of [...before, ...after]) expect(Math.hypot(...row)).toBeCloseTo(1.5, 5);
    expect(after).not.toEqual(before);
  });

  test('stay as they are where they are frozen', async () => {
    const trainer = await create({ model: { sparse }, train: { freeze: ['*.embeddings'] } });
    trainer.weights.all.get('blocks.1.feedForward.router.gate.embeddings')!.fill(1);
    await trainer.update();
    expect(
      embeddings(trainer)
        .flat()
        .every((value) => value === 1),
    ).toBe(true);
  });
});

test('the entropy losses of all layers are added up, and evaluation leaves them out', async () => {
  const sigma = (entropyCoefficient: number) => ({
    sparse: { numExperts: 4, topK: 2, router: { kind: 'sigmoid', entropyCoefficient } },
  });
  const [strong, none] = [await create({ model: sigma(10) }), await create({ model: sigma(0) })];
  const [a, b] = [await strong.evaluate(), await none.evaluate()];
  expect(a.loss).toBe(b.loss);
  const { loss, taskLoss, auxiliary } = await strong.update();
  // Reports give the mean over the two layers.
  expect(loss).toBeCloseTo(taskLoss + 10 * 2 * auxiliary['entropy'], 4);
  expect(auxiliary['entropy']).toBeLessThan(-1);
});
