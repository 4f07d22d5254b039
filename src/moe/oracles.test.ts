/**
 * Failures that implementations of sparse layers keep repeating, one test each. Where a test names a number, it was computed by hand.
 */
import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { layerContext } from '../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { add, gradients, input, multiply, sum, type Tensor } from '../graph/index.js';
import {
  createLayer,
  dispatches,
  hiddenSize,
  intermediateSize,
  traceLayer,
} from '../../test/support/small-layer.js';
import { nameParameters, normal } from '../nn/index.js';
import type { Dispatch } from './dispatch.js';
import { DenseFeedForward } from './dense.js';
import { CapacityDispatch } from './dispatch/capacity.js';
import { DroplessDispatch } from './dispatch/dropless.js';
import { FeedForwardBank } from './experts/feed-forward-bank.js';
import { balanceLoss, routerZLoss } from './losses.js';
import { SoftmaxTopKRouter } from './routers/softmax-top-k.js';
import { SparseLayer } from './sparse-layer.js';

/** Probabilities whose largest entry decides: each row gives `high` to its expert and shares the rest. */
function peaked(choices: readonly number[], numExperts: number, high: number): number[] {
  const rest = (1 - high) / (numExperts - 1);
  return choices.flatMap((choice) =>
    Array.from({ length: numExperts }, (_, expert) => (expert === choice ? high : rest)),
  );
}

async function balanceOf(choices: readonly number[], numExperts: number, high: number): Promise<number> {
  const probabilities = input('probabilities', 'float64', [choices.length, numExperts]);
  const experts = input('experts', 'int64', [choices.length, 1]);
  const { loss } = await run({ loss: balanceLoss(probabilities, experts, undefined) }, [
    ['probabilities', peaked(choices, numExperts, high)],
    ['experts', BigInt64Array.from(choices, BigInt)],
  ]);
  return loss[0];
}

describe('1 · the balance loss', () => {
  test('equals numbers computed by hand', async () => {
    // Four tokens, two experts; three choose expert 0 with p = 1, one chooses expert 1 with p = 1:
    // f = P = (3/4, 1/4), so 2 · (9/16 + 1/16) = 1.25.
    expect(await balanceOf([0, 0, 0, 1], 2, 1)).toBeCloseTo(1.25, 12);
    // With p = 0.8: P = ((3·0.8 + 0.2)/4, …) = (0.65, 0.35), f = (0.75, 0.25): 2 · (0.4875 + 0.0875) = 1.15.
    expect(await balanceOf([0, 0, 0, 1], 2, 0.8)).toBeCloseTo(1.15, 12);
    // Five of eight tokens to expert 2 of 4, p = 1: f = P = (1/8, 1/8, 5/8, 1/8): 4 · 28/64 = 1.75.
    expect(await balanceOf([2, 2, 0, 2, 1, 2, 3, 2], 4, 1)).toBeCloseTo(1.75, 12);
  });

  test('is 1 under uniform routing, whatever the number of experts', async () => {
    for (const numExperts of [1, 2, 5, 8]) {
      const everyone = Array.from({ length: 3 * numExperts }, (_, t) => t % numExperts);
      expect(await balanceOf(everyone, numExperts, 1), `${numExperts} experts`).toBeCloseTo(1, 12);
    }
    // Uniform probabilities make it 1 even where all choices fall on one expert.
    expect(await balanceOf([0, 0, 0, 0], 4, 0.25)).toBeCloseTo(1, 12);
  });

  test('grows with imbalance, up to the number of experts', async () => {
    const losses = await Promise.all(
      [
        [0, 1, 2, 3, 0, 1, 2, 3],
        [0, 0, 2, 3, 0, 1, 2, 3],
        [0, 0, 0, 3, 0, 1, 2, 3],
        [0, 0, 0, 0, 0, 0, 0, 3],
        [0, 0, 0, 0, 0, 0, 0, 0],
      ].map((choices) => balanceOf(choices, 4, 1)),
    );
    expect([...losses].sort((a, b) => a - b)).toEqual(losses);
    expect(new Set(losses).size).toBe(5);
    expect(losses.at(-1)).toBeCloseTo(4, 12);
  });

  test('is reported per layer, with its coefficient beside it', () => {
    const { losses } = traceLayer(createLayer({ balanceCoefficient: 0.01, zLossCoefficient: 0.001 }), 8);
    expect(losses.map(({ name, coefficient }) => [name, coefficient])).toEqual([
      ['balance', 0.01],
      ['z', 0.001],
    ]);
  });
});

