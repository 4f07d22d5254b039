import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { conformanceCase, type Skipped } from '../../test/support/conformance.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { layerContext } from '../../test/support/moe-context.js';
import { distance, run } from '../../test/support/numbers.js';
import { randomCases } from '../../test/support/random-cases.js';
import { matrix, type Matrix } from '../../test/support/reference-moe.js';
import {
  add,
  gradients,
  input,
  matmul,
  multiply,
  sum,
  unstack,
  type DType,
  type Tensor,
} from '../graph/index.js';
import { RandomStream, streamKey } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import type { Dispatch, Dispatched } from './dispatch.js';

type DispatchCase =
  | 'every kept choice meets its expert and comes back in its place'
  | 'no expert sees a token that did not choose it'
  | 'experts nobody chose'
  | 'all tokens to one expert'
  | 'a single token'
  | 'more experts than tokens'
  | 'padding'
  | 'nothing but padding'
  | 'choices that nobody made'
  | 'choices drawn at random'
  | 'an expert that loses its tokens gets a gradient of exactly zero';

/** One routing decision to be carried out. */
export interface DispatchScene {
  /** `[tokens][topK]` */
  readonly experts: Matrix;
  readonly numExperts: number;
  readonly batchSize?: number;
  readonly training?: boolean;
  readonly mask?: readonly number[] | undefined;
  /** Whether some choices are −1. */
  readonly partial?: boolean;
}

/** A dispatch under test. */
export interface DispatchSubject {
  readonly name: string;
  create(): Dispatch;
  /** Which choices it serves, in plain loops: `[tokens][topK]`. */
  kept(scene: DispatchScene): boolean[][];
  readonly skip?: Skipped<DispatchCase>;
}

const width = 3;

function trace(dispatch: Dispatch, scene: DispatchScene, dtype: DType = 'float64') {
  const { experts, numExperts, batchSize = 1, training = false, mask, partial = false } = scene;
  const tokens = experts.length;
  const hidden = input('hidden', dtype, [tokens, width]);
  const choices = input('experts', 'int64', [tokens, experts[0].length]);
  const tokenMask = mask && input('mask', dtype, [tokens]);
  const gates = input('gates', dtype, choices.shape);
  const context = layerContext({ batchSize, training, tokenMask });
  const routing = { experts: choices, gates, probabilities: gates, losses: [], partial };
  return { hidden, choices, dispatched: dispatch.dispatch(hidden, routing, numExperts, context) };
}

function feedsOf({ experts, mask = [] }: DispatchScene) {
  return [
    // No number of a real row is 0, so that rows of zeros are recognised as empty places.
    ['hidden', randomNumbers(experts.length, experts.length * width, 1, 2)] as const,
    ['experts', BigInt64Array.from(experts.flat(), BigInt)] as const,
    ['mask', Float64Array.from(mask)] as const,
  ];
}

/** Experts that can be told apart: expert e multiplies by e + 1. */
function marked({ rows }: Dispatched): Tensor[] {
  return rows.pieces.map((piece, expert) => multiply(piece, expert + 1));
}

/**
 * Carries out a scene with {@link marked} experts and compares outputs, gradient and count of drops with the loops.
 * @returns what the experts saw, for further looks.
 */
