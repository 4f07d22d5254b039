import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, run } from '../../test/support/numbers.js';
import { matrix } from '../../test/support/reference-moe.js';
import { entropyOf, softmaxOf } from '../../test/support/reference-router.js';
import { cast, constant, gradients, input } from '../graph/index.js';
import { balanceLoss, entropyLoss, importanceLoss, loadLoss, pooledBalanceLoss } from './losses.js';

describe('entropy', () => {
  const logits = input('logits', 'float64', [4, 3]);
  const mask = input('mask', 'float64', [4]);
  const entropy = async (numbers: ArrayLike<number>, real?: readonly number[]): Promise<number> => {
    const value = entropyLoss(logits, real && mask);
    const feeds = [
      ['logits', Float64Array.from(Array.from(numbers))],
      ['mask', real ?? []],
    ] as const;
    return (await run({ value }, feeds)).value[0];
  };

  test('is −ln N when experts share evenly, though each token has its own', async () => {
    expect(await entropy(new Array<number>(12).fill(0))).toBeCloseTo(-Math.log(3), 12);
    const sharp = [50, 0, 0, 0, 50, 0, 0, 0, 50, 0, 0, 0];
    expect(await entropy(sharp, [1, 1, 1, 0])).toBeCloseTo(-Math.log(3), 9);
  });

  test('is 0 when one expert gets everything, and when there is nothing but padding', async () => {
    expect(await entropy([900, 0, 0, 900, 0, 0, 900, 0, 0, 900, 0, 0])).toBe(0);
    expect(await entropy(randomNumbers(1, 12), [0, 0, 0, 0])).toBeCloseTo(0, 12);
  });

  test('its gradient is (1/T) q_j (ln p_j − Σ q ln p), and none at padding', async () => {
    const numbers = randomNumbers(2, 12, -2, 2);
    const real = [1, 0, 1, 1];
    const [gradient] = gradients(entropyLoss(logits, mask), [logits]);
    const actual = await run({ gradient }, [
      ['logits', numbers],
      ['mask', real],
    ]);
    const q = matrix(numbers, 3).map(softmaxOf);
    const share = [0, 1, 2].map((e) => (q[0][e] + q[2][e] + q[3][e]) / 3);
    const expected = q.flatMap((row, t) => {
      const mean = row.reduce((total, value, e) => total + value * Math.log(share[e]), 0);
      return row.map((value, e) => (real[t] / 3) * value * (Math.log(share[e]) - mean));
    });
    expect(distance(actual.gradient, expected)).toBeLessThan(1e-12);
    expect(await entropy(numbers, real)).toBeCloseTo(entropyOf(matrix(numbers, 3), real), 12);
  });

  test('an expert that nobody could choose still pulls: no logarithm of 0, in single precision too', async () => {
    const single = cast(logits, 'float32');
    const value = entropyLoss(single, undefined);
    const [gradient] = gradients(value, [logits]);
    const result = await run({ gradient, value }, [['logits', [300, 0, 0, 300, 0, 0, 300, 0, 0, 300, 0, 0]]]);
    for (const number of [...result.gradient, ...result.value]) expect(Number.isFinite(number)).toBe(true);
    const [pull] = gradients(entropyLoss(logits, undefined), [logits]);
    const { weak } = await run({ weak: pull }, [['logits', [40, 0, 0, 40, 0, 0, 40, 0, 0, 40, 0, 0]]]);
    expect(weak[1]).toBeLessThan(0);
  });
});

test('the balance loss of σ-MoE’s code is N² weaker than the paper’s', async () => {
  const probabilities = input('probabilities', 'float64', [6, 4]);
  const experts = constant('int64', [6, 1], [0, 0, 1, 3, 0, 2]);
  const { paper, released } = await run(
    {
      paper: balanceLoss(probabilities, experts, undefined),
      released: balanceLoss(probabilities, experts, undefined, 1, 'releasedSigmaMoe'),
    },
    [['probabilities', matrix(randomNumbers(3, 24), 4).flatMap(softmaxOf)]],
  );
  expect(released[0] * 16).toBeCloseTo(paper[0], 12);
});

