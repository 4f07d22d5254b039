import { InferenceSession } from 'onnxruntime-node';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  noisySwitch,
  tinyData,
  tinyModel,
  tinyOptions,
  tinyText,
  tinyTrainer,
  type TinyTraining,
} from '../../test/support/tiny-training.js';
import type { Batch, BatchSource } from '../data/index.js';
import { Trainer, type TrainerState } from './trainer.js';

const open: Trainer[] = [];
async function create(training: TinyTraining = {}): Promise<Trainer> {
  const { trainer } = await tinyTrainer(training);
  open.push(trainer);
  return trainer;
}
afterEach(async () => {
  for (const trainer of open.splice(0)) await trainer.release();
  vi.restoreAllMocks();
});

const copyOf = (trainer: Trainer): Map<string, Float32Array> =>
  new Map([...trainer.weights.all].map(([name, data]) => [name, data.slice()]));
const updates = async (trainer: Trainer, count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await trainer.update();
};
/** √Σ(after − before)² over all parameters, in double precision. */
function distance(
  before: ReadonlyMap<string, Float32Array>,
  after: ReadonlyMap<string, Float32Array>,
): number {
  let total = 0;
  for (const [name, values] of before)
    values.forEach((value, i) => (total += (after.get(name)![i] - value) ** 2));
  return Math.sqrt(total);
}
/** Plain descent at rate 1: an update is the (clipped) gradient. */
const descent = {
  optimizer: { kind: 'sgd', momentum: 0 },
  schedule: { kind: 'constant', learningRate: 1, warmupSteps: 0 },
};

describe('learning', () => {
  test.each([
    ['dense', {}],
    ['dropless', noisySwitch],
    ['capacity', { sparse: { numExperts: 4, topK: 2, dispatch: { kind: 'capacity' } } }],
  ])('a %s model learns a text and reports what it did', async (_, model) => {
    const trainer = await create({ model, train: { steps: 40 } });
    const first = await trainer.update();
    const before = await trainer.evaluate();
    expect(first).toMatchObject({ step: 1, tokens: 32, learningRate: 0.01 });
    expect(first.loss).toBeGreaterThan(4);
    const names = trainer.routedLayers.map(({ name }) => name);
    const topK = 'sparse' in model && 'topK' in model.sparse ? model.sparse.topK : 1;
    expect(names).toEqual('sparse' in model ? ('every' in model.sparse ? ['1'] : ['0', '1']) : []);
    for (const load of first.loads) {
      const kept = load.reduce((a, b) => a + b, 0);
      expect(load).toHaveLength(4);
      expect(kept).toBeLessThanOrEqual(32 * topK);
    }
    await updates(trainer, 39);
    const after = await trainer.evaluate();
    expect(after.loss).toBeLessThan(before.loss - 0.5);
    expect(trainer).toMatchObject({ step: 40, tokensSeen: 40 * 32, finished: true, bestStep: 40 });
  });

  test('the loss is the task loss and the weighted auxiliary losses', async () => {
    const trainer = await create({ model: noisySwitch });
    const { loss, taskLoss, auxiliary } = await trainer.update();
    expect(Object.keys(auxiliary).sort()).toEqual(['balance', 'z']);
    expect(loss).toBeCloseTo(taskLoss + 0.02 * auxiliary['balance'] + 0.01 * auxiliary['z'], 5);
  });

  test('frozen parameters keep their bits, the others move', async () => {
    const trainer = await create({ model: noisySwitch, train: { freeze: ['embedding.*', 'blocks.0.*'] } });
    const before = copyOf(trainer);
    await updates(trainer, 3);
    for (const [name, values] of trainer.weights.all) {
      const isFrozen = name.startsWith('embedding.') || name.startsWith('blocks.0.');
      if (isFrozen) expect(values, name).toEqual(before.get(name));
      else expect(values, name).not.toEqual(before.get(name));
    }
  });

  test('noise belongs to the step: the same seed gives the same bits, another seed others', async () => {
    const [a, b, c] = [
      await create({ model: noisySwitch }),
      await create({ model: noisySwitch }),
      await create({ model: noisySwitch, seed: 2 }),
    ];
    for (const trainer of [a, b, c]) await updates(trainer, 3);
    expect(copyOf(a)).toEqual(copyOf(b));
    expect(distance(copyOf(a), copyOf(c))).toBeGreaterThan(0.1);
  });

  test('dropout is off in evaluation', async () => {
    const trainer = await create({ model: { ...noisySwitch, dropout: 0.5 } });
    const [first, second] = [await trainer.evaluate(), await trainer.evaluate()];
    expect(second.loss).toBe(first.loss);
  });
});