describe('2 · padding', () => {
  test.each(dispatches)('adding it changes no real token, loss, load or drop (%s)', async (_, dispatch) => {
    const layer = (): SparseLayer => createLayer({ topK: 2, dispatch });
    const mask = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0];
    const real = mask.flatMap((value, t) => (value === 1 ? [t] : []));
    const plain = traceLayer(layer(), real.length);
    const padded = traceLayer(layer(), mask.length, { tokenMask: input('mask', 'float64', [mask.length]) });
    const data = randomParameters(plain.parameters, 1, 1);
    const rows = randomNumbers(2, real.length * hiddenSize);
    const spread = new Float64Array(mask.length * hiddenSize).fill(5);
    real.forEach((t, i) => spread.set(rows.subarray(i * hiddenSize, (i + 1) * hiddenSize), t * hiddenSize));
    const outputs = ({ output, losses, records }: typeof plain): Record<string, Tensor> => ({
      output,
      balance: losses[0].value,
      z: losses[1].value,
      load: records[0].load,
      dropped: records[0].dropped,
    });
    const a = await run(outputs(plain), [...data, ['hidden', rows]]);
    const b = await run(outputs(padded), [...data, ['hidden', spread], ['mask', mask]]);
    const pick = (all: readonly number[]): number[] =>
      real.flatMap((t) => all.slice(t * hiddenSize, (t + 1) * hiddenSize));
    expect(distance(pick(b['output']), a['output'])).toBeLessThan(1e-12);
    expect(distance(b['balance'], a['balance'])).toBeLessThan(1e-12);
    expect(distance(b['z'], a['z'])).toBeLessThan(1e-12);
    expect(b['load']).toEqual(a['load']);
    expect(b['dropped']).toEqual(a['dropped']);
  });

  test('comes out as zeros, is recorded as −1, and sends no gradient', async () => {
    for (const [name, dispatch] of dispatches) {
      const tokenMask = input('mask', 'float64', [3]);
      const { parameters, hidden, output, records } = traceLayer(createLayer({ dispatch }), 3, { tokenMask });
      const [gradient] = gradients(sum(output), [hidden]);
      const actual = await run({ output, experts: records[0].experts, gradient: gradient }, [
        ...randomParameters(parameters, 1, 1),
        ['hidden', randomNumbers(2, 12)],
        ['mask', [1, 0, 1]],
      ]);
      expect(actual.output.slice(4, 8).map(Math.abs), name).toEqual([0, 0, 0, 0]);
      expect(actual.experts[1], name).toBe(-1);
      expect(actual.gradient.slice(4, 8).map(Math.abs), name).toEqual([0, 0, 0, 0]);
    }
  });
});

test.each(dispatches)('3 · a coefficient above 0 always reaches the router (%s)', async (_, dispatch) => {
  const { parameters, losses } = traceLayer(
    createLayer({ balanceCoefficient: 0.01, zLossCoefficient: 0.01, dispatch }),
    8,
  );
  const classifier = parameters.get('router.classifier.weight')!.tensor;
  for (const { name, value } of losses) {
    const [gradient] = gradients(value, [classifier]);
    const actual = await run({ gradient: gradient }, [
      ...randomParameters(parameters, 1, 1),
      ['hidden', randomNumbers(2, 32)],
    ]);
    const largest = Math.max(...actual.gradient.map(Math.abs));
    expect(largest, name).toBeGreaterThan(1e-4);
  }
});

test('4 · the z-loss and its gradient', async () => {
  // Two tokens: log(e⁰ + e⁰) = ln 2 and log(e^1 + e^1) = 1 + ln 2, so the mean of squares is known.
  const logits = input('logits', 'float64', [2, 2]);
  const { z } = await run({ z: routerZLoss(logits, undefined) }, [['logits', [0, 0, 1, 1]]]);
  expect(z[0]).toBeCloseTo((Math.LN2 ** 2 + (1 + Math.LN2) ** 2) / 2, 12);
  const mask = input('mask', 'float64', [2]);
  const masked = await run({ z: routerZLoss(logits, mask) }, [
    ['logits', [0, 0, 1, 1]],
    ['mask', [0, 1]],
  ]);
  expect(masked.z[0]).toBeCloseTo((1 + Math.LN2) ** 2, 12);
  const error = await leafGradientError(
    routerZLoss(logits, mask),
    new Map([['logits', logits]]),
    new Map([
      ['logits', Float64Array.from([0.3, -2, 1, 4])],
      ['mask', Float64Array.from([1, 1])],
    ]),
  );
  expect(error).toBeLessThan(1e-9);
});

