import { describe, expect, test } from 'vitest';
import { conformanceCase, type Skipped } from '../../test/support/conformance.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { layerContext } from '../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { matrix, type Matrix, type ReferenceInputs } from '../../test/support/reference-moe.js';
import { add, input, multiply, sum, type Tensor } from '../graph/index.js';
import { nameParameters, NoiseInputs, type Module } from '../nn/index.js';
import type { Router, Routing } from './router.js';

/** Sizes that the suite asks a router for. */
export interface RouterSizes {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
}

type RouterCase =
  | 'choices, gates and losses equal the plain loops'
  | 'gradients equal finite differences'
  | 'padding changes nothing'
  | 'equal scores go to the lowest index'
  | 'a single token is routed'
  | 'topK = numExperts chooses every expert once'
  | 'the names of the experts do not matter'
  | 'noise is for training only'
  | 'the backward pass sees the noise of the forward pass';

/** A router under test. */
export interface RouterSubject {
  readonly name: string;
  /** A router without noise, all of its losses switched on. */
  create(sizes: RouterSizes): Router & Module;
  /** The same router with noise in training. */
  createNoisy?(sizes: RouterSizes): Router & Module;
  /** Its equations in plain loops. */
  reference(
    sizes: RouterSizes,
    inputs: ReferenceInputs,
  ): { experts: Matrix; gates: Matrix; losses: Readonly<Record<string, number>> };
  /** Parameters of a router whose expert `i` is expert `order[i]` of the given one. */
  permuteExperts(
    parameters: ReadonlyMap<string, Float64Array>,
    order: readonly number[],
    sizes: RouterSizes,
  ): Map<string, Float64Array>;
  readonly skip?: Skipped<RouterCase>;
}

interface Setup {
  readonly hidden: Matrix;
  readonly mask?: readonly number[];
  readonly training?: boolean;
  readonly noise?: NoiseInputs;
}

/** Traces a router in float64. */
function trace(
  router: Router & Module,
  { hidden, mask, training = false, noise = new NoiseInputs() }: Setup,
) {
  const parameters = nameParameters(router, 'float64');
  const rows = input('hidden', 'float64', [hidden.length, hidden[0].length]);
  const tokenMask = mask && input('mask', 'float64', [hidden.length]);
  const routing = router.route(rows, layerContext({ training, noise, tokenMask }));
  const feeds = [
    ['hidden', Float64Array.from(hidden.flat())] as const,
    ['mask', Float64Array.from(mask ?? [])] as const,
  ];
  return { parameters, rows, routing, feeds };
}

/** One number that depends on everything a router returns with a gradient. */
function everything({ gates, losses }: Routing, weights: Tensor): Tensor {
  const terms = losses.map(({ value }, i) => multiply(value, 0.5 + i));
  return terms.reduce(add, sum(multiply(gates, weights)));
}

function outputsOf({ experts, gates, losses }: Routing): Record<string, Tensor> {
  return { experts, gates, ...Object.fromEntries(losses.map(({ name, value }) => [`loss ${name}`, value])) };
}

