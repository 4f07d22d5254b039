import { describe, expect } from 'vitest';
import { conformanceCase, type Skipped } from '../../test/support/conformance.js';
import { fillNormal, normal, Parameter, ParameterArena, streamKey } from '../nn/index.js';
import type { Optimizer, UpdateSettings } from './optimizer.js';

type OptimizerCase =
  | 'equals its formula in double precision over 50 updates'
  | 'decays matrices only'
  | 'the factor on gradients is a factor on gradients'
  | 'state is complete: a copy goes on with the same bits'
  | 'arrays outside WebAssembly memory give the same bits'
  | 'the number of threads changes no bit'
  | 'touches neither gradients nor the gaps between parameters';

/** One parameter's numbers in double precision; `state` starts empty and belongs to the reference. */
export interface ReferenceParameter {
  readonly values: Float64Array;
  readonly decays: boolean;
  readonly state: Record<string, Float64Array>;
}

/** An optimiser under test. */
export interface OptimizerSubject {
  readonly name: string;
  /** An optimiser with weight decay switched on. */
  create(parameters: ParameterArena, gradients: ParameterArena, threads: number | undefined): Optimizer;
  /** Its formula in plain loops; keeps its arrays in `parameter.state` under the names of {@link Optimizer.state}. */
  reference(parameter: ReferenceParameter, gradient: Float64Array, settings: UpdateSettings): void;
  readonly skip?: Skipped<OptimizerCase>;
}

/** More than one chunk of the slow path, a size that is no multiple of 4, and a vector that does not decay. */
const parameters = new Map([
  ['matrix', new Parameter([7, 5], normal(1))],
  ['bias', new Parameter([9], normal(1))],
  ['table', new Parameter([300, 450], normal(1))],
  ['norm', new Parameter([1], normal(1))],
]);

interface Setup {
  readonly weights: ParameterArena;
  readonly gradients: ParameterArena;
  readonly optimizer: Optimizer;
}

/** @param arenas an absurd number leaves WebAssembly memory out. */
function open(subject: OptimizerSubject, arenas = 4, threads?: number): Setup {
  const weights = ParameterArena.allocate(parameters, arenas).initialize(parameters, 1);
  const gradients = weights.like();
  return { weights, gradients, optimizer: subject.create(weights, gradients, threads) };
}

/** The same gradients for every step and parameter, whoever asks. */
function fillGradients(gradients: ParameterArena, step: number, factor = 1): void {
  for (const [name, view] of gradients.views) fillNormal(streamKey(7, step, name), view, factor);
}

const settings = (update: number): UpdateSettings => ({
  update,
  learningRate: 0.02 / (1 + update / 20),
  gradientScale: update % 3 === 0 ? 0.5 : 1,
});

async function train({ gradients, optimizer }: Setup, from: number, to: number): Promise<void> {
  for (let update = from; update <= to; update++) {
    fillGradients(gradients, update);
    await optimizer.update(settings(update));
  }
}

function expectSameBits(a: ParameterArena, b: ParameterArena, what: string): void {
  const bytes = ({ data }: ParameterArena): Buffer =>
    Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  expect(Buffer.compare(bytes(a), bytes(b)), what).toBe(0);
}

function expectSame(a: Setup, b: Setup): void {
  expectSameBits(a.weights, b.weights, 'parameters');
  for (const [name, arena] of a.optimizer.state) expectSameBits(arena, b.optimizer.state.get(name)!, name);
}

/** Largest difference, in units of the number or of the typical size of its neighbours. */
function relativeDistance(actual: Float32Array, expected: Float64Array): number {
  const typical = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / expected.length);
  return expected.reduce(
    (worst, x, i) => Math.max(worst, Math.abs(actual[i] - x) / Math.max(Math.abs(x), typical)),
    0,
  );
}