describe('gradients', () => {
  test('the reported norm is that of all gradients together', async () => {
    const trainer = await create({ model: noisySwitch, train: { ...descent, clipNorm: null } });
    const before = copyOf(trainer);
    const { gradientNorm } = await trainer.update();
    expect(distance(before, copyOf(trainer)) / gradientNorm).toBeCloseTo(1, 5);
  });

  test('clipping shortens all gradients to the norm, and leaves shorter ones alone', async () => {
    const free = await create({ train: { ...descent, clipNorm: null } });
    const clipped = await create({ train: { ...descent, clipNorm: 0.125 } });
    const spared = await create({ train: { ...descent, clipNorm: 100 } });
    const start = copyOf(free);
    const { gradientNorm } = await free.update();
    for (const trainer of [clipped, spared]) {
      expect((await trainer.update()).gradientNorm).toBe(gradientNorm);
    }
    expect(gradientNorm).toBeGreaterThan(0.2);
    expect(distance(start, copyOf(clipped))).toBeCloseTo(0.125, 5);
    expect(copyOf(spared)).toEqual(copyOf(free));
    const factor = 0.125 / gradientNorm;
    for (const [name, values] of start) {
      const wanted = free.weights.all.get(name)!.map((after, i) => values[i] + factor * (after - values[i]));
      clipped.weights.all
        .get(name)!
        .forEach((value, i) => expect(Math.abs(value - wanted[i])).toBeLessThan(1e-6));
    }
  });

  test('four accumulated batches of 4 are one batch of 16', async () => {
    // Momentum, decay and clipping take part; 1e-5 of the movement, which is what rounding leaves.
    const optimizer = { kind: 'sgd', momentum: 0.9, weightDecay: 0.01 };
    const schedule = { kind: 'constant', learningRate: 0.1, warmupSteps: 0 };
    const shared = { optimizer, schedule, clipNorm: 0.5 };
    const whole = await create({ train: { ...shared, batchSize: 16 } });
    const parts = await create({ train: { ...shared, batchSize: 4, accumulation: 4 } });
    const start = copyOf(whole);
    for (let step = 1; step <= 5; step++) {
      const [one, four] = [await whole.update(), await parts.update()];
      expect(four.tokens).toBe(one.tokens);
      expect(Math.abs(four.loss / one.loss - 1)).toBeLessThan(1e-5);
      expect(Math.abs(four.gradientNorm / one.gradientNorm - 1)).toBeLessThan(1e-5);
    }
    const moved = distance(start, copyOf(whole));
    expect(moved).toBeGreaterThan(0.1);
    expect(distance(copyOf(whole), copyOf(parts)) / moved).toBeLessThan(1e-5);
  });

  test('accumulated batches count by their targets: padding makes no batch heavier', async () => {
    // Rows of 8, 8, 3 and 1 targets: together one batch, or four of one row each.
    const lengths = [8, 8, 3, 1];
    const optimizer = { kind: 'sgd', momentum: 0 };
    const schedule = { kind: 'constant', learningRate: 0.1, warmupSteps: 0 };
    const source = (batchSize: number): BatchSource => {
      let next = 0;
      const shape = { batchSize, contextLength: 8 };
      return {
        ...shape,
        next: () => {
          const text = tinyText(4 * 9);
          const batch: Batch = {
            tokens: new Int32Array(8 * batchSize),
            targets: new Int32Array(8 * batchSize).fill(-100),
            mask: new Uint8Array(8 * batchSize),
          };
          for (let row = 0; row < batchSize; row++) {
            const index = next++ % 4;
            for (let i = 0; i < lengths[index]; i++) {
              batch.tokens[8 * row + i] = text[9 * index + i];
              batch.targets[8 * row + i] = text[9 * index + i + 1];
              batch.mask[8 * row + i] = 1;
            }
          }
          return batch;
        },
        state: () => ({}),
        restore: () => undefined,
      };
    };
    const [whole, parts] = await Promise.all(
      [4, 1].map(async (batchSize) => {
        const train = { optimizer, schedule, clipNorm: null, batchSize, accumulation: 4 / batchSize };
        const data = {
          ...tinyData(tinyText(50), tinyText(20), { batchSize, contextLength: 8 }),
          train: source(batchSize),
        };
        const trainer = await Trainer.create({
          model: tinyModel(),
          data,
          options: tinyOptions(train),
          seed: 1,
          padded: true,
        });
        open.push(trainer);
        return trainer;
      }),
    );
    const start = copyOf(whole);
    const [one, four] = [await whole.update(), await parts.update()];
    expect([one.tokens, four.tokens]).toEqual([20, 20]);
    expect(Math.abs(four.loss / one.loss - 1)).toBeLessThan(1e-5);
    expect(Math.abs(four.gradientNorm / one.gradientNorm - 1)).toBeLessThan(1e-5);
    expect(distance(copyOf(whole), copyOf(parts)) / distance(start, copyOf(whole))).toBeLessThan(1e-5);
  });

  test('the tokens and loads of accumulated batches add up', async () => {
    const trainer = await create({ model: noisySwitch, train: { accumulation: 3 } });
    const { loads, tokens, auxiliary } = await trainer.update();
    expect(tokens).toBe(96);
    expect(loads[0].reduce((a, b) => a + b, 0)).toBe(96);
    expect(auxiliary['balance']).toBeGreaterThan(0.9);
  });

  test('a loss that is not a number stops the run and leaves the parameters as they were', async () => {
    const trainer = await create();
    await trainer.update();
    trainer.weights.all.get('embedding.weight')![3 * 16] = NaN;
    trainer.weights.all.get('blocks.0.attention.query.weight')![0] = NaN;
    const before = copyOf(trainer);
    await expect(trainer.update()).rejects.toThrow(
      'step 2: loss NaN, gradient norm NaN: training has diverged; lower schedule.learningRate',
    );
    expect(copyOf(trainer)).toEqual(before);
    expect(trainer.step).toBe(1);
  });
});

