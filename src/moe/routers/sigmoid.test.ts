import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { matrix } from '../../../test/support/reference-moe.js';
import {
  entropyOf,
  largestOf,
  logistic,
  logitsOf,
  normalized,
  permuteRows,
  picked,
  softmaxOf,
} from '../../../test/support/reference-router.js';
import { gradients, input, sum } from '../../graph/index.js';
import { nameParameters, NoiseInputs, normal, streamKey } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { SigmoidRouter, sigmoidTopK, type SigmoidRouterOptions } from './sigmoid.js';

type Settings = Omit<Partial<SigmoidRouterOptions>, keyof RouterSizes>;

function conform(
  name: string,
  settings: Settings,
  skip: Parameters<typeof routerConformance>[0]['skip'],
): void {
  const create = (sizes: RouterSizes, more: Settings = {}): SigmoidRouter =>
    new SigmoidRouter({ ...sizes, entropyCoefficient: 1e-3, ...settings, ...more }, normal(1));
  routerConformance({
    name,
    create: (sizes) => create(sizes),
    createNoisy: (sizes) => create(sizes, { expertDropout: 0.4 }),
    reference: ({ topK }, inputs, { noise }) => {
      const logits = logitsOf(inputs);
      const { expertDropout = 0, normalizeGates = false } = settings;
      const drawn = noise.get('noise.layer.expertDropout');
      const survives = (t: number, e: number): number =>
        drawn && drawn[t * logits[0].length + e] < expertDropout ? 0 : 1;
      const scores = logits.map((row, t) => row.map((z, e) => logistic(z) * survives(t, e)));
      const experts = largestOf(scores, topK);
      const chosen = picked(scores, experts);
      return {
        experts,
        gates: normalizeGates ? normalized(chosen, 1e-9) : chosen,
        probabilities: logits.map(softmaxOf),
        losses: { entropy: entropyOf(logits, inputs.mask) },
      };
    },
    permuteExperts: permuteRows,
    skip: skip ?? {},
  });
}

conform('sigmoid', {}, undefined);
conform('sigmoid, expert dropout', { expertDropout: 0.3 }, undefined);
conform('sigmoid, normalised gates', { normalizeGates: true }, undefined);

/** A router over 7 rows of 4 numbers in float64, with its inputs. */
function trace(options: Settings & Partial<RouterSizes>, training = false) {
  const sizes = { hiddenSize: 4, numExperts: 5, topK: 2, ...options };
  const router = new SigmoidRouter(sizes, normal(1));
  const parameters = nameParameters(router, 'float64');
  const hidden = input('hidden', 'float64', [7, 4]);
  const noise = new NoiseInputs();
  const routing = router.route(hidden, layerContext({ training, noise }));
  const buffers = { 'noise.layer.expertDropout': new Float64Array(7 * sizes.numExperts) };
  noise.fill(3, 1, buffers);
  const data = randomParameters(parameters, 2, 1);
  const feeds = [['hidden', randomNumbers(1, 28)], ...data, ...Object.entries(buffers)] as const;
  return { routing, feeds, data, parameters, buffers };
}

describe('expert dropout', () => {
  test('with almost everything dropped, weights are 0 and the lowest experts are named', async () => {
    for (const normalizeGates of [false, true]) {
      const { routing, feeds } = trace({ expertDropout: 1 - 2 ** -40, normalizeGates }, true);
      const { gates, experts } = await run({ gates: routing.gates, experts: routing.experts }, feeds);
      expect(gates).toEqual(new Array<number>(14).fill(0));
      expect(matrix(experts, 2)).toEqual(new Array<number[]>(7).fill([0, 1]));
    }
  });

  test('survivors are not scaled up, and the entropy loss does not notice', async () => {
    const dropped = trace({ expertDropout: 0.5, topK: 5, entropyCoefficient: 1 }, true);
    const whole = trace({ topK: 5, entropyCoefficient: 1 }, true);
    const outputsOf = ({ routing: { gates, experts, losses } }: typeof whole) => ({
      gates,
      experts,
      entropy: losses[0].value,
    });
    const [a, b] = [await run(outputsOf(dropped), dropped.feeds), await run(outputsOf(whole), whole.feeds)];
    const shareOf = ({ gates, experts }: typeof a, t: number, expert: number): number =>
      matrix(gates, 5)[t][matrix(experts, 5)[t].indexOf(expert)];
    const drawn = matrix(dropped.buffers['noise.layer.expertDropout'], 5);
    const zeros = drawn.flat().filter((value) => value < 0.5).length;
    expect(zeros).toBeGreaterThan(5);
    drawn.forEach((row, t) =>
      row.forEach((value, expert) =>
        expect(shareOf(a, t, expert)).toBe(value < 0.5 ? 0 : shareOf(b, t, expert)),
      ),
    );
    expect(a.entropy).toEqual(b.entropy);
  });
});

test('a gate moves its own expert alone: ∂gate/∂z = s (1 − s)', async () => {
  const { routing, feeds, data, parameters } = trace({ topK: 1 });
  const [gradient] = gradients(sum(routing.gates), [parameters.get('classifier.weight')!.tensor]);
  const { rows } = await run({ rows: gradient }, feeds);
  const hidden = matrix(randomNumbers(1, 28), 4);
  const scores = logitsOf({ hidden, parameters: data }).map((row) => row.map(logistic));
  const expected = Array.from({ length: 5 }, () => [0, 0, 0, 0]);
  largestOf(scores, 1).forEach(([expert], t) =>
    hidden[t].forEach((x, i) => (expected[expert][i] += x * scores[t][expert] * (1 - scores[t][expert]))),
  );
  expect(distance(rows, expected.flat())).toBeLessThan(1e-12);
});

test('from a recipe: rows of one length c, or the model’s own spread', () => {
  const sizes = { ...layerSizes(64), numExperts: 16, topK: 4, numLayers: 8 };
  const start = (options: object): number[][] => {
    const parsed = sigmoidTopK.schema.parse({ kind: 'sigmoid', ...options });
    const router = sigmoidTopK.create(parsed, sizes) as SigmoidRouter;
    const weight = new Float32Array(16 * 64);
    router.classifier.weight.initializer(streamKey(1), weight);
    return matrix(weight, 64);
  };
  const norms = (rows: number[][]): number[] => rows.map((row) => Math.hypot(...row));
  // c = √(2 / 8) = 0.5: a row of 64 numbers with σ = 0.5 / √64 is about as long.
  const equal = norms(start({}));
  for (const norm of equal) expect(norm).toBeCloseTo(equal[0], 5);
  expect(equal[0]).toBeGreaterThan(0.48);
  expect(equal[0]).toBeLessThan(0.52);
  const model = norms(start({ initialization: 'model' }));
  expect(Math.max(...model) - Math.min(...model)).toBeGreaterThan(0.5);
  expect(model.reduce((a, b) => a + b, 0) / 16).toBeCloseTo(8, 0);
});