/** What every {@link Router} must do, whatever its equations. */
export function routerConformance(subject: RouterSubject): void {
  const sizes: RouterSizes = { hiddenSize: 5, numExperts: 6, topK: 2 };
  const hidden = matrix(randomNumbers(1, 9 * 5), 5);

  const check = (name: RouterCase, body: () => Promise<void>): void =>
    conformanceCase(subject.skip, name, body);

  const expectReference = async (some: RouterSizes, setup: Setup): Promise<void> => {
    const { parameters, routing, feeds } = trace(subject.create(some), setup);
    const data = randomParameters(parameters, 3, 1);
    const actual: Record<string, number[]> = await run(outputsOf(routing), [...data, ...feeds]);
    const expected = subject.reference(some, { hidden: setup.hidden, parameters: data, mask: setup.mask });
    expect(actual['experts']).toEqual(expected.experts.flat());
    expect(distance(actual['gates'], expected.gates.flat())).toBeLessThan(1e-9);
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
      expect(routing.experts.toString()).toBe('int64[9, 2]');
      expect(routing.gates.toString()).toBe('float64[9, 2]');
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

    check('gradients equal finite differences', async () => {
      for (const mask of [undefined, [1, 0, 1, 1, 1, 0, 0, 1, 1]]) {
        const { parameters, rows, routing, feeds } = trace(subject.create(sizes), {
          hidden,
          ...(mask && { mask }),
        });
        const weights = input('weights', 'float64', routing.gates.shape);
        const leaves = new Map([...parameters].map(([name, { tensor }]) => [name, tensor]));
        const data = randomParameters(parameters, 4, 1);
        const error = await leafGradientError(
          everything(routing, weights),
          leaves.set('hidden', rows),
          new Map<string, Float64Array>([...data, ...feeds, ['weights', randomNumbers(5, 18)]]),
        );
        expect(error).toBeLessThan(1e-8);
      }
    });

    check('padding changes nothing', async () => {
      const mask = [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1];
      const real = mask.flatMap((value, t) => (value === 1 ? [t] : []));
      let next = 0;
      const padded = mask.map((value) => (value === 1 ? hidden[next++] : [9, -9, 9, -9, 9]));
      const plain = trace(subject.create(sizes), { hidden });
      const withPadding = trace(subject.create(sizes), { hidden: padded, mask });
      const data = randomParameters(plain.parameters, 6, 1);
      const a: Record<string, number[]> = await run(outputsOf(plain.routing), [...data, ...plain.feeds]);
      const b: Record<string, number[]> = await run(outputsOf(withPadding.routing), [
        ...data,
        ...withPadding.feeds,
      ]);
      for (const name of ['experts', 'gates']) {
        const rows = matrix(b[name], 2);
        expect(
          distance(
            real.flatMap((t) => rows[t]),
            a[name],
          ),
          name,
        ).toBeLessThan(1e-12);
      }
      for (const { name } of plain.routing.losses) {
        expect(distance(b[`loss ${name}`], a[`loss ${name}`]), name).toBeLessThan(1e-12);
      }
    });

    check('equal scores go to the lowest index', async () => {
      const { parameters, routing, feeds } = trace(subject.create({ ...sizes, topK: 3 }), { hidden });
      const nothing = [...parameters].map(([name, { size }]) => [name, new Float64Array(size)] as const);
      const { experts } = await run({ experts: routing.experts }, [...nothing, ...feeds]);
      expect(experts).toEqual(hidden.flatMap(() => [0, 1, 2]));
    });

    check('a single token is routed', async () => expectReference(sizes, { hidden: hidden.slice(0, 1) }));

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
      for (const name of Object.keys(a).filter((key) => key !== 'experts')) {
        expect(distance(b[name], a[name]), name).toBeLessThan(1e-12);
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
      const drawn = (step: number): [string, Float64Array][] => {
        const buffers = Object.fromEntries(
          [...noise.feeds].map(([name, tensor]) => [
            name,
            new Float64Array((tensor.shape as number[]).reduce((a, b) => a * b, 1)),
          ]),
        );
        noise.fill(77, step, buffers);
        return Object.entries(buffers);
      };
      const data = randomParameters(parameters, 10, 1);
      const [first, again, other] = await Promise.all(
        [1, 1, 2].map((step) => run({ gates: routing.gates }, [...data, ...feeds, ...drawn(step)])),
      );
      expect(again).toEqual(first);
      expect(distance(other.gates, first.gates)).toBeGreaterThan(1e-6);

      const weights = input('weights', 'float64', routing.gates.shape);
      const leaves = new Map([...parameters].map(([name, { tensor }]) => [name, tensor]));
      const error = await leafGradientError(
        everything(routing, weights),
        leaves.set('hidden', rows),
        new Map<string, Float64Array>([...data, ...feeds, ...drawn(1), ['weights', randomNumbers(5, 18)]]),
      );
      expect(error).toBeLessThan(1e-8);
    });
  });
}
