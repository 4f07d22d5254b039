import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { tinyRecipe } from '../../test/support/command.js';
import { loadGrid, parseGrid, type Grid } from './grid.js';
import { planGrid, selectRuns } from './plan.js';

const scratch = mkdtempSync(join(tmpdir(), 'switchyard-grid-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const base = join(scratch, 'base.json');
writeFileSync(base, JSON.stringify(tinyRecipe));

const grid = (changes: object = {}): Grid =>
  parseGrid(
    {
      name: 'tiny',
      base,
      seeds: [1, 2],
      baseline: 'dense',
      variants: { dense: { 'model.sparse': null }, switch: { 'model.sparse.numExperts': 3 } },
      ...changes,
    },
    'grid.json',
  );

describe('a grid file', () => {
  test.each([
    [{ sedes: [1] }, 'grid.json: sedes: unknown key; did you mean seeds?'],
    [{ name: 'a b' }, /grid\.json: name: a name is made of letters/],
    [{ baseline: 'dens' }, "grid.json: baseline: there is no variant 'dens'; did you mean dense?"],
    [{ variants: {} }, 'grid.json: variants: a grid needs at least one variant'],
    [
      { variants: { a: { 'modle.sparse': null } }, baseline: 'a' },
      /unknown key; did you mean model\.sparse\?/,
    ],
    [{ variants: { a: { model: {} } }, baseline: 'a' }, /a path goes into the section, such as model\.…/],
    [{ variants: { a: { seed: 3 } }, baseline: 'a' }, /unknown key; seeds belong to the grid/],
    [{ seeds: [1, 1] }, /seeds: a seed is named twice/],
    [{ match: { measure: 'params' } }, /match\.measure: .*"parameters"/],
    [{ match: { tolerance: 1 } }, /match\.tolerance/],
    [
      {
        evaluate: [
          { name: 'x', path: 'a' },
          { name: 'x', path: 'b' },
        ],
      },
      /evaluate: 'x' is named twice/,
    ],
  ])('%j is refused', (changes, message) => {
    expect(() => grid(changes)).toThrow(message);
  });

  test('that is missing or not JSON is told in one line', () => {
    expect(() => loadGrid(join(scratch, 'none.json'))).toThrow(/^cannot read the grid .*none\.json: ENOENT/);
    const broken = join(scratch, 'broken.json');
    writeFileSync(broken, '{"name": ');
    expect(() => loadGrid(broken)).toThrow(/broken\.json: not JSON: /);
  });
});

describe('planGrid', () => {
  test('crosses variants and seeds, seed by seed, with every default filled in', async () => {
    const { runs, variants, baseline } = await planGrid(grid({ overrides: { 'train.steps': 7 } }));
    expect(baseline).toBe('dense');
    expect(runs.map(({ id }) => id)).toEqual(['dense-seed1', 'switch-seed1', 'dense-seed2', 'switch-seed2']);
    expect(runs.map(({ recipe }) => recipe.seed)).toEqual([1, 1, 2, 2]);
    expect(runs.every(({ recipe }) => recipe.train.steps === 7)).toBe(true);
    expect(runs[0].recipe.model.sparse).toBeNull();
    expect(runs[1].recipe.model.sparse).toMatchObject({ kind: 'experts', numExperts: 3 });
    expect(variants[0].size.parameters).toBeLessThan(variants[1].size.parameters);
    expect(variants.map(({ match }) => match)).toEqual([undefined, undefined]);
  });

  test('names a variant that is no recipe, with what would be right', async () => {
    const wrong = grid({ variants: { dense: {}, bad: { 'model.sparse.numExpert': 4 } } });
    await expect(planGrid(wrong)).rejects.toThrow(
      /^variant bad: .*base\.json: model\.sparse\.numExpert: unknown key; did you mean numExperts\?$/,
    );
  });

  test('solves for free sizes and refuses what does not match', async () => {
    const matched = grid({
      match: { measure: 'activeParameters', tolerance: 0.02 },
      variants: {
        dense: { 'model.sparse': null },
        top2: { 'model.sparse.topK': 2, free: ['model.sparse.intermediateSize'] },
        loose: { 'model.sparse.topK': 2, match: false },
      },
    });
    const { variants, runs } = await planGrid(matched);
    const { sizes, difference } = variants[1].match!;
    expect(sizes['model.sparse.intermediateSize']).toBeGreaterThanOrEqual(14);
    expect(sizes['model.sparse.intermediateSize']).toBeLessThanOrEqual(16);
    expect(Math.abs(difference)).toBeLessThan(0.02);
    expect(runs[1].recipe.model.sparse).toMatchObject({
      intermediateSize: sizes['model.sparse.intermediateSize'],
    });
    expect(variants[2].match).toBeUndefined();
    await expect(planGrid(matched, { measure: 'parameters' })).resolves.toBeDefined();
    await expect(planGrid(grid({ match: {} }))).rejects.toThrow(
      /variant switch: its sizes give .* parameters, .* free a size/,
    );
    await expect(
      planGrid(grid({ variants: { dense: {}, a: { free: ['model.intermediateSize'] } } })),
    ).rejects.toThrow('variant a has free sizes but nothing is matched');
    const freeBaseline = grid({ match: {}, variants: { dense: { free: ['model.intermediateSize'] } } });
    await expect(planGrid(freeBaseline)).rejects.toThrow('variant dense is the baseline');
  });

  test('an evaluation with other routing must fit the trained weights and change routing alone', async () => {
    const withEvaluation = (overrides: object): Grid =>
      grid({ variants: { dense: {}, a: { evaluations: { other: overrides } } } });
    await expect(planGrid(withEvaluation({ 'model.sparse.numExperts': 5 }))).rejects.toThrow(
      /variant a, evaluation other: the trained weights do not fit: blocks\.1\.feedForward\.\S+ is \[.*\] as trained and \[.*\] here/,
    );
    await expect(planGrid(withEvaluation({ 'model.numLayers': 3 }))).rejects.toThrow(
      'variant a, evaluation other: an evaluation changes routing only, by paths below model.sparse, not model.numLayers',
    );
    const { variants } = await planGrid(withEvaluation({ 'model.sparse.topK': 2 }));
    expect(variants[1].evaluations[0].model.sparse).toMatchObject({ topK: 2 });
  });

  test('runs can be chosen by variant and by seed, of which there can be more than the grid has', async () => {
    const plan = await planGrid(grid(), { seeds: [7, 1] });
    expect(plan.seeds).toEqual([1, 2, 7]);
    expect(selectRuns(plan, { seeds: [7, 1] }).map(({ id }) => id)).toEqual([
      'dense-seed1',
      'switch-seed1',
      'dense-seed7',
      'switch-seed7',
    ]);
    expect(selectRuns(plan, { only: ['switch'] }).map(({ id }) => id)).toEqual([
      'switch-seed1',
      'switch-seed2',
      'switch-seed7',
    ]);
    expect(() => selectRuns(plan, { only: ['swich'] })).toThrow(
      "there is no variant 'swich'; did you mean switch?",
    );
  });
});
