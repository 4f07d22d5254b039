import { describe, expect } from 'vitest';
import { conformanceCase, type Skipped } from '../../test/support/conformance.js';
import { count, randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { layerContext, layerSizes } from '../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { matrix, type Matrix, type ReferenceInputs } from '../../test/support/reference-moe.js';
import { add, input, multiply, sum, type DType, type Tensor } from '../graph/index.js';
import { nameParameters, NoiseInputs } from '../nn/index.js';
import { createSparseLayer, sparseSchema } from './config.js';
import type { FeedForwardOutput, TokenCost } from './feed-forward.js';
import type { LayerSizes } from './sizes.js';

type FeedForwardCase =
  | 'output, choices and losses equal the plain loops'
  | 'gradients equal finite differences'
  | 'padding changes nothing'
  | 'a single token'
  | 'records are well formed'
  | 'noise is for training only'
  | 'the backward pass sees the noise of the forward pass'
  | 'the cost is what was counted by hand'
  | 'float32 agrees with float64';

/** What a layer makes of its inputs, in plain loops. */
export interface FeedForwardReference {
  readonly output: Matrix;
  /** Chosen experts of each record. */
  readonly experts?: readonly Matrix[];
  readonly losses?: Readonly<Record<string, number>>;
}

/** A kind of layer under test. The model around it has hiddenSize 4, intermediateSize 6, ReLU, and 3 blocks. */
export interface FeedForwardSubject {
  readonly name: string;
  /** As they stand in a recipe, without noise; losses switched on. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Options of the same layer with noise in training, or the model's dropout. */
  readonly noisy?: {
    readonly options?: Readonly<Record<string, unknown>>;
    readonly sizes?: Partial<LayerSizes>;
  };
  readonly sizes?: Partial<LayerSizes>;
  reference(inputs: ReferenceInputs): FeedForwardReference;
  /** Of one token, counted by hand. */
  readonly cost: TokenCost;
  readonly skip?: Skipped<FeedForwardCase>;
}

interface Setup {
  readonly hidden: Matrix;
  readonly mask?: readonly number[];
  readonly training?: boolean;
  readonly noise?: NoiseInputs;
  readonly dtype?: DType;
  readonly noisy?: boolean;
}

function createLayer({ options, sizes, noisy }: FeedForwardSubject, withNoise = false) {
  const surroundings = { ...layerSizes(), ...sizes, ...(withNoise ? noisy?.sizes : {}) };
  return createSparseLayer(
    sparseSchema.parse(withNoise ? (noisy?.options ?? options) : options),
    surroundings,
  );
}

function trace(subject: FeedForwardSubject, setup: Setup) {
  const { hidden, mask, training = false, noise = new NoiseInputs(), dtype = 'float64', noisy } = setup;
  const layer = createLayer(subject, noisy);
  const parameters = nameParameters(layer, dtype);
  const rows = input('hidden', dtype, [hidden.length, hidden[0].length]);
  const tokenMask = mask && input('mask', dtype, [hidden.length]);
  const result = layer.forward(rows, layerContext({ training, noise, tokenMask }));
  const feeds = [
    ['hidden', Float64Array.from(hidden.flat())] as const,
    ['mask', Float64Array.from(mask ?? [])] as const,
  ];
  return { layer, parameters, rows, result, feeds };
}

function outputsOf({ output, records, losses }: FeedForwardOutput): Record<string, Tensor> {
  return {
    output,
    ...Object.fromEntries(records.map(({ experts }, i) => [`experts ${i}`, experts])),
    ...Object.fromEntries(losses.map(({ name, value }) => [`loss ${name}`, value])),
  };
}

/** One number that depends on everything a layer returns with a gradient. */
function everything({ output, losses }: FeedForwardOutput, weights: Tensor): Tensor {
  const terms = losses.map(({ value }, i) => multiply(value, 0.5 + i));
  return terms.reduce(add, sum(multiply(output, weights)));
}

function drawn(noise: NoiseInputs, step: number): [string, Float64Array][] {
  const buffers = Object.fromEntries(
    [...noise.feeds].map(([name, { shape }]) => [name, new Float64Array(count(shape as number[]))]),
  );
  noise.fill(77, step, buffers);
  return Object.entries(buffers);
}

/** What every layer of {@link layerKinds} must do, whatever its equations. */
export function feedForwardConformance(subject: FeedForwardSubject): void {
  const hidden = matrix(randomNumbers(1, 9 * 4), 4);
  const mask = [1, 0, 1, 1, 1, 0, 0, 1, 1];

  const check = (name: FeedForwardCase, body: () => Promise<void> | void): void =>
    conformanceCase(subject.skip, name, body);

  const expectReference = async (setup: Setup): Promise<void> => {
    const { parameters, result, feeds } = trace(subject, setup);
    const data = randomParameters(parameters, 3, 1);
    const actual: Record<string, number[]> = await run(outputsOf(result), [...data, ...feeds]);
    const expected = subject.reference({ hidden: setup.hidden, parameters: data, mask: setup.mask });
    const real = setup.hidden.map((_, t) => setup.mask?.[t] !== 0);
    const realRows = (rows: Matrix): number[] => rows.filter((_, t) => real[t]).flat();
    expect(distance(realRows(matrix(actual['output'], 4)), realRows(expected.output))).toBeLessThan(1e-9);
    const { experts = [], losses = {} } = expected;
    expect(result.records).toHaveLength(experts.length);
    for (const [i, rows] of experts.entries()) {
      expect(actual[`experts ${i}`]).toEqual(rows.flatMap((row, t) => row.map((e) => (real[t] ? e : -1))));
    }
    expect(result.losses.map(({ name }) => name).sort()).toEqual(Object.keys(losses).sort());
    for (const [name, value] of Object.entries(losses)) {
      expect(distance(actual[`loss ${name}`], [value]), name).toBeLessThan(1e-9);
    }
  };

  const expectGradients = async (setup: Setup, noise: readonly [string, Float64Array][] = []) => {
    const { parameters, rows, result, feeds } = trace(subject, setup);
    const weights = input('weights', 'float64', result.output.shape);
    const trained = [...parameters].filter(([, { trainable }]) => trainable);
    const leaves = new Map(trained.map(([name, { tensor }]) => [name, tensor]));
    // What comes out of padding reaches no loss of a model.
    const arriving = randomNumbers(5, setup.hidden.length * 4).map((value, i) =>
      setup.mask?.[Math.floor(i / 4)] === 0 ? 0 : value,
    );
    const error = await leafGradientError(
      everything(result, weights),
      leaves.set('hidden', rows),
      new Map<string, Float64Array>([
        ...randomParameters(parameters, 4, 1),
        ...feeds,
        ...noise,
        ['weights', arriving],
      ]),
    );
    expect(error).toBeLessThan(1e-7);
  };

  describe(`feed-forward conformance: ${subject.name}`, () => {
    check('output, choices and losses equal the plain loops', async () => {
      await expectReference({ hidden });
      await expectReference({ hidden, mask });
      await expectReference({ hidden, mask: mask.map(() => 0) });
      const other = matrix(randomNumbers(12, 17 * 4, -2, 2), 4);
      await expectReference({ hidden: other });
    });

    check('gradients equal finite differences', async () => {
      await expectGradients({ hidden });
      await expectGradients({ hidden, mask });
    });

    check('padding changes nothing', async () => {
      const padded = [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1];
      const real = padded.flatMap((value, t) => (value === 1 ? [t] : []));
      let next = 0;
      const rows = padded.map((value) => (value === 1 ? hidden[next++] : [9, -9, 9, -9]));
      const plain = trace(subject, { hidden });
      const withPadding = trace(subject, { hidden: rows, mask: padded });
      const data = randomParameters(plain.parameters, 6, 1);
      const a: Record<string, number[]> = await run(outputsOf(plain.result), [...data, ...plain.feeds]);
      const b: Record<string, number[]> = await run(outputsOf(withPadding.result), [
        ...data,
        ...withPadding.feeds,
      ]);
      for (const name of Object.keys(a)) {
        const columns = a[name].length / 9;
        const of = (values: readonly number[]): number[] => {
          if (name.startsWith('loss')) return [...values];
          return real.flatMap((t) => matrix(values, columns)[t]);
        };
        expect(distance(of(b[name]), a[name]), name).toBeLessThan(1e-12);
      }
    });

    check('a single token', async () => expectReference({ hidden: hidden.slice(0, 1) }));

    check('records are well formed', async () => {
      for (const masked of [undefined, mask]) {
        const { result, parameters, feeds } = trace(subject, { hidden, ...(masked && { mask: masked }) });
        const data = randomParameters(parameters, 7, 1);
        for (const record of result.records) {
          const { numExperts, topK } = record;
          expect(record.experts.toString()).toBe(`int32[9, ${topK}]`);
          expect(record.gates.toString()).toBe(`float64[9, ${topK}]`);
          expect(record.probabilities.toString()).toBe(`float64[9, ${numExperts}]`);
          expect(record.load.toString()).toBe(`int32[${numExperts}]`);
          expect(record.dropped.toString()).toBe('int32[]');
          const { experts, probabilities, load } = await run(
            { experts: record.experts, probabilities: record.probabilities, load: record.load },
            [...data, ...feeds],
          );
          const counts = Array.from({ length: numExperts }, (_, e) => experts.filter((x) => x === e).length);
          expect(load).toEqual(counts);
          matrix(experts, topK).forEach((row, t) => {
            const total = matrix(probabilities, numExperts)[t].reduce((x, y) => x + y, 0);
            if (row[0] >= 0) expect(total).toBeCloseTo(1, 9);
            const made = row.filter((e) => e >= 0);
            expect(new Set(made).size).toBe(made.length);
          });
        }
      }
    });

    check('noise is for training only', async () => {
      const noise = new NoiseInputs();
      const noisy = trace(subject, { hidden, noise, noisy: true });
      expect([...noise.feeds.keys()]).toEqual([]);
      const quiet = trace(subject, { hidden });
      const data = randomParameters(quiet.parameters, 9, 1);
      const a = await run({ output: noisy.result.output }, [...data, ...noisy.feeds]);
      const b = await run({ output: quiet.result.output }, [...data, ...quiet.feeds]);
      expect(a).toEqual(b);
    });

    check('the backward pass sees the noise of the forward pass', async () => {
      const noise = new NoiseInputs();
      const setup = { hidden, mask, noise, training: true, noisy: true };
      const { parameters, result, feeds } = trace(subject, setup);
      expect(noise.feeds.size).toBeGreaterThan(0);
      const data = randomParameters(parameters, 10, 1);
      const at = (step: number) => run({ output: result.output }, [...data, ...feeds, ...drawn(noise, step)]);
      const [first, again, other] = await Promise.all([at(1), at(1), at(2)]);
      expect(again).toEqual(first);
      expect(distance(other.output, first.output)).toBeGreaterThan(1e-6);
      await expectGradients({ ...setup, noise: new NoiseInputs() }, drawn(noise, 1));
    });

    check('the cost is what was counted by hand', () => {
      const cost = createLayer(subject).cost();
      expect(cost.parameters).toBeCloseTo(subject.cost.parameters, 9);
      expect(cost.flops).toBeCloseTo(subject.cost.flops, 9);
    });

    check('float32 agrees with float64', async () => {
      const results = await Promise.all(
        (['float32', 'float64'] as const).map((dtype) => {
          const { parameters, result, feeds } = trace(subject, { hidden, mask, dtype });
          return run(outputsOf(result), [...randomParameters(parameters, 11, 1), ...feeds], dtype);
        }),
      );
      const [single, double] = results as Record<string, number[]>[];
      for (const name of Object.keys(double)) {
        expect(distance(single[name], double[name]), name).toBeLessThan(1e-5);
      }
    });
  });
}