export async function expectScene(subject: DispatchSubject, scene: DispatchScene): Promise<number[][][]> {
  const { experts, numExperts, mask } = scene;
  const topK = experts[0].length;
  const { hidden, dispatched } = trace(subject.create(), scene);
  const { rows } = dispatched;
  expect(rows.pieces).toHaveLength(numExperts);
  const collected = dispatched.collect(marked(dispatched));
  expect(collected.toString()).toBe(`float64[${experts.length}, ${topK}, ${width}]`);
  expect(dispatched.dropped.toString()).toBe('int32[]');
  const weights = input('weights', 'float64', collected.shape);
  const [gradient] = gradients(sum(multiply(collected, weights)), [hidden]);
  const feeds = feedsOf(scene);
  const arriving = randomNumbers(8, experts.length * topK * width);
  const outputs: Record<string, Tensor> = {
    collected,
    gradient: gradient,
    dropped: dispatched.dropped,
    ...(rows.counts && { counts: rows.counts }),
    ...(rows.spare && { spare: rows.spare.counts }),
    ...Object.fromEntries(rows.pieces.map((piece, expert) => [`piece ${expert}`, piece])),
  };
  const actual = await run(outputs, [...feeds, ['weights', arriving]]);

  const kept = subject.kept(scene);
  const tokens = matrix(feeds[0][1] as Float64Array, width);
  const expected = tokens.flatMap((row, t) =>
    experts[t].flatMap((expert, k) => row.map((value) => (kept[t][k] ? value * (expert + 1) : 0))),
  );
  const expectedGradient = tokens.flatMap((row, t) =>
    row.map((_, i) =>
      experts[t].reduce(
        (total, expert, k) => total + (kept[t][k] ? (expert + 1) * arriving[(t * topK + k) * width + i] : 0),
        0,
      ),
    ),
  );
  const overflow = kept.flatMap((row, t) =>
    row.filter((served, k) => !served && mask?.[t] !== 0 && experts[t][k] >= 0),
  );
  expect(distance(actual['collected'], expected), 'outputs').toBeLessThan(1e-12);
  expect(distance(actual['gradient'], expectedGradient), 'gradient').toBeLessThan(1e-12);
  expect(actual['dropped']).toEqual([overflow.length]);
  const pieces = rows.pieces.map((_, expert) => matrix(actual[`piece ${expert}`], width));
  const sizes = pieces.map((piece) => piece.length);
  const nobody = rows.spare ? experts.flat().filter((expert) => expert < 0).length : 0;
  expect(sizes.reduce((a, b) => a + b, 0)).toBe(rows.totalRows - nobody);
  if (rows.counts) expect(actual['counts']).toEqual(sizes);
  if (rows.spare) expect(actual['spare']).toEqual([...sizes, nobody]);
  return pieces;
}

/** What every {@link Dispatch} must do, whoever it drops. */
export function dispatchConformance(subject: DispatchSubject): void {
  const check = (name: DispatchCase, body: () => Promise<void>): void =>
    conformanceCase(subject.skip, name, body);
  const some = [
    [2, 0],
    [1, 2],
    [2, 1],
    [0, 3],
    [2, 3],
    [3, 2],
    [2, 0],
    [1, 0],
  ];
  const firstChoices = some.map(([first]) => [first]);

  describe(`dispatch conformance: ${subject.name}`, () => {
    check('every kept choice meets its expert and comes back in its place', async () => {
      for (const training of [true, false]) {
        await expectScene(subject, { experts: firstChoices, numExperts: 4, training });
        await expectScene(subject, { experts: some, numExperts: 4, training });
        await expectScene(subject, { experts: some, numExperts: 4, training, batchSize: 2 });
      }
    });

    check('no expert sees a token that did not choose it', async () => {
      const scene: DispatchScene = { experts: some, numExperts: 4, mask: [1, 1, 1, 0, 1, 1, 0, 1] };
      const pieces = await expectScene(subject, scene);
      const tokens = matrix(feedsOf(scene)[0][1] as Float64Array, width).map(String);
      const kept = subject.kept(scene);
      pieces.forEach((piece, expert) => {
        const seen = piece
          .filter((row) => row.some((value) => value !== 0))
          .map((row) => tokens.indexOf(String(row)));
        const real = seen.filter((t) => scene.mask![t] !== 0);
        for (const t of seen) expect(some[t]).toContain(expert);
        const served = some.flatMap((row, t) => (row.some((e, k) => e === expert && kept[t][k]) ? [t] : []));
        expect(real.sort(), `tokens of expert ${expert}`).toEqual(served);
      });
    });

    check('experts nobody chose', async () => {
      await expectScene(subject, { experts: [[3], [3], [5], [3], [5], [3]], numExperts: 7 });
    });

    check('all tokens to one expert', async () => {
      for (const expert of [0, 2, 4]) {
        await expectScene(subject, {
          experts: new Array<number[]>(9).fill([expert]),
          numExperts: 5,
          training: true,
        });
      }
    });

    check('a single token', async () => {
      await expectScene(subject, { experts: [[1]], numExperts: 3 });
      await expectScene(subject, { experts: [[2, 0]], numExperts: 3 });
      await expectScene(subject, { experts: [[0]], numExperts: 1 });
    });

    check('more experts than tokens', async () => {
      await expectScene(subject, {
        experts: [
          [7, 3],
          [7, 0],
          [4, 7],
        ],
        numExperts: 9,
        training: true,
      });
    });

    check('padding', async () => {
      for (const batchSize of [1, 2]) {
        const mask = [0, 1, 0, 1, 1, 1, 0, 1];
        await expectScene(subject, { experts: some, numExperts: 4, mask, batchSize, training: true });
        await expectScene(subject, { experts: firstChoices, numExperts: 4, mask, batchSize, training: true });
      }
    });

    check('nothing but padding', async () => {
      const mask = new Array<number>(8).fill(0);
      await expectScene(subject, { experts: some, numExperts: 4, mask });
    });

    check('choices that nobody made', async () => {
      const sparse = some.map((row, t) => row.map((expert, k) => ((t + k) % 3 === 0 ? -1 : expert)));
      const mask = [0, 1, 0, 1, 1, 1, 0, 1];
      for (const experts of [sparse, sparse.map(([first]) => [first]), some, some.map(() => [-1, -1])]) {
        for (const masked of [undefined, mask]) {
          await expectScene(subject, { experts, numExperts: 4, mask: masked, training: true, partial: true });
        }
      }
    });

    check('choices drawn at random', async () => {
      const shape = fc.record({
        perSequence: fc.integer({ min: 1, max: 9 }),
        batchSize: fc.integer({ min: 1, max: 3 }),
        numExperts: fc.integer({ min: 1, max: 6 }),
        wantedTopK: fc.integer({ min: 1, max: 3 }),
        training: fc.boolean(),
        padded: fc.boolean(),
        partial: fc.boolean(),
        seed: fc.integer({ min: 0, max: 1_000_000 }),
      });
      await fc.assert(
        fc.asyncProperty(shape, async ({ perSequence, wantedTopK, padded, seed, ...rest }) => {
          const random = new RandomStream(streamKey(seed));
          const tokens = Array.from({ length: perSequence * rest.batchSize });
          const experts = tokens.map(() => {
            const left = Array.from({ length: rest.numExperts }, (_, expert) => expert);
            const topK = Math.min(wantedTopK, rest.numExperts);
            const row = Array.from({ length: topK }, () => left.splice(random.integer(left.length), 1)[0]);
            return rest.partial ? row.map((expert) => (random.uniform() < 0.4 ? -1 : expert)) : row;
          });
          const mask = padded ? tokens.map(() => Number(random.uniform() > 0.3)) : undefined;
          await expectScene(subject, { experts, mask, ...rest });
        }),
        randomCases(25),
      );
    });

    check('an expert that loses its tokens gets a gradient of exactly zero', async () => {
      for (const dtype of ['float32', 'float64'] as const) await expectNothingStale(subject, dtype);
    });
  });
}