test('5 · both dispatches give the same output where nothing is dropped', async () => {
  for (const topK of [1, 2, 4]) {
    const results = await Promise.all(
      dispatches.map(async ([, dispatch]) => {
        const { parameters, hidden, output, records } = traceLayer(createLayer({ topK, dispatch }), 11);
        const sources = [hidden, ...[...parameters.values()].map(({ tensor }) => tensor)];
        const derived = gradients(sum(multiply(output, output)), sources);
        return run(
          {
            output,
            dropped: records[0].dropped,
            ...Object.fromEntries(derived.map((gradient, i) => [`gradient ${i}`, gradient])),
          },
          [...randomParameters(parameters, 3, 1), ['hidden', randomNumbers(4, 44)]],
        );
      }),
    );
    const [dropless, capacity] = results as [Record<string, number[]>, Record<string, number[]>];
    expect(capacity['dropped']).toEqual([0]);
    for (const name of Object.keys(dropless)) {
      expect(distance(capacity[name], dropless[name]), name).toBeLessThan(1e-12);
    }
  }
});

describe('6 · capacity', () => {
  /** A router whose every token prefers expert 0: the classifier reads a positive first feature. */
  const crowd = (parameters: ReadonlyMap<string, { readonly size: number }>): Map<string, Float64Array> => {
    const data = randomParameters(parameters as never, 1, 1);
    const classifier = data.get('router.classifier.weight')!.fill(0);
    classifier[0] = 1;
    return data;
  };

  test('exactly the tokens beyond it are dropped; dropless drops none', async () => {
    const hiddenRows = randomNumbers(2, 8 * hiddenSize, 1, 2);
    const outputOf = async (dispatch: Dispatch) => {
      const { parameters, output, records } = traceLayer(createLayer({ dispatch }), 8);
      return run({ output, dropped: records[0].dropped, load: records[0].load }, [
        ...crowd(parameters),
        ['hidden', hiddenRows],
      ]);
    };
    const all = await outputOf(new DroplessDispatch());
    expect([all.dropped, all.load]).toEqual([[0], [8, 0, 0, 0]]);
    // 8 tokens, 4 experts, factor 1.5: three places.
    const some = await outputOf(new CapacityDispatch({ capacityFactor: 1.5, minimumCapacity: 1 }));
    expect([some.dropped, some.load]).toEqual([[5], [8, 0, 0, 0]]);
    expect(distance(some.output.slice(0, 12), all.output.slice(0, 12))).toBeLessThan(1e-12);
    expect(some.output.slice(12)).toEqual(new Array<number>(20).fill(0));
  });

  test('a dropped token counts in f, P and z, but the task says nothing about it', async () => {
    const dispatch = new CapacityDispatch({ capacityFactor: 1, minimumCapacity: 1 });
    const dropless = traceLayer(createLayer({}), 8);
    const { parameters, hidden, output, losses } = traceLayer(createLayer({ dispatch }), 8);
    const [task] = gradients(sum(output), [hidden]);
    const [aux] = gradients(losses.map(({ value }) => value).reduce(add), [hidden]);
    const feeds = [['hidden', randomNumbers(2, 32, 1, 2)] as const];
    const data = crowd(parameters);
    const actual = await run({ task: task, aux: aux, balance: losses[0].value, z: losses[1].value }, [
      ...data,
      ...feeds,
    ]);
    const undropped = await run({ balance: dropless.losses[0].value, z: dropless.losses[1].value }, [
      ...data,
      ...feeds,
    ]);
    expect([actual.balance, actual.z]).toEqual([undropped.balance, undropped.z]);
    // Two places: tokens 2 … 7 are dropped.
    expect(actual.task.slice(0, 8).some((value) => value !== 0)).toBe(true);
    expect(actual.task.slice(8)).toEqual(new Array<number>(24).fill(0));
    for (let t = 2; t < 8; t++) {
      expect(
        actual.aux.slice(4 * t, 4 * t + 4).some((value) => value !== 0),
        `token ${t}`,
      ).toBe(true);
    }
  });

  test('an expert without tokens feels the balance loss only, through its router row', async () => {
    const { parameters, output, losses } = traceLayer(createLayer({}), 8);
    const classifier = parameters.get('router.classifier.weight')!.tensor;
    const up = parameters.get('experts.up')!.tensor;
    const [taskUp] = gradients(sum(output), [up]);
    const [balanceRouter] = gradients(losses[0].value, [classifier]);
    const actual = await run({ taskUp: taskUp, balanceRouter: balanceRouter }, [
      ...crowd(parameters),
      ['hidden', randomNumbers(2, 32, 1, 2)],
    ]);
    const perExpert = hiddenSize * intermediateSize;
    expect(actual.taskUp.slice(perExpert)).toEqual(new Array<number>(3 * perExpert).fill(0));
    expect(actual.taskUp.slice(0, perExpert).some((value) => value !== 0)).toBe(true);
    for (const expert of [1, 2, 3]) {
      // Descent raises the logits of the idle experts: all features are positive here.
      for (const value of actual.balanceRouter.slice(4 * expert, 4 * expert + 4))
        expect(value).toBeLessThan(0);
    }
  });
});

