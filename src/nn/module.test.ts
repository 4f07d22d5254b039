import { describe, expect, test } from 'vitest';
import { ParameterArena } from './arena.js';
import {
  constantValue,
  exactTruncatedNormal,
  normal,
  ones,
  truncatedNormal,
  uniform,
  weightInitializer,
  xavierUniform,
  zeros,
} from './initializers.js';
import { Embedding, LayerNorm, Linear } from './layers.js';
import { Module, nameParameters, Parameter } from './module.js';
import { bitsAt, fillUniform, RandomStream, streamKey } from './random.js';

class Leafy extends Module {
  readonly first = new Linear(2, 3, normal(1), { bias: true });
  readonly list: readonly Module[] = [new LayerNorm(3), new Linear(3, 1, normal(1))];
  readonly settings = { hidden: new Parameter([1], zeros) };
  readonly absent = undefined;
}

class Shared extends Module {
  readonly embedding = new Embedding(5, 2, normal(1));
  readonly head: { weight: Parameter } & Module;
  readonly layers: readonly Module[];

  constructor() {
    super();
    this.head = new Linear(2, 5, normal(1));
    (this.head as { weight: Parameter }).weight = this.embedding.weight;
    const once = new Linear(2, 2, normal(1));
    this.layers = [once, once];
  }
}

describe('the module tree', () => {
  test('names parameters by their path, in order of construction', () => {
    const names = [...nameParameters(new Leafy()).keys()];
    expect(names).toEqual(['first.weight', 'first.bias', 'list.0.weight', 'list.0.bias', 'list.1.weight']);
    expect([...nameParameters(new Leafy()).keys()]).toEqual(names);
  });

  test('a shared parameter or module appears once, under its first path, as one leaf', () => {
    const model = new Shared();
    const parameters = nameParameters(model);
    expect([...parameters.keys()]).toEqual(['embedding.weight', 'layers.0.weight']);
    expect(model.head.weight.tensor).toBe(parameters.get('embedding.weight')!.tensor);
  });

  test('naming again traces in another precision', () => {
    const model = new Leafy();
    nameParameters(model);
    const single = model.first.weight.tensor;
    nameParameters(model, 'float64');
    expect(single.toString()).toBe('float32[3, 2]');
    expect(model.first.weight.tensor.toString()).toBe('float64[3, 2]');
  });

  test('a parameter without a name is refused, and so is an impossible shape', () => {
    expect(() => new Parameter([2], zeros).tensor).toThrow('before its module tree was named');
    for (const shape of [[0], [2, -1], [1.5]]) {
      expect(() => new Parameter(shape, zeros)).toThrow(`[${shape.join(', ')}]`);
    }
  });
});

describe('the arena', () => {
  const parameters = new Map([
    ['a', new Parameter([3, 7], normal(1))],
    ['b', new Parameter([16], ones)],
    ['c', new Parameter([1], normal(2))],
  ]);

  test('lays parameters out in order, each on a cache line, zeros between', () => {
    const arena = ParameterArena.allocate(parameters);
    expect([...arena.layout]).toEqual([
      ['a', { offset: 0, shape: [3, 7] }],
      ['b', { offset: 32, shape: [16] }],
      ['c', { offset: 48, shape: [1] }],
    ]);
    expect(arena.data).toHaveLength(64);
    arena.initialize(parameters, 1);
    expect(arena.data.subarray(21, 32).every((value) => value === 0)).toBe(true);
    expect(arena.data.subarray(49).every((value) => value === 0)).toBe(true);
    for (const [name, view] of arena.views) {
      expect(view.buffer, name).toBe(arena.data.buffer);
      expect(view.byteOffset, name).toBe(4 * arena.layout.get(name)!.offset);
      expect(view, name).toHaveLength(parameters.get(name)!.size);
    }
  });

  test('a twin has the same layout and memory of its own', () => {
    const arena = ParameterArena.allocate(parameters).initialize(parameters, 1);
    const twin = arena.like();
    expect(twin.layout).toEqual(arena.layout);
    expect(twin.data.every((value) => value === 0)).toBe(true);
    // Both may lie in one block, but never in the same place.
    twin.data.fill(7);
    expect(arena.data.includes(7)).toBe(false);
  });

  test('each parameter starts from a stream of its own: adding one changes no other', () => {
    const start = (names: readonly string[], seed = 1): Record<string, number[]> => {
      const some = new Map(names.map((name) => [name, parameters.get(name)!]));
      const { views } = ParameterArena.allocate(some).initialize(some, seed);
      return Object.fromEntries([...views].map(([name, view]) => [name, [...view]]));
    };
    const all = start(['a', 'b', 'c']);
    expect(start(['c', 'a'])).toEqual({ a: all['a'], c: all['c'] });
    expect(start(['a'], 2)['a']).not.toEqual(all['a']);
  });
});