/**
 * Runs one program twice: expert 1 has rows, then none. Its gradients, fetched (into buffers of the first run) and
 * used further inside the graph, must be zero, not what the first run left behind.
 */
async function expectNothingStale(subject: DispatchSubject, dtype: 'float32' | 'float64'): Promise<void> {
  const busy = [[1], [0], [1], [2], [1], [0]];
  const idle = [[0], [0], [2], [2], [0], [0]];
  const { hidden, dispatched } = trace(subject.create(), { experts: busy, numExperts: 3 }, dtype);
  const weight = input('weight', dtype, [3, width, width]);
  const bias = input('bias', dtype, [3, width]);
  const biases = unstack(bias);
  const outputs = unstack(weight).map((w, expert) =>
    add(matmul(dispatched.rows.pieces[expert], w), biases[expert]),
  );
  const collected = dispatched.collect(outputs);
  const [forWeight, forBias] = gradients(sum(multiply(collected, collected)), [weight, bias, hidden]);
  const doubled = multiply(forWeight, 2);
  const program = await compile({ forWeight: forWeight, forBias: forBias, doubled });
  const FloatArray = dtype === 'float32' ? Float32Array : Float64Array;
  const draw = (seed: number, length: number) => FloatArray.from(randomNumbers(seed, length, 1, 2));
  program.bind({ hidden: draw(1, 6 * width), weight: draw(2, 3 * width * width), bias: draw(3, 3 * width) });
  for (const experts of [busy, idle, busy, idle]) {
    const results = await program.run({ experts: BigInt64Array.from(experts.flat(), BigInt) });
    const used = [0, 1, 2].map((expert) => experts.some(([e]) => e === expert));
    for (const name of ['forWeight', 'forBias', 'doubled'] as const) {
      const rows = matrix(results[name] as Float64Array, results[name].length / 3);
      used.forEach((used, expert) => {
        const silent = rows[expert].every((value) => value === 0);
        expect(silent, `${dtype} ${name} of expert ${expert}`).toBe(!used);
      });
    }
  }
  await program.release();
}