describe('state', () => {
  test.each([
    ['in the middle of an epoch', 8 * 50 + 1, {}],
    ['at the end of an epoch', 8 * 20 + 1, {}],
    ['with accumulation', 8 * 50 + 1, { accumulation: 2 }],
    ['with momentum', 8 * 50 + 1, { optimizer: { kind: 'sgd' } }],
  ])('continues with the same bits %s', async (_, length, train) => {
    const training = { model: noisySwitch, train, text: tinyText(length) };
    const straight = await create(training);
    await updates(straight, 5);
    await straight.evaluate();
    const state = JSON.parse(JSON.stringify(straight.state())) as TrainerState;
    const resumed = await create(training);
    resumed.restore(state);
    for (const [name, values] of straight.weights.all) resumed.weights.all.get(name)!.set(values);
    for (const [name, arena] of straight.optimizerState) {
      resumed.optimizerState.get(name)!.data.set(arena.data);
    }
    for (let i = 0; i < 5; i++) {
      const { milliseconds: _a, ...expected } = await straight.update();
      const { milliseconds: _b, ...actual } = await resumed.update();
      expect(actual).toEqual(expected);
    }
    expect(copyOf(resumed)).toEqual(copyOf(straight));
    expect(await resumed.evaluate()).toEqual(await straight.evaluate());
    expect(resumed.state()).toEqual(straight.state());
  });

  test('counts evaluations since the best and stops early when patience ends', async () => {
    // A text of one letter teaches nothing about the others: validation only gets worse.
    const trainer = await create({
      text: new Int32Array(200).fill(97),
      validation: tinyText(60),
      train: {
        earlyStop: { patience: 2 },
        schedule: { kind: 'constant', learningRate: 0.05, warmupSteps: 0 },
      },
    });
    await updates(trainer, 3);
    expect((await trainer.evaluate()).best).toBe(true);
    for (const isStopped of [false, true]) {
      await updates(trainer, 1);
      expect((await trainer.evaluate()).best).toBe(false);
      expect(trainer.stoppedEarly).toBe(isStopped);
      expect(trainer.finished).toBe(isStopped);
    }
    expect(trainer.state()).toMatchObject({ step: 5, bestStep: 3, evaluationsSinceBest: 2 });
  });
});

describe('sessions', () => {
  test('one for training and one for evaluation, however many steps', async () => {
    const opened = vi.spyOn(InferenceSession, 'create');
    const trainer = await create({ model: noisySwitch, train: { accumulation: 2 } });
    expect(opened).toHaveBeenCalledTimes(1);
    for (let i = 0; i < 3; i++) {
      await updates(trainer, 4);
      await trainer.evaluate();
    }
    expect(opened).toHaveBeenCalledTimes(2);
  });

  test('the number of threads changes nothing but rounding', async () => {
    const [one, many] = [await create({ train: { threads: 1 } }), await create({ train: { threads: 3 } })];
    for (const trainer of [one, many]) await updates(trainer, 3);
    expect(distance(copyOf(one), copyOf(many))).toBeLessThan(1e-3);
  });
});
