import { describe, expect, test } from 'vitest';
import { fillNormal, RandomStream } from '../nn/index.js';
import { logProbabilities, penalizeRepetition, sample, type SamplingOptions } from './sampling.js';

const plain: SamplingOptions = { temperature: 1, topK: 0, topP: 1 };
/** Log-probabilities plus a constant, which changes nothing. */
const logits = (probabilities: readonly number[]): Float32Array =>
  Float32Array.from(probabilities, (p) => Math.log(p) + 3);
const SKEWED = [0.05, 0.4, 0.1, 0.25, 0.2];

/** Counts of 20,000 draws with a pinned seed. */
function draw(probabilities: readonly number[], options: Partial<SamplingOptions>): number[] {
  const scores = logits(probabilities);
  const random = new RandomStream(2024);
  const counts = new Array<number>(probabilities.length).fill(0);
  for (let i = 0; i < 20_000; i++) counts[sample(scores, { ...plain, ...options }, random.uniform())]++;
  return counts;
}
/** Pearson's χ² against expected weights; entries of weight 0 must not occur at all. */
function chiSquare(counts: readonly number[], weights: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b, 0);
  const sum = weights.reduce((a, b) => a + b, 0);
  return counts.reduce((all, count, i) => {
    const expected = (total * weights[i]) / sum;
    if (expected === 0) return count === 0 ? all : Infinity;
    return all + (count - expected) ** 2 / expected;
  }, 0);
}
/** 99.9 % of the χ² distribution with so many degrees of freedom. */
const CRITICAL = [0, 10.83, 13.82, 16.27, 18.47];

describe('temperature 0', () => {
  test('takes the best, whatever is drawn', () => {
    for (const uniform of [0, 0.5, 0.999999]) {
      expect(sample(logits(SKEWED), { ...plain, temperature: 0 }, uniform)).toBe(1);
    }
  });
  test('takes the lowest id of equals', () => {
    expect(sample(Float32Array.of(1, 7, 3, 7, 7), { ...plain, temperature: 0 }, 0.9)).toBe(1);
    expect(sample(new Float32Array(9), { ...plain, temperature: 0 }, 0.9)).toBe(0);
  });
});

describe('distributions (χ², 20,000 draws, 99.9 %)', () => {
  test.each<[string, Partial<SamplingOptions>, number[]]>([
    ['all tokens', {}, SKEWED],
    ['sharper', { temperature: 0.5 }, SKEWED.map((p) => p ** 2)],
    ['flatter', { temperature: 2 }, SKEWED.map((p) => p ** 0.5)],
    ['top-k 3', { topK: 3 }, [0, 0.4, 0, 0.25, 0.2]],
    ['top-k beyond the vocabulary', { topK: 99 }, SKEWED],
    // 0.4 + 0.25 < 0.7 ≤ 0.4 + 0.25 + 0.2
    ['top-p 0.7', { topP: 0.7 }, [0, 0.4, 0, 0.25, 0.2]],
    ['top-p 0.3', { topP: 0.3 }, [0, 1, 0, 0, 0]],
    // Of the four kept by top-k, 0.4 + 0.25 of 0.95 reach 0.6.
    ['top-k, then top-p', { topK: 4, topP: 0.6 }, [0, 0.4, 0, 0.25, 0]],
    // 0.2 is half of 0.4, and 0.1 a quarter.
    ['min-p 0.5', { minP: 0.499 }, [0, 0.4, 0, 0.25, 0.2]],
    [
      'min-p after the temperature',
      { minP: 0.499, temperature: 2 },
      [0, 0.4, 0.1, 0.25, 0.2].map((p) => p ** 0.5),
    ],
    ['min-p 1', { minP: 1 }, [0, 1, 0, 0, 0]],
  ])('%s', (_, options, weights) => {
    const freedom = weights.filter((weight) => weight > 0).length - 1;
    const value = chiSquare(draw(SKEWED, options), weights);
    if (freedom === 0) expect(value).toBe(0);
    else expect(value).toBeLessThan(CRITICAL[freedom]);
  });

  test('the test can tell distributions apart', () => {
    expect(chiSquare(draw(SKEWED, { temperature: 1.1 }), SKEWED)).toBeGreaterThan(CRITICAL[4]);
  });

  test('huge scores and −∞ are no trouble', () => {
    const scores = Float32Array.of(-Infinity, 3e38, 3e38, -3e38);
    const random = new RandomStream(1);
    const drawn = new Set(Array.from({ length: 100 }, () => sample(scores, plain, random.uniform())));
    expect([...drawn].sort()).toEqual([1, 2]);
  });
});