describe('importance', () => {
  const experts = constant('int64', [4, 2], [0, 1, 0, 2, 1, 0, 0, 1]);
  const gates = input('gates', 'float64', [4, 2]);

  test('by hand', async () => {
    // Weights 0.5 each: importance 2, 1.5, 0.5. Mean 4/3, variance 7/18, squared variation 7/32.
    const value = importanceLoss(experts, gates, 3, undefined);
    const actual = await run({ value }, [['gates', new Array<number>(8).fill(0.5)]]);
    expect(actual.value[0]).toBeCloseTo(7 / 32, 9);
  });

  test('padding weighs nothing; nothing but padding gives 0', async () => {
    const mask = input('mask', 'float64', [4]);
    const value = importanceLoss(experts, gates, 3, mask);
    const of = async (real: readonly number[]): Promise<number> =>
      (
        await run({ value }, [
          ['gates', new Array<number>(8).fill(0.5)],
          ['mask', real],
        ])
      ).value[0];
    // The third and fourth token are padding: 1, 0.5, 0.5. Mean 2/3, variance 1/18.
    expect(await of([1, 1, 0, 0])).toBeCloseTo(1 / 8, 9);
    expect(await of([0, 0, 0, 0])).toBe(0);
  });
});

test('the load loss has the gradient of its formula in scores, noise and spread', async () => {
  const [clean, noisy, deviation] = ['clean', 'noisy', 'deviation'].map((name) =>
    input(name, 'float64', [5, 4]),
  );
  const experts = constant('int64', [5, 2], [0, 1, 2, 3, 1, 2, 3, 0, 2, 0]);
  const numbers = randomNumbers(4, 20);
  // Scores whose two largest are the chosen ones.
  const chosen = [0, 1, 6, 7, 9, 10, 15, 12, 18, 16];
  chosen.forEach((at, i) => (numbers[at] = 3 - 0.1 * i));
  const error = await leafGradientError(
    loadLoss({ clean, noisy, deviation, experts }, undefined),
    new Map([
      ['clean', clean],
      ['noisy', noisy],
      ['deviation', deviation],
    ]),
    new Map([
      ['clean', randomNumbers(5, 20)],
      ['noisy', numbers],
      ['deviation', randomNumbers(6, 20, 0.5, 2)],
    ]),
  );
  expect(error).toBeLessThan(1e-8);
});

describe('the balance of all layers pooled', () => {
  /** Layers of certain decisions: every token gives its first choice all of its probability. */
  const pooled = async (
    layers: readonly (readonly (readonly number[])[])[],
    mask?: number[],
  ): Promise<number> => {
    const decisions = layers.map((choices) => ({
      experts: constant('int32', [choices.length, choices[0].length], choices.flat()),
      probabilities: constant(
        'float64',
        [choices.length, 4],
        choices.flatMap(([first]) => [0, 1, 2, 3].map((expert) => Number(expert === first))),
      ),
    }));
    const loss = pooledBalanceLoss(decisions, mask && constant('float64', [mask.length], mask));
    return (await run({ loss }, [])).loss[0];
  };

  test('layers that lean to different experts even each other out', async () => {
    expect(
      await pooled([
        [[0], [0]],
        [[0], [0]],
      ]),
    ).toBe(4);
    expect(
      await pooled([
        [[0], [0]],
        [[1], [1]],
      ]),
    ).toBe(2);
    expect(
      await pooled([
        [[0], [1]],
        [[2], [3]],
      ]),
    ).toBe(1);
  });

  test('every choice of a token counts', async () => {
    // 4 · (f₀ P₀ + f₁ P₁), all tokens choosing 0 and 1, and giving 0 everything.
    expect(
      await pooled([
        [
          [0, 1],
          [0, 1],
        ],
      ]),
    ).toBe(4);
    expect(
      await pooled([
        [
          [0, 1],
          [2, 3],
        ],
      ]),
    ).toBe(2);
  });

  test('padding counts in no layer', async () => {
    expect(
      await pooled(
        [
          [[0], [3]],
          [[1], [3]],
        ],
        [1, 0],
      ),
    ).toBe(2);
  });
});