test('7 · ties go to the lowest index, in float32 and float64, whatever the number of experts', async () => {
  for (const dtype of ['float32', 'float64'] as const) {
    for (const numExperts of [3, 8, 64, 200]) {
      const layer = createLayer({ numExperts, topK: 2 });
      nameParameters(layer, dtype);
      const hidden = input('hidden', dtype, [70, hiddenSize]);
      const { experts } = layer.router.route(hidden, layerContext());
      const classifier = new Float64Array(numExperts * hiddenSize);
      // The last two experts share the highest score.
      classifier[(numExperts - 1) * hiddenSize] = 1;
      classifier[(numExperts - 2) * hiddenSize] = 1;
      const feeds = (weights: Float64Array) =>
        [
          ['hidden', randomNumbers(1, 280, 0.5, 1)],
          ['router.classifier.weight', weights],
        ] as const;
      const tied = await run({ experts }, feeds(classifier), dtype);
      expect(tied.experts, `${numExperts} ${dtype}`).toEqual(
        Array.from({ length: 140 }, (_, i) => numExperts - 2 + (i % 2)),
      );
      const equal = await run({ experts }, feeds(classifier.fill(0)), dtype);
      expect(equal.experts, `${numExperts} ${dtype}`).toEqual(Array.from({ length: 140 }, (_, i) => i % 2));
    }
  }
});

test('8 · gates enter the output as declared: raw probabilities, or summing to one', async () => {
  // Experts that return ones: the output of a token is the sum of its gates.
  const gatesOf = async (normalizeGates: boolean): Promise<number[]> => {
    const bank = new FeedForwardBank(
      { numExperts: 4, hiddenSize, intermediateSize, activation: 'relu', bias: true },
      normal(1),
      normal(1),
    );
    const layer = new SparseLayer({
      router: new SoftmaxTopKRouter({ hiddenSize, numExperts: 4, topK: 2, normalizeGates }, normal(1)),
      dispatch: new DroplessDispatch(),
      experts: bank,
    });
    const { parameters, output } = traceLayer(layer, 5);
    const data = randomParameters(parameters, 1, 1);
    data.get('experts.down')!.fill(0);
    data.get('experts.downBias')!.fill(1);
    return (await run({ output }, [...data, ['hidden', randomNumbers(2, 20)]])).output;
  };
  for (const value of await gatesOf(true)) expect(value).toBeCloseTo(1, 8);
  for (const value of await gatesOf(false)) expect(value).toBeLessThan(0.999);
});