test.each([
  [[1, Infinity, 2], 'the highest score, of token 1, is Infinity'],
  [[-Infinity, -Infinity], 'the highest score, of token 0, is -Infinity'],
  [[1, NaN], 'the score of token 1 is not a number'],
])('nothing is drawn from %j', (scores, message) => {
  for (const temperature of [0, 1])
    expect(() => sample(Float32Array.from(scores), { ...plain, temperature }, 0.5)).toThrow(message);
});

test('the ends of the random number fall on the first and the last token', () => {
  expect(sample(logits([0.5, 0.3, 0.2]), plain, 0)).toBe(0);
  expect(sample(logits([0.5, 0.3, 0.2]), plain, 1 - 2 ** -32)).toBe(2);
});

test.each<[Partial<SamplingOptions>, string]>([
  [{ temperature: -1 }, 'temperature -1 must be 0 or more'],
  [{ temperature: NaN }, 'temperature NaN must be 0 or more'],
  [{ topK: -2 }, 'topK -2 must be 0 or more'],
  [{ topP: 0 }, 'topP 0 must be in (0, 1]'],
  [{ topP: 1.5 }, 'topP 1.5 must be in (0, 1]'],
  [{ minP: -0.1 }, 'minP -0.1 must be in [0, 1]'],
  [{ minP: NaN }, 'minP NaN must be in [0, 1]'],
])('%o is refused', (options, message) => {
  expect(() => sample(logits(SKEWED), { ...plain, ...options }, 0.5)).toThrow(new RangeError(message));
});

/** Every token's probability after all filters, each over the whole list and by its definition. */
function filtered(
  scores: readonly number[],
  { temperature, topK, topP, minP = 0 }: SamplingOptions,
): number[] {
  const share = (weights: readonly number[]): number[] => {
    const total = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / total);
  };
  const most = Math.max(...scores);
  let p = share(scores.map((score) => Math.exp((score - most) / temperature)));
  const order = scores.map((_, id) => id).sort((a, b) => scores[b] - scores[a] || a - b);
  const place = (id: number): number => order.indexOf(id);
  if (topK > 0) p = share(p.map((x, id) => (place(id) < topK ? x : 0)));
  // A token stays while those before it have not reached topP.
  p = share(
    p.map((x, id) => (order.slice(0, place(id)).reduce((sum, other) => sum + p[other], 0) < topP ? x : 0)),
  );
  const highest = Math.max(...p);
  return share(p.map((x) => (x >= minP * highest ? x : 0)));
}

test('what is drawn is what the filters leave, one after the other', () => {
  const scores = new Float32Array(12);
  for (let seed = 0; seed < 60; seed++) {
    fillNormal(seed, scores);
    // Ties now and then.
    if (seed % 3 === 0) scores.forEach((x, i) => (scores[i] = Math.round(x)));
    const options: SamplingOptions = {
      temperature: [0.5, 1, 1.7][seed % 3],
      topK: [0, 3, 7, 50][seed % 4],
      topP: [1, 0.9, 0.55, 0.2][(seed >> 2) % 4],
      minP: [0, 0.05, 0.4][(seed >> 1) % 3],
    };
    const expected = filtered([...scores], options);
    // Numbers that are spread evenly hit each token as often as it is probable.
    const draws = 4000;
    const counts = new Array<number>(12).fill(0);
    for (let i = 0; i < draws; i++) counts[sample(scores, options, (i + 0.5) / draws)]++;
    counts.forEach((count, id) => expect(Math.abs(count / draws - expected[id])).toBeLessThan(1.5 / draws));
  }
});

describe('repetition', () => {
  test('positive scores are divided, negative ones multiplied, each once', () => {
    const scores = Float32Array.of(2, -2, 4, -4, 0);
    penalizeRepetition(scores, new Set([0, 1, 4, 99]), 2);
    expect([...scores]).toEqual([1, -4, 4, -4, 0]);
  });
  test('a penalty of 0 is refused', () => {
    expect(() => penalizeRepetition(Float32Array.of(1), new Set([0]), 0)).toThrow(
      'repetitionPenalty 0 must be more than 0',
    );
  });
});

test('log-probabilities are those of the softmax, also of huge scores', () => {
  const logs = logProbabilities(logits(SKEWED));
  SKEWED.forEach((p, id) => expect(logs[id]).toBeCloseTo(Math.log(p), 6));
  expect([...logProbabilities(Float32Array.of(3e38, 3e38, -Infinity))]).toEqual([
    -Math.LN2,
    -Math.LN2,
    -Infinity,
  ]);
});
