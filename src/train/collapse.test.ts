import { describe, expect, test } from 'vitest';
import { CollapseDetector, type CollapseWarning } from './collapse.js';

/** Observes `steps` times what each sparse layer was given. */
function observe(
  detector: CollapseDetector,
  from: number,
  steps: number,
  loads: readonly (readonly number[])[],
  layers = ['1', '3'],
  topK = 1,
  firstExpert = 0,
): CollapseWarning[] {
  return Array.from({ length: steps }, (_, i) =>
    detector.observe(
      from + i,
      layers.map((name) => ({ name, topK, firstExpert })),
      loads,
    ),
  ).flat();
}
const even = [5, 5, 5, 5];

describe('CollapseDetector', () => {
  test('even routing is no news', () => {
    expect(observe(new CollapseDetector(), 1, 500, [even, even])).toEqual([]);
  });

  test('experts that got nothing in fifty steps are dead, and named with their layer', () => {
    const found = observe(new CollapseDetector(), 1, 50, [even, [10, 0, 10, 0]]);
    expect(found).toMatchObject([{ step: 50, layer: '3', kind: 'deadExperts', experts: [1, 3] }]);
    expect(found[0].message).toBe(
      'layer 3: 2 of 4 experts got no token in the last 50 steps (1, 3); raise router.balanceCoefficient or lower the learning rate',
    );
  });

  test('experts that a stratum does not see are not dead, and none of its experts is hidden by them', () => {
    const stratum = (load: readonly number[]): CollapseWarning[] =>
      observe(new CollapseDetector(), 1, 50, [load], ['3.1'], 1, 2);
    expect(stratum([0, 0, 5, 5])).toEqual([]);
    expect(stratum([0, 0, 5, 0])).toMatchObject([
      { kind: 'deadExperts', experts: [3], message: expect.stringContaining('1 of 2 experts') as string },
      { kind: 'dominantExpert', experts: [2] },
    ]);
  });

  test('one token in fifty steps is life', () => {
    const detector = new CollapseDetector();
    expect(observe(detector, 1, 49, [[7, 7, 7, 0]], ['1'])).toEqual([]);
    expect(observe(detector, 50, 1, [[7, 7, 7, 1]], ['1'])).toEqual([]);
  });

  test('an expert that takes most tokens is told with its share', () => {
    const found = observe(new CollapseDetector(), 1, 50, [[2, 2, 94, 2], even]);
    expect(found).toMatchObject([{ step: 50, layer: '1', kind: 'dominantExpert', experts: [2] }]);
    expect(found[0].message).toContain('layer 1: expert 2 took 94 % of all tokens in the last 50 steps');
  });

  test('what is much among eight experts is little among two', () => {
    const kinds = (load: readonly number[]): string[] =>
      observe(new CollapseDetector(), 1, 50, [load], ['0']).map(({ kind }) => kind);
    expect(kinds([85, 15])).toEqual([]);
    expect(kinds([95, 5])).toEqual(['dominantExpert']);
    expect(kinds([74, 13, 13])).toEqual(['dominantExpert']);
    expect(kinds([60, 20, 20])).toEqual([]);
    expect(kinds([51, 7, 7, 7, 7, 7, 7, 7])).toEqual(['dominantExpert']);
    expect(kinds([49, 8, 8, 7, 7, 7, 7, 7])).toEqual([]);
    expect(kinds([20])).toEqual([]);
  });

  test('with two choices a token, an expert in every token has taken all of them', () => {
    const found = observe(new CollapseDetector(), 1, 50, [[50, 20, 10, 10, 10, 0, 0, 0]], ['0'], 2);
    expect(found.map(({ kind }) => kind)).toContain('dominantExpert');
    expect(found.at(-1)!.message).toContain('took 100 % of all tokens');
    const all = observe(new CollapseDetector(), 1, 50, [[50, 50]], ['0'], 2);
    expect(all).toEqual([]);
  });

  test('a finding is told once an episode, and again only after it went away', () => {
    const detector = new CollapseDetector();
    const dead = [10, 10, 0, 10];
    const steps = (loads: readonly number[], from: number): (readonly [number, string])[] =>
      observe(detector, from, 50, [loads], ['1']).map(({ step, kind }) => [step, kind]);
    expect(steps(dead, 1)).toEqual([[50, 'deadExperts']]);
    expect(steps(dead, 51)).toEqual([]);
    expect(steps([1, 97, 0, 1], 101)).toEqual([[150, 'dominantExpert']]);
    expect(steps(even, 151)).toEqual([]);
    expect(steps(dead, 201)).toEqual([[250, 'deadExperts']]);
  });

  test('a restored detector warns at the same steps as one that never stopped', () => {
    const routed = ['0', '1'].map((name) => ({ name, topK: 1, firstExpert: 0 }));
    const loadsAt = (step: number): number[][] => [
      step < 130 ? [9, 9, 9, 0] : even,
      step > 70 ? [96, 2, 1, 1] : even,
    ];
    const run = (detector: CollapseDetector, from: number, to: number): CollapseWarning[] =>
      Array.from({ length: to - from + 1 }, (_, i) =>
        detector.observe(from + i, routed, loadsAt(from + i)),
      ).flat();
    const straight = new CollapseDetector();
    const expected = run(straight, 1, 300);
    expect(expected.map(({ step, kind }) => `${step} ${kind}`)).toEqual([
      '50 deadExperts',
      '100 dominantExpert',
    ]);
    for (const stop of [20, 50, 77, 100, 149]) {
      const before = new CollapseDetector();
      const first = run(before, 1, stop);
      const after = new CollapseDetector();
      after.restore(JSON.parse(JSON.stringify(before.state())) as ReturnType<CollapseDetector['state']>);
      expect([...first, ...run(after, stop + 1, 300)], `stopped at ${stop}`).toEqual(expected);
      expect(after.state()).toEqual(straight.state());
    }
  });
});
