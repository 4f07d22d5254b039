import { describe, expect, test } from 'vitest';
import { conformanceCase, type Skipped } from '../../test/support/conformance.js';
import { count, randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { matrix, type Matrix, type ReferenceInputs } from '../../test/support/reference-moe.js';
import {
  drawNoise,
  everything,
  outputsOf,
  padNoise,
  realRows,
  traceRouter,
  trainable,
  type RouterSetup,
  type Surroundings,
} from '../../test/support/router-trace.js';
import { gradients, input, multiply, sum } from '../graph/index.js';
import { nameParameters, NoiseInputs, type Module } from '../nn/index.js';
import type { TensorData } from '../runtime/index.js';
import type { Router } from './router.js';

/** Sizes that the suite asks a router for. */
export interface RouterSizes {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
}

type RouterCase =
  | 'choices, gates and losses equal the plain loops'
  | 'training chooses as its equations say'
  | 'sequences of a batch are told apart as declared'
  | 'gradients equal finite differences'
  | 'an expert that nobody chose gets no gradient from the gates'
  | 'padding changes nothing'
  | 'equal scores go to the lowest index'
  | 'a single token is routed'
  | 'one expert gets every token'
  | 'topK = numExperts chooses every expert once'
  | 'the names of the experts do not matter'
  | 'later tokens do not change earlier choices'
  | 'evaluation changes no state'
  | 'noise is for training only'
  | 'the backward pass sees the noise of the forward pass';

/** How a router is run, for its equations in plain loops. */
export interface RouterRun {
  readonly training: boolean;
  /** Sequences among the tokens, one after the other and equally long. */
  readonly batchSize: number;
  /** Noise by the name of its feed (`noise.layer.…`), for routers that draw some even when {@link RouterSubject.create}d. */
  readonly noise: ReadonlyMap<string, Float64Array>;
}

/** What the plain loops find. */
export interface ReferenceDecision {
  /** `[tokens][topK]`; −1 is no choice. */
  readonly experts: Matrix;
  /** `[tokens][topK]` */
  readonly gates: Matrix;
  /** `[tokens][numExperts]` */
  readonly probabilities: Matrix;
  readonly losses: Readonly<Record<string, number>>;
  /** Observations of the updates of state in training, in their order; none when absent. */
  readonly observations?: readonly (readonly number[])[];
}

/** A router under test. */
export interface RouterSubject {
  readonly name: string;
  /** A router without noise, all of its losses switched on. */
  create(sizes: RouterSizes): Router & Module;
  /** The same router with noise in training. */
  createNoisy?(sizes: RouterSizes): Router & Module;
  /** Its equations in plain loops, on padding as well (padding is compared nowhere, though). */
  reference(sizes: RouterSizes, inputs: ReferenceInputs, run: RouterRun): ReferenceDecision;
  /** What the router wants to know besides its input (token ids, earlier decisions), as a function of the rows. */
  readonly surroundings?: Surroundings;
  /** Parameters of a router whose expert `i` is expert `order[i]` of the given one. */
  permuteExperts(
    parameters: ReadonlyMap<string, Float64Array>,
    order: readonly number[],
    sizes: RouterSizes,
  ): Map<string, Float64Array>;
  /** Columns of its decisions in training, where they are not `topK`. */
  readonly trainingColumns?: (sizes: RouterSizes) => number;
  readonly skip?: Skipped<RouterCase>;
}

/** What every {@link Router} must do, whatever its equations. */
export function routerConformance(subject: RouterSubject): void {
  const sizes: RouterSizes = { hiddenSize: 5, numExperts: 6, topK: 2 };
  const hidden = matrix(randomNumbers(1, 9 * 5), 5);

  const check = (name: RouterCase, body: () => Promise<void>): void =>
    conformanceCase(subject.skip, name, body);

  const trace = (router: Router & Module, setup: RouterSetup) =>
    traceRouter(subject.surroundings, router, setup);

  const expectReference = async (some: RouterSizes, setup: RouterSetup): Promise<void> => {
    const { parameters, routing, feeds, drawn } = trace(subject.create(some), setup);
    const data = randomParameters(parameters, 3, 1);
    const actual: Record<string, number[]> = await run(outputsOf(routing), [...data, ...feeds]);
    const { mask, training = false, batchSize = 1 } = setup;
    const expected = subject.reference(
      some,
      { hidden: setup.hidden, parameters: data, mask },
      { training, batchSize, noise: drawn },
    );
    const real = (name: string, columns: number): number[] => realRows(matrix(actual[name], columns), mask);
    const columns = routing.experts.shape[1] as number;
    expect(real('experts', columns)).toEqual(realRows(expected.experts, mask));
    expect(distance(real('gates', columns), realRows(expected.gates, mask))).toBeLessThan(1e-9);
    const probabilities = real('probabilities', some.numExperts);
    expect(distance(probabilities, realRows(expected.probabilities, mask))).toBeLessThan(1e-9);
    for (const row of matrix(probabilities, some.numExperts)) {
      expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
    }
    const observations = expected.observations ?? [];
    expect(routing.updates ?? []).toHaveLength(training ? observations.length : 0);
    if (training) {
      observations.forEach((values, i) =>
        expect(distance(actual[`observation ${i}`], values), `observation ${i}`).toBeLessThan(1e-9),
      );
    }
    expect(routing.losses.map(({ name }) => name).sort()).toEqual(Object.keys(expected.losses).sort());
    for (const [name, value] of Object.entries(expected.losses)) {
      expect(distance(actual[`loss ${name}`], [value]), name).toBeLessThan(1e-9);
    }
  };

  describe(`router conformance: ${subject.name}`, () => {
    test('types and shapes', () => {
      const router = subject.create(sizes);
      const { routing } = trace(router, { hidden, training: true });
      expect([router.numExperts, router.topK]).toEqual([6, 2]);
      const columns = subject.trainingColumns?.(sizes) ?? 2;
      expect(routing.experts.toString()).toBe(`int64[9, ${columns}]`);
      expect(routing.gates.toString()).toBe(`float64[9, ${columns}]`);
      expect(routing.probabilities.toString()).toBe('float64[9, 6]');
      for (const { value, coefficient, name } of routing.losses) {
        expect(value.toString(), name).toBe('float64[]');
        expect(coefficient, name).toBeGreaterThan(0);
      }
    });

    check('choices, gates and losses equal the plain loops', async () => {
      for (const topK of [1, 2, 3]) await expectReference({ ...sizes, topK }, { hidden });
      await expectReference(sizes, { hidden, mask: [1, 0, 1, 1, 1, 0, 0, 1, 1] });
      await expectReference(sizes, { hidden, mask: new Array<number>(9).fill(0) });
    });

    check('training chooses as its equations say', async () => {
      for (const topK of [1, 2, 3]) await expectReference({ ...sizes, topK }, { hidden, training: true });
      await expectReference(sizes, { hidden, training: true, mask: [1, 0, 1, 1, 1, 0, 0, 1, 1] });
      await expectReference(sizes, { hidden, training: true, mask: new Array<number>(9).fill(0) });
    });

    check('sequences of a batch are told apart as declared', async () => {
      for (const training of [false, true]) {
        await expectReference(sizes, { hidden, training, batchSize: 3 });
        const mask = [1, 0, 1, 0, 0, 0, 1, 1, 1];
        await expectReference(sizes, { hidden, training, batchSize: 3, mask });
      }
    });

    check('gradients equal finite differences', async () => {
      for (const training of [false, true]) {
        for (const mask of [undefined, [1, 0, 1, 1, 1, 0, 0, 1, 1]]) {
          const setup = { hidden, training, ...(mask && { mask }) };
          const { parameters, rows, routing, feeds } = trace(subject.create(sizes), setup);
          const weights = input('weights', 'float64', routing.gates.shape);
          const data = randomParameters(parameters, 4, 1);
          const error = await leafGradientError(
            everything(routing, weights),
            trainable(parameters).set('hidden', rows),
            new Map<string, TensorData>([
              ...data,
              ...feeds,
              ['weights', randomNumbers(5, count(routing.gates.shape as number[]))],
            ]),
          );
          expect(error).toBeLessThan(1e-8);
        }
      }
    });

    check('an expert that nobody chose gets no gradient from the gates', async () => {
      const positive = hidden.map((row) => row.map(Math.abs));
      const { parameters, routing, feeds } = trace(subject.create(sizes), { hidden: positive });
      const data = randomParameters(parameters, 6, 1);
      const weights = data.get('classifier.weight')!;
      weights.subarray(4 * 5).fill(-1);
      for (const [name, { trainable: isWeight }] of parameters) if (!isWeight) data.get(name)!.fill(0);
      const uneven = input('weights', 'float64', routing.gates.shape);
      const [gradient] = gradients(sum(multiply(routing.gates, uneven)), [
        parameters.get('classifier.weight')!.tensor,
      ]);
      const { experts, rows } = await run({ experts: routing.experts, rows: gradient }, [
        ...data,
        ...feeds,
        ['weights', randomNumbers(7, count(routing.gates.shape as number[]))],
      ]);
      expect(experts).not.toContain(4);
      expect(experts).not.toContain(5);
      expect(rows.slice(0, 4 * 5).some((value) => value !== 0)).toBe(true);
      expect(rows.slice(4 * 5)).toEqual(new Array<number>(2 * 5).fill(0));
    });

    check('padding changes nothing', async () => {
      const mask = [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1];
      let next = 0;
      const padded = mask.map((value) => (value === 1 ? hidden[next++] : [9, -9, 9, -9, 9]));
      for (const training of [false, true]) {
        const plain = trace(subject.create(sizes), { hidden, training });
        const withPadding = trace(subject.create(sizes), { hidden: padded, mask, training });
        const data = randomParameters(plain.parameters, 6, 1);
        const a: Record<string, number[]> = await run(outputsOf(plain.routing), [...data, ...plain.feeds]);
        const b: Record<string, number[]> = await run(outputsOf(withPadding.routing), [
          ...data,
          ...withPadding.feeds,
          ...padNoise(plain.drawn, mask),
        ]);
        for (const [name, numbers] of Object.entries(a)) {
          const perToken = ['experts', 'gates', 'probabilities'].includes(name);
          const rows = matrix(b[name], perToken ? numbers.length / hidden.length : 1);
          expect(distance(perToken ? realRows(rows, mask) : b[name], numbers), name).toBeLessThan(1e-12);
        }
      }
    });

    check('equal scores go to the lowest index', async () => {
      const { parameters, routing, feeds } = trace(subject.create({ ...sizes, topK: 3 }), { hidden });
      const nothing = [...parameters].map(([name, { size }]) => [name, new Float64Array(size)] as const);
      const { experts } = await run({ experts: routing.experts }, [...nothing, ...feeds]);
      expect(experts).toEqual(hidden.flatMap(() => [0, 1, 2]));
    });

    check('a single token is routed', async () => expectReference(sizes, { hidden: hidden.slice(0, 1) }));

    check('one expert gets every token', async () => {
      for (const training of [false, true]) {
        await expectReference({ ...sizes, numExperts: 1, topK: 1 }, { hidden, training });
      }
    });

    check('topK = numExperts chooses every expert once', async () => {
      const all = { ...sizes, topK: sizes.numExperts };
      await expectReference(all, { hidden });
      const { parameters, routing, feeds } = trace(subject.create(all), { hidden });
      const { experts } = await run({ experts: routing.experts }, [
        ...randomParameters(parameters, 7, 1),
        ...feeds,
      ]);
      for (const row of matrix(experts, 6)) expect([...row].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    });

    check('the names of the experts do not matter', async () => {
      const order = [4, 2, 0, 5, 1, 3];
      const { parameters, routing, feeds } = trace(subject.create(sizes), { hidden });
      const data = randomParameters(parameters, 8, 1);
      const a: Record<string, number[]> = await run(outputsOf(routing), [...data, ...feeds]);
      const b: Record<string, number[]> = await run(outputsOf(routing), [
        ...subject.permuteExperts(data, order, sizes),
        ...feeds,
      ]);
      expect(b['experts'].map((expert) => order[expert])).toEqual(a['experts']);
      const [before, after] = [a, b].map((outputs) => matrix(outputs['probabilities'], 6));
      after.forEach((row, t) =>
        expect(
          distance(
            row,
            order.map((expert) => before[t][expert]),
          ),
        ).toBeLessThan(1e-12),
      );
      for (const name of Object.keys(a).filter((key) => key !== 'experts' && key !== 'probabilities')) {
        expect(distance(b[name], a[name]), name).toBeLessThan(1e-12);
      }
    });

    check('later tokens do not change earlier choices', async () => {
      const router = subject.create(sizes);
      expect(router.leak).toBeUndefined();
      const changed = [...hidden.slice(0, 4), ...hidden.slice(4).map((row) => row.map((x) => 3 - 2 * x))];
      const data = randomParameters(nameParameters(router, 'float64'), 11, 1);
      const [a, b] = await Promise.all(
        [hidden, changed].map((rows) => {
          const { routing, feeds } = trace(router, { hidden: rows });
          const { experts, gates, probabilities } = routing;
          return run({ experts, gates, probabilities }, [...data, ...feeds]);
        }),
      );
      const early = (numbers: readonly number[]): number[] => numbers.slice(0, (numbers.length / 9) * 4);
      expect(early(b.experts)).toEqual(early(a.experts));
      expect(early(b.gates)).toEqual(early(a.gates));
      expect(early(b.probabilities)).toEqual(early(a.probabilities));
    });

    check('evaluation changes no state', async () => {
      const router = subject.create(sizes);
      expect(trace(router, { hidden }).routing.updates ?? []).toEqual([]);
      const { parameters, routing } = trace(router, { hidden, training: true });
      for (const { parameter, observation } of routing.updates ?? []) {
        expect([...parameters.values()]).toContain(parameter);
        expect(observation.shape.every((dim) => typeof dim === 'number')).toBe(true);
      }
    });

    check('noise is for training only', async () => {
      const noise = new NoiseInputs();
      const noisy = trace(subject.createNoisy!(sizes), { hidden, noise });
      expect([...noise.feeds.keys()]).toEqual([]);
      const quiet = trace(subject.create(sizes), { hidden });
      const data = randomParameters(quiet.parameters, 9, 1);
      const outputs = { noisy: noisy.routing.gates, quiet: quiet.routing.gates };
      const a = await run({ gates: outputs.noisy }, [...data, ...noisy.feeds]);
      const b = await run({ gates: outputs.quiet }, [...data, ...quiet.feeds]);
      expect(a).toEqual(b);
    });

    check('the backward pass sees the noise of the forward pass', async () => {
      const noise = new NoiseInputs();
      const { parameters, rows, routing, feeds } = trace(subject.createNoisy!(sizes), {
        hidden,
        noise,
        training: true,
      });
      expect(noise.feeds.size).toBeGreaterThan(0);
      const data = randomParameters(parameters, 10, 1);
      const [first, again, other] = await Promise.all(
        [1, 1, 2].map((step) =>
          run({ gates: routing.gates }, [...data, ...feeds, ...drawNoise(noise, step)]),
        ),
      );
      expect(again).toEqual(first);
      expect(distance(other.gates, first.gates)).toBeGreaterThan(1e-6);

      const weights = input('weights', 'float64', routing.gates.shape);
      const error = await leafGradientError(
        everything(routing, weights),
        trainable(parameters).set('hidden', rows),
        new Map<string, TensorData>([
          ...data,
          ...feeds,
          ['weights', randomNumbers(5, count(routing.gates.shape as number[]))],
        ]),
      );
      expect(error).toBeLessThan(1e-8);
    });
  });
}