describe('initialisers', () => {
  const draw = (initializer: (key: number, out: Float64Array) => void, length = 50_000): Float64Array => {
    const out = new Float64Array(length);
    initializer(streamKey(7, 'weights'), out);
    return out;
  };
  const mean = (data: Float64Array, f = (x: number): number => x): number =>
    data.reduce((total, x) => total + f(x), 0) / data.length;

  test('normal: mean, variance, kurtosis', () => {
    const data = draw(normal(0.5));
    expect(mean(data)).toBeCloseTo(0, 1.5);
    expect(mean(data, (x) => x * x) / 0.25).toBeCloseTo(1, 1.5);
    expect(mean(data, (x) => x ** 4) / 0.5 ** 4).toBeCloseTo(3, 0.5);
    expect(data.some((x) => Math.abs(x) > 1.5)).toBe(true);
  });

  test('truncated normal: nothing beyond two σ, variance 0.774 σ²', () => {
    const data = draw(truncatedNormal(0.5));
    expect(data.every((x) => Math.abs(x) <= 1)).toBe(true);
    expect(data.some((x) => Math.abs(x) > 0.97)).toBe(true);
    expect(Math.abs(mean(data))).toBeLessThan(0.01);
    // 1 − 2·2·φ(2) / (2Φ(2) − 1)
    expect(Math.abs(mean(data, (x) => x * x) / 0.25 - 0.7737)).toBeLessThan(0.02);
    expect(Math.abs(data.filter((x) => x > 0).length / data.length - 0.5)).toBeLessThan(0.01);
  });

  test('exact truncated normal: the drawn numbers have the spread themselves, also in single precision', () => {
    for (const count of [2, 7, 20_000]) {
      const data = draw(exactTruncatedNormal(0.5), count);
      const centre = mean(data);
      expect(Math.sqrt((mean(data, (x) => (x - centre) ** 2) * count) / (count - 1))).toBeCloseTo(0.5, 10);
    }
    // Cut at two σ before the scaling by 1 / √0.774.
    expect(Math.max(...draw(exactTruncatedNormal(0.5)))).toBeLessThan(2 * 0.5 * 1.15);
    const single = new Float32Array(3000);
    exactTruncatedNormal(0.5)(1, single);
    expect(mean(Float64Array.from(single), (x) => x * x)).toBeCloseTo(0.25, 3);
    const [lonely] = draw(exactTruncatedNormal(0.5), 1);
    expect(Math.abs(lonely!)).toBeLessThanOrEqual(1);
    expect(lonely).not.toBe(0);
  });

  test('Xavier: uniform in ±√(6 / (fanIn + fanOut))', () => {
    const data = draw(xavierUniform(20, 30));
    const bound = Math.sqrt(6 / 50);
    expect(data.every((x) => Math.abs(x) <= bound)).toBe(true);
    expect(Math.abs(mean(data, (x) => x * x) / (bound ** 2 / 3) - 1)).toBeLessThan(0.03);
  });

  test('uniform: within bounds, variance bound²/3', () => {
    const data = draw(uniform(0.3));
    expect(data.every((x) => x >= -0.3 && x < 0.3)).toBe(true);
    expect(Math.abs(mean(data))).toBeLessThan(0.005);
    expect(Math.abs(mean(data, (x) => x * x) / 0.03 - 1)).toBeLessThan(0.03);
  });

  test('neighbours are uncorrelated', () => {
    const data = draw(normal(1));
    const product = data.subarray(1).reduce((total, x, i) => total + x * data[i], 0) / data.length;
    expect(Math.abs(product)).toBeLessThan(0.02);
  });

  test('constants', () => {
    expect([...draw(zeros, 3)]).toEqual([0, 0, 0]);
    expect([...draw(ones, 3)]).toEqual([1, 1, 1]);
    expect([...draw(constantValue(-2), 2)]).toEqual([-2, -2]);
  });

  test('rules: √(scale / fanIn) cut at two σ, or a fixed σ', () => {
    const rule = { scale: 0.1, standardDeviation: 0.02 };
    const fanIn = draw(weightInitializer({ kind: 'fanIn', ...rule }, 40));
    expect(Math.abs(mean(fanIn, (x) => x * x) / (0.7737 * (0.1 / 40)) - 1)).toBeLessThan(0.03);
    expect(fanIn.every((x) => Math.abs(x) <= 2 * Math.sqrt(0.1 / 40))).toBe(true);
    const fixed = draw(weightInitializer({ kind: 'normal', ...rule }, 40));
    expect(Math.abs(mean(fixed, (x) => x * x) / 0.0004 - 1)).toBeLessThan(0.03);
    const byDepth = draw(weightInitializer({ kind: 'depthScaled', ...rule, numLayers: 16 }, 412));
    expect(mean(byDepth, (x) => x * x) / (2 / (16 * 412))).toBeCloseTo(1, 3);
    expect(() => weightInitializer({ kind: 'depthScaled', ...rule }, 412)).toThrow(
      'need the number of layers',
    );
  });
});

describe('random streams', () => {
  test('keys tell their parts apart', () => {
    const keys = [
      streamKey(1, 2),
      streamKey(2, 1),
      streamKey(12),
      streamKey('12'),
      streamKey('1', '2'),
      streamKey(1, 2 + 2 ** 32),
      streamKey('a', 'bc'),
      streamKey('ab', 'c'),
      streamKey(),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('a stream goes on from a saved position', () => {
    const stream = new RandomStream(streamKey(1));
    stream.uniform();
    const { position } = stream;
    const rest = [stream.integer(10), stream.pick(['a', 'b', 'c']), stream.uniform()];
    const again = new RandomStream(streamKey(1), position);
    expect([again.integer(10), again.pick(['a', 'b', 'c']), again.uniform()]).toEqual(rest);
  });

  test('single precision never rounds up to the bound', () => {
    const key = 101194328;
    expect(bitsAt(key, 0)).toBeGreaterThan(0xffffff80);
    const out = new Float32Array(1);
    fillUniform(key, out);
    expect(out[0]).toBeLessThan(1);
    expect(out[0]).toBeGreaterThan(0.9999999);
    const double = new Float64Array(1);
    fillUniform(key, double);
    expect(Math.abs(double[0] - out[0])).toBeLessThan(2 ** -24);
  });

  test('integers cover their range evenly', () => {
    const stream = new RandomStream(streamKey(3));
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 14_000; i++) counts[stream.integer(7)] += 1;
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });
});
