import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { createModel, sizeOfModel } from '../models/index.js';
import { loadRecipe, recipeNames, vocabularySize } from './index.js';

interface Published {
  readonly recipe: string;
  readonly published?: number;
  readonly source: string;
  readonly note?: string;
}

const results = new URL('../../docs/results/', import.meta.url);
const published = JSON.parse(
  readFileSync(new URL('parameter-counts.json', results), 'utf8'),
) as readonly Published[];
const table = readFileSync(new URL('parameter-counts.md', results), 'utf8');

function parametersOf(name: string): number {
  const recipe = loadRecipe(name);
  return sizeOfModel(createModel({ ...recipe.model, vocabSize: vocabularySize(recipe) })).parameters;
}

describe('paper-scale recipes have the published number of parameters', () => {
  test.each([
    ['sigma-moe-wt103-small', 47e6],
    ['sigma-moe-wt103-small-dense', 47e6],
    ['sigma-moe-wt103-small-top-k', 47e6],
    ['sigma-moe-wt103-small-pkm', 47e6],
    ['sigma-moe-wt103-small-wide', 237e6],
    ['sigma-moe-wt103-small-wide-dense', 238e6],
    ['sigma-moe-wt103-big', 262e6],
    ['sigma-moe-wt103-big-dense', 262e6],
    ['sigma-moe-enwik8', 41e6],
    ['sigma-moe-enwik8-dense', 41e6],
    ['switch-base-8', 619.3e6],
    ['switch-base-16', 1.072e9],
    ['switch-base-32', 1.979e9],
    ['switch-base-64', 3.791e9],
    ['switch-base-128', 7.415e9],
    ['switch-base-256', 14.66e9],
    ['switch-xxl', 395e9],
    ['switch-c', 1571e9],
    ['smoe-m4-dense', 60e6],
    ['smoe-m4-moe', 148.5e6],
    ['smoe-m4-switch', 148.5e6],
    ['smoe-m4-4-4', 148.5e6],
    ['smoe-m4-2-2-2-2', 148.5e6],
    ['smoe-m15-dense', 209e6],
    ['smoe-m15-moe', 964e6],
    ['smoe-m15-4-12', 964e6],
    ['smoe-m15-moe-32', 1769e6],
    ['smoe-opus100-4-12', 997e6],
    ['acmoe-switch-small-wt103', 70.6e6],
    ['acmoe-switch-medium-wt103', 215.7e6],
    ['acmoe-glam-medium-wt103', 220.1e6],
  ])('%s: %d within 1 %%', (name, count) => {
    expect(Math.abs(parametersOf(`paper/${name}`) / count - 1)).toBeLessThan(0.01);
  });

  test('σ-MoE pairs differ by less than a thousandth: its rule of matching', () => {
    for (const base of ['wt103-small', 'wt103-big', 'enwik8']) {
      const sparse = parametersOf(`paper/sigma-moe-${base}`);
      const dense = parametersOf(`paper/sigma-moe-${base}-dense`);
      expect(Math.abs(sparse / dense - 1), base).toBeLessThan(1e-3);
    }
    // 2·d·F + F + d ≈ 2·d·N·G + d·N for each of 16 layers: 1,694,137 and 1,694,144.
    const difference =
      parametersOf('paper/sigma-moe-wt103-small') - parametersOf('paper/sigma-moe-wt103-small-dense');
    expect(difference).toBe(16 * (1_694_144 - 1_694_137));
  });
});

describe('docs/results/parameter-counts.md', () => {
  test('has every recipe of a paper, once', () => {
    const paper = recipeNames().filter((name) => name.startsWith('paper/'));
    expect(published.map(({ recipe }) => recipe).sort()).toEqual(paper);
  });

  test.each(published)('$recipe: as computed, and every difference over 1 % explained', (row) => {
    const parameters = parametersOf(row.recipe);
    const name = row.recipe.slice('paper/'.length);
    expect(table).toContain(
      `| [${name}](../../recipes/${row.recipe}.json) | ${parameters.toLocaleString('en-US')} |`,
    );
    if (row.published === undefined) return;
    const difference = Math.abs(parameters / row.published - 1);
    if (difference > 0.01) expect(row.note).toBeDefined();
    else expect(row.note).toBeUndefined();
  });
});
