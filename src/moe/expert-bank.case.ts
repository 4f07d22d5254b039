import { describe, expect, test } from 'vitest';
import { conformanceCase, type Skipped } from '../../test/support/conformance.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { layerContext } from '../../test/support/moe-context.js';
import { distance, randomParameters, run, typed } from '../../test/support/numbers.js';
import { matrix } from '../../test/support/reference-moe.js';
import { concat, gradients, input, multiply, split, sum, type DType } from '../graph/index.js';
import { nameParameters, NoiseInputs, type Module } from '../nn/index.js';
import { compile } from '../runtime/index.js';
import type { ExpertBank } from './expert-bank.js';

/** Sizes that the suite asks a bank for. */
export interface BankSizes {
  readonly numExperts: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
}

type BankCase =
  | 'each expert computes the plain loops on its own rows'
  | 'rows counted at run time'
  | 'gradients equal finite differences'
  | 'an expert that loses its rows gets a gradient of exactly zero'
  | 'dropout: the same mask for the same step, none in evaluation'
  | 'dropout keeps the mean and the gradient';

/** An expert bank under test. */
export interface BankSubject {
  readonly name: string;
  create(sizes: BankSizes): ExpertBank & Module;
  /** The same bank with dropout on the hidden activation of its experts. */
  createWithDropout?(sizes: BankSizes, rate: number): ExpertBank & Module;
  /** One expert on one row, in plain loops. */
  reference(
    x: readonly number[],
    expert: number,
    parameters: ReadonlyMap<string, Float64Array>,
    sizes: BankSizes,
  ): number[];
  /** Parameters that belong to all experts together. */
  readonly shared?: ReadonlySet<string>;
  readonly skip?: Skipped<BankCase>;
}

const sizes: BankSizes = { numExperts: 3, hiddenSize: 4, intermediateSize: 6 };

interface Setup {
  readonly counts: readonly number[];
  /** Whether the counts are known when the graph is written. */
  readonly fixed?: boolean;
  readonly training?: boolean;
  readonly dtype?: DType;
}

/** Traces a bank over rows that are cut by `counts`. */
function trace(
  bank: ExpertBank & Module,
  { counts, fixed = false, training = false, dtype = 'float64' }: Setup,
) {
  const parameters = nameParameters(bank, dtype);
  const totalRows = counts.reduce((a, b) => a + b, 0);
  const hidden = input('hidden', dtype, [totalRows, sizes.hiddenSize]);
  const countsInput = fixed ? undefined : input('counts', 'int64', [counts.length]);
  const names = counts.map((count, expert) => (fixed ? count : `rows${expert}`));
  const pieces = split(bank.prepare?.(hidden) ?? hidden, names, 0, countsInput);
  const noise = new NoiseInputs();
  const rows = { pieces, totalRows, ...(countsInput && { counts: countsInput }) };
  const outputs = bank.forward(rows, layerContext({ training, noise }));
  const joined = concat(outputs, 0, { size: totalRows, counts: countsInput });
  const output = bank.finish?.(joined) ?? joined;
  const feeds = [
    ['hidden', randomNumbers(2, totalRows * sizes.hiddenSize)] as const,
    ['counts', BigInt64Array.from(counts, BigInt)] as const,
  ];
  return { parameters, hidden, output, outputs, pieces, noise, feeds };
}

function draw(noise: NoiseInputs, seed: number, step: number): [string, Float64Array][] {
  const buffers = Object.fromEntries(
    [...noise.feeds].map(([name, { shape }]) => [
      name,
      new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
    ]),
  );
  noise.fill(seed, step, buffers);
  return Object.entries(buffers);
}