test.each(dispatches)(
  '9 · permuting experts together with the router changes nothing (%s)',
  async (_, dispatch) => {
    const order = [2, 0, 3, 1];
    const { parameters, output, losses } = traceLayer(createLayer({ topK: 2, dispatch }), 9);
    const data = randomParameters(parameters, 1, 1);
    const permuted = new Map(
      [...data].map(([name, numbers]) => {
        const size = numbers.length / 4;
        return [
          name,
          Float64Array.from(order.flatMap((e) => [...numbers.subarray(e * size, (e + 1) * size)])),
        ];
      }),
    );
    const outputs = { output, balance: losses[0].value, z: losses[1].value };
    const rows = ['hidden', randomNumbers(2, 36)] as const;
    const a = await run(outputs, [...data, rows]);
    const b = await run(outputs, [...permuted, rows]);
    for (const name of ['output', 'balance', 'z'] as const) {
      expect(distance(b[name], a[name]), name).toBeLessThan(1e-12);
    }
  },
);

describe('10 · where a sparse layer is a dense one', () => {
  /** A dense layer with the weights of one expert: Linear stores `[out, in]`, the bank `[in, out]`. */
  const denseOutput = async (expert: Map<string, Float64Array>, rows: Float64Array, tokens: number) => {
    const dense = new DenseFeedForward(
      { hiddenSize, intermediateSize, activation: 'relu' },
      normal(1),
      normal(1),
    );
    nameParameters(dense, 'float64');
    const hidden = input('hidden', 'float64', [tokens, hiddenSize]);
    const transposed = (name: string, from: number, to: number): Float64Array =>
      Float64Array.from(
        { length: from * to },
        (_, i) => expert.get(name)![(i % from) * to + Math.floor(i / from)],
      );
    const { output } = await run({ output: dense.forward(hidden, layerContext()).output }, [
      ['hidden', rows],
      ['up.weight', transposed('up', hiddenSize, intermediateSize)],
      ['down.weight', transposed('down', intermediateSize, hiddenSize)],
    ]);
    return output;
  };
  const expert = new Map([
    ['up', randomNumbers(5, hiddenSize * intermediateSize)],
    ['down', randomNumbers(6, hiddenSize * intermediateSize)],
  ]);
  const rows = randomNumbers(7, 9 * hiddenSize);

  test.each([
    ['k = E with equal experts: the gates sum to one', 4, 4],
    ['k = 1 of E = 1: the gate is one', 1, 1],
  ])('%s', async (_, numExperts, topK) => {
    for (const [name, dispatch] of dispatches) {
      const { parameters, output, losses } = traceLayer(createLayer({ numExperts, topK, dispatch }), 9);
      const repeat = (part: string): Float64Array =>
        Float64Array.from(Array.from({ length: numExperts }, () => [...expert.get(part)!]).flat());
      const data = randomParameters(parameters, 1, 1)
        .set('experts.up', repeat('up'))
        .set('experts.down', repeat('down'));
      const actual = await run({ output, balance: losses[0].value }, [...data, ['hidden', rows]]);
      expect(distance(actual.output, await denseOutput(expert, rows, 9)), name).toBeLessThan(1e-12);
      expect(actual.balance[0], name).toBeCloseTo(1, 12);
    }
  });

  test('a single expert has nothing to decide: its router gets no gradient', async () => {
    const { parameters, output, losses } = traceLayer(createLayer({ numExperts: 1, topK: 1 }), 9);
    const total = add(sum(output), losses[0].value);
    const [gradient] = gradients(total, [parameters.get('router.classifier.weight')!.tensor]);
    const actual = await run({ gradient: gradient }, [
      ...randomParameters(parameters, 1, 1),
      ['hidden', rows],
    ]);
    expect(Math.max(...actual.gradient.map(Math.abs))).toBeLessThan(1e-12);
  });
});

describe('11 · gradients of the whole layer equal finite differences', () => {
  test.each([
    ['dropless', new DroplessDispatch()],
    ['capacity with drops', new CapacityDispatch({ capacityFactor: 0.75, minimumCapacity: 1 })],
  ] as const)('%s', async (_, dispatch) => {
    const layer = createLayer({ topK: 2, dispatch });
    const { parameters, hidden, output, losses } = traceLayer(layer, 8, { training: true });
    const loss = losses.map(({ value }) => value).reduce(add, sum(multiply(output, output)));
    const leaves = new Map([...parameters].map(([name, { tensor }]) => [name, tensor]));
    const error = await leafGradientError(
      loss,
      leaves.set('hidden', hidden),
      new Map([...randomParameters(parameters, 3, 1), ['hidden', randomNumbers(4, 32)] as const]),
    );
    expect(error).toBeLessThan(1e-7);
  });
});