/** What every {@link Optimizer} must do, whatever its formula. */
export function optimizerConformance(subject: OptimizerSubject): void {
  const check = (name: OptimizerCase, body: () => Promise<void>): void =>
    conformanceCase(subject.skip, name, body);

  describe(`optimizer conformance: ${subject.name}`, () => {
    check('equals its formula in double precision over 50 updates', async () => {
      const setup = open(subject);
      const reference = new Map(
        [...parameters].map(([name, { decays }]): [string, ReferenceParameter] => [
          name,
          { values: Float64Array.from(setup.weights.views.get(name)!), decays, state: {} },
        ]),
      );
      for (let update = 1; update <= 50; update++) {
        await train(setup, update, update);
        for (const [name, parameter] of reference) {
          subject.reference(parameter, Float64Array.from(setup.gradients.views.get(name)!), settings(update));
        }
        if (update !== 1 && update !== 50) continue;
        for (const [name, { values, state }] of reference) {
          expect(relativeDistance(setup.weights.views.get(name)!, values), name).toBeLessThan(1e-5);
          expect(Object.keys(state).sort()).toEqual([...setup.optimizer.state.keys()].sort());
          for (const [key, arena] of setup.optimizer.state) {
            expect(relativeDistance(arena.views.get(name)!, state[key]), `${key} of ${name}`).toBeLessThan(
              1e-5,
            );
          }
        }
      }
      await setup.optimizer.release();
    });

    check('decays matrices only', async () => {
      const setup = open(subject);
      const before = new Map([...setup.weights.views].map(([name, view]) => [name, view.slice()]));
      await setup.optimizer.update({ update: 1, learningRate: 0.1, gradientScale: 1 });
      for (const [name, view] of setup.weights.views) {
        const shrunk = view.every((value, i) => Math.abs(value) < Math.abs(before.get(name)![i]));
        expect(shrunk, name).toBe(parameters.get(name)!.decays);
        if (!parameters.get(name)!.decays) expect(view, name).toEqual(before.get(name));
      }
      await setup.optimizer.release();
    });

    check('the factor on gradients is a factor on gradients', async () => {
      const [scaled, plain] = [open(subject), open(subject)];
      for (let update = 1; update <= 3; update++) {
        fillGradients(scaled.gradients, update);
        // A power of two rounds nothing.
        plain.gradients.data.set(scaled.gradients.data.map((value) => value / 4));
        await scaled.optimizer.update({ update, learningRate: 0.01, gradientScale: 0.25 });
        await plain.optimizer.update({ update, learningRate: 0.01, gradientScale: 1 });
      }
      expectSame(scaled, plain);
      await Promise.all([scaled.optimizer.release(), plain.optimizer.release()]);
    });

    check('state is complete: a copy goes on with the same bits', async () => {
      const straight = open(subject);
      await train(straight, 1, 12);
      const copy = open(subject);
      copy.weights.data.set(straight.weights.data);
      for (const [name, arena] of copy.optimizer.state) {
        arena.data.set(straight.optimizer.state.get(name)!.data);
      }
      await train(straight, 13, 20);
      await train(copy, 13, 20);
      expectSame(copy, straight);
      await Promise.all([straight.optimizer.release(), copy.optimizer.release()]);
    });

    check('arrays outside WebAssembly memory give the same bits', async () => {
      const [inside, outside] = [open(subject), open(subject, 1e9)];
      expect(outside.weights.memory.memory).toBeUndefined();
      await train(inside, 1, 5);
      await train(outside, 1, 5);
      expectSame(outside, inside);
      await Promise.all([inside.optimizer.release(), outside.optimizer.release()]);
    });

    check('the number of threads changes no bit', async () => {
      const [one, many] = [open(subject, 1e9, 1), open(subject, 1e9, 4)];
      await train(one, 1, 3);
      await train(many, 1, 3);
      expectSame(one, many);
      await Promise.all([one.optimizer.release(), many.optimizer.release()]);
    });

    check('touches neither gradients nor the gaps between parameters', async () => {
      const setup = open(subject);
      const gaps = new Float32Array(setup.weights.data.length).fill(1);
      for (const [name, { offset }] of setup.weights.layout) {
        gaps.fill(0, offset, offset + parameters.get(name)!.size);
      }
      fillGradients(setup.gradients, 1);
      const gradients = setup.gradients.data.slice();
      await setup.optimizer.update(settings(1));
      expect(setup.gradients.data).toEqual(gradients);
      for (const arena of [setup.weights, ...setup.optimizer.state.values()]) {
        expect(arena.data.some((value, i) => gaps[i] === 1 && value !== 0)).toBe(false);
      }
      await setup.optimizer.release();
    });
  });
}