/** What every {@link ExpertBank} must do, whatever its experts are made of. */
export function expertBankConformance(subject: BankSubject): void {
  const check = (name: BankCase, body: () => Promise<void>): void =>
    conformanceCase(subject.skip, name, body);

  const expectReference = async (setup: Setup): Promise<void> => {
    const { parameters, output, feeds } = trace(subject.create(sizes), setup);
    const data = randomParameters(parameters, 3, 1);
    const actual = await run({ output }, [...data, ...feeds]);
    const owners = setup.counts.flatMap((count, expert) => new Array<number>(count).fill(expert));
    const expected = matrix(feeds[0][1] as Float64Array, sizes.hiddenSize).flatMap((x, row) =>
      subject.reference(x, owners[row], data, sizes),
    );
    expect(distance(actual.output, expected)).toBeLessThan(1e-11);
  };

  describe(`expert bank conformance: ${subject.name}`, () => {
    test('one output per expert, of the shape of its rows', () => {
      const bank = subject.create(sizes);
      expect(bank.numExperts).toBe(3);
      const { output, outputs, pieces } = trace(bank, { counts: [2, 0, 3] });
      expect(outputs.map(({ shape }) => shape[0])).toEqual(pieces.map(({ shape }) => shape[0]));
      expect(output.shape).toEqual([5, sizes.hiddenSize]);
      if (!bank.finish) expect(outputs.map(String)).toEqual(pieces.map(String));
    });

    check('each expert computes the plain loops on its own rows', async () =>
      expectReference({ counts: [2, 2, 2], fixed: true }),
    );

    check('rows counted at run time', async () => {
      await expectReference({ counts: [1, 4, 2] });
      await expectReference({ counts: [0, 5, 0] });
      await expectReference({ counts: [3, 0, 1], training: true });
    });

    check('gradients equal finite differences', async () => {
      for (const setup of [{ counts: [2, 2, 2], fixed: true }, { counts: [3, 0, 2] }]) {
        const { parameters, hidden, output, feeds } = trace(subject.create(sizes), setup);
        const weights = input('weights', 'float64', output.shape);
        const leaves = new Map([...parameters].map(([name, { tensor }]) => [name, tensor]));
        const data = randomParameters(parameters, 4, 1);
        const length = (output.shape as number[]).reduce((a, b) => a * b, 1);
        const error = await leafGradientError(
          sum(multiply(output, weights)),
          leaves.set('hidden', hidden),
          new Map<string, Float64Array | BigInt64Array>([
            ...data,
            ...feeds,
            ['weights', randomNumbers(5, length)],
          ]),
        );
        expect(error).toBeLessThan(1e-8);
      }
    });

    check('an expert that loses its rows gets a gradient of exactly zero', async () => {
      for (const dtype of ['float32', 'float64'] as const) {
        const { parameters, output, feeds } = trace(subject.create(sizes), { counts: [2, 2, 2], dtype });
        const owned = [...parameters].filter(([name]) => !subject.shared?.has(name));
        const names = owned.map(([name]) => name);
        const derived = gradients(
          sum(multiply(output, output)),
          owned.map(([, { tensor }]) => tensor),
        );
        const program = await compile(
          Object.fromEntries(derived.map((gradient, i) => [`gradient of ${names[i]}`, gradient])),
        );
        const data = randomParameters(parameters, 4, 1);
        program.bindKnown(
          [...data, ...feeds].map(([name, numbers]) => [name, typed(numbers, dtype)] as const),
        );
        for (const counts of [
          [2, 2, 2],
          [6, 0, 0],
          [0, 3, 3],
          [0, 0, 6],
        ]) {
          const results = await program.run({ counts: BigInt64Array.from(counts, BigInt) });
          for (const name of names) {
            const all = results[`gradient of ${name}`] as Float64Array;
            matrix(all, all.length / 3).forEach((row, expert) => {
              const silent = row.every((value) => value === 0);
              expect(silent, `${dtype} ${name} of expert ${expert} with ${String(counts)} rows`).toBe(
                counts[expert] === 0,
              );
            });
          }
        }
        await program.release();
      }
    });

    check('dropout: the same mask for the same step, none in evaluation', async () => {
      const bank = subject.createWithDropout!(sizes, 0.5);
      const setup = { counts: [2, 1, 3] };
      const quiet = trace(bank, setup);
      expect([...quiet.noise.feeds.keys()]).toEqual([]);
      const data = randomParameters(quiet.parameters, 3, 1);
      const plain = await run({ output: quiet.output }, [...data, ...quiet.feeds]);
      const without = trace(subject.create(sizes), setup);
      expect(plain).toEqual(await run({ output: without.output }, [...data, ...without.feeds]));

      const noisy = trace(bank, { ...setup, training: true });
      const at = async (seed: number, step: number): Promise<number[]> => {
        const noise = draw(noisy.noise, seed, step);
        return (await run({ output: noisy.output }, [...data, ...noisy.feeds, ...noise])).output;
      };
      const first = await at(7, 1);
      expect(await at(7, 1)).toEqual(first);
      expect(await at(7, 2)).not.toEqual(first);
      expect(await at(8, 1)).not.toEqual(first);
      expect(first).not.toEqual(plain.output);
    });

    check('dropout keeps the mean and the gradient', async () => {
      const bank = subject.createWithDropout!(sizes, 0.4);
      const { parameters, hidden, output, feeds, noise } = trace(bank, { counts: [2, 1, 3], training: true });
      const data = randomParameters(parameters, 3, 1);
      const quiet = trace(bank, { counts: [2, 1, 3] });
      const expected = await run({ output: quiet.output }, [...data, ...feeds]);

      const program = await compile({ output });
      program.bindKnown([...data, ...feeds]);
      const mean = new Float64Array(expected.output.length);
      const steps = 4000;
      for (let step = 0; step < steps; step++) {
        program.bindKnown(draw(noise, 1, step));
        const results = await program.run();
        (results.output as Float64Array).forEach((value, i) => (mean[i] += value / steps));
      }
      await program.release();
      expect(distance(mean, expected.output)).toBeLessThan(0.1);

      const weights = input('weights', 'float64', output.shape);
      const error = await leafGradientError(
        sum(multiply(output, weights)),
        new Map([['hidden', hidden]]),
        new Map<string, Float64Array | BigInt64Array>([
          ...data,
          ...feeds,
          ...draw(noise, 1, 1),
          ['weights', randomNumbers(5, 24)],
        ]),
      );
      expect(error).toBeLessThan(1e-8);
    });
  });
}
