import { existsSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { tinyRecipe } from '../../test/support/command.js';
import { madeUpReport } from '../../test/support/report-data.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { parseRecipe, trainRecipe } from '../recipes/index.js';
import type { Report } from '../report/index.js';
import { drawPaths, inspectRouting, routingPaths } from './inspect-routing.js';
import { reportCommand } from './report.js';

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  folder = await temporaryFolder();
  const train = { ...tinyRecipe.train, checkpoint: { every: 5, keep: 4 } };
  const sparse = {
    every: 1,
    numExperts: 4,
    topK: 2,
    router: { kind: 'softmax' },
    dispatch: { kind: 'dropless' },
  };
  for (const [name, model] of [
    ['sparse', { ...tinyRecipe.model, sparse }],
    ['dense', { ...tinyRecipe.model, sparse: null }],
  ] as const) {
    const recipe = parseRecipe({ ...tinyRecipe, train, model }, 'a test');
    await trainRecipe(recipe, { folder: at(name), cacheFolder: at('cache') });
  }
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

async function run(...parameters: string[]): Promise<string> {
  let output = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((output += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const settings = ['--tokens', '400', '--cache', at('cache')];
  await reportCommand()
    .exitOverride()
    .parseAsync([...parameters, ...settings], { from: 'user' });
  return output;
}

const read = (file: string): Report => JSON.parse(readFileSync(file, 'utf8')) as Report;

describe('report', () => {
  test('a run: page and numbers in its folder, twice the same', async () => {
    expect(await run(at('sparse'))).toBe(`${at('sparse', 'report.html')}\n${at('sparse', 'report.json')}\n`);
    const [page, numbers] = ['html', 'json'].map((end) =>
      readFileSync(at('sparse', `report.${end}`), 'utf8'),
    );
    const { version, runs } = read(at('sparse', 'report.json'));
    const [{ name, history, routing, stability }] = runs;
    expect([version, name]).toEqual([1, 'sparse']);
    expect(history.training.at(-1)!.step).toBe(20);
    expect(history.validation.map(({ step }) => step)).toEqual([10, 20]);
    expect(routing!.tokens).toBe(400);
    expect(routing!.profiles.map(({ load }) => load.reduce((a, b) => a + b))).toEqual([800, 800]);
    expect(routing!.classes[0]).toMatchObject({ kind: 'language', classes: ['en', 'ja'] });
    expect(stability!.steps).toEqual([5, 10, 15, 20]);
    for (const id of ['loss', 'load', 'agreement', 'co-occurrence', 'stability', 'robustness'])
      expect(page).toContain(`<section id="${id}"`);
    expect(page).not.toContain('<section id="capacity"');
    await run(at('sparse'));
    expect(readFileSync(at('sparse', 'report.html'), 'utf8')).toBe(page);
    expect(readFileSync(at('sparse', 'report.json'), 'utf8')).toBe(numbers);
  });

  test('every key of report.json is in the documentation', async () => {
    const sections = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8').split(/^## /m);
    const documentation = sections.find((section) => section.startsWith('report'))!;
    const keys = new Set<string>();
    const collect = (value: unknown): void => {
      if (typeof value !== 'object' || value === null) return;
      for (const [key, inner] of Object.entries(value)) {
        if (!Array.isArray(value)) keys.add(key);
        collect(inner);
      }
    };
    await run(at('sparse'));
    collect(read(at('sparse', 'report.json')));
    collect(madeUpReport());
    const unknown = [...keys].filter((key) => !new RegExp(`[\`.]${key}[\`.[]`).test(documentation));
    expect(keys.size).toBeGreaterThan(70);
    expect(unknown).toEqual([]);
  });

  test('several runs side by side, in a file of choice; a dense one has losses only', async () => {
    const out = at('new', 'compared.html');
    const printed = JSON.parse(await run(at('sparse'), at('dense'), '--out', out, '--json')) as object;
    expect(printed).toMatchObject({
      page: out,
      numbers: at('new', 'compared.json'),
      runs: [{ name: 'sparse' }, { name: 'dense', validation: { step: 20 } }],
    });
    const { runs } = read(at('new', 'compared.json'));
    expect(runs[1]).toMatchObject({ routing: null, stability: null, architecture: '2 blocks, dense' });
    expect(existsSync(out)).toBe(true);
  });

  test('a text of choice', async () => {
    await writeFile(at('book.txt'), 'It was the best of times. '.repeat(40));
    await run(at('sparse'), '--data', at('book.txt'), '--out', at('book.html'));
    const { data, runs } = read(at('book.json'));
    expect(data).toBe(at('book.txt'));
    expect(runs[0].routing!.classes.map(({ kind }) => kind)).toEqual(['script', 'character']);
  });

  test('bad input is one line', async () => {
    await expect(run(at('nowhere'))).rejects.toThrow('is no run folder: it has no recipe.json');
    await expect(run(at('dense'), '--out', 'page.pdf')).rejects.toThrow('the name of a page ends in .html');
    await expect(run(at('dense'), at('dense'))).rejects.toThrow('a run is given twice');
  });
});

describe('inspect --routing', () => {
  test('paths have the shape [tokens, layers, topK], experts in range, gates that sum to 1', async () => {
    const paths = await routingPaths(at('sparse'), 'hé!');
    expect(paths.tokens).toEqual(['h', 'é 1/2', 'é 2/2', '!']);
    expect(paths.shape).toEqual([4, 2, 2]);
    expect(paths.layers).toEqual([
      { name: '0', numExperts: 4, topK: 2 },
      { name: '1', numExperts: 4, topK: 2 },
    ]);
    for (const row of paths.experts.flat()) {
      expect(row).toHaveLength(2);
      expect(new Set(row).size).toBe(2);
      expect(row.every((expert) => expert >= 0 && expert < 4)).toBe(true);
    }
    for (const [first, second] of paths.gates.flat()) expect(first).toBeGreaterThanOrEqual(second);
    // A causal model: what follows changes nothing before it.
    const longer = await routingPaths(at('sparse'), 'hé!?');
    expect(longer.experts.slice(0, 4)).toEqual(paths.experts);
  });

  test('the table has a row a token; a layer that passes a token over shows a dot', () => {
    const paths = {
      tokens: ['漢', 'a'],
      ids: [1, 2],
      layers: [
        { name: '1.0', numExperts: 4, topK: 2 },
        { name: '1.1', numExperts: 4, topK: 1 },
      ],
      shape: [2, 2, 2] as const,
      experts: [[[3, 0], [-1, -1]], [[1, 2], [2, -1]]], // prettier-ignore
      gates: [[[0.75, 0.25], [0, 0]], [[0.5, 0.5], [1, 0]]], // prettier-ignore
    };
    expect(drawPaths(paths).split('\n')).toEqual([
      'token   layer 1.0            layer 1.1',
      '漢      3 (0.75)  0 (0.25)   ·',
      'a       1 (0.50)  2 (0.50)   2 (1.00)',
    ]);
  });

  test('bad input is one line', async () => {
    await expect(routingPaths(at('dense'), 'a')).rejects.toThrow('records where its tokens go (it is dense)');
    await expect(routingPaths(at('sparse'), '')).rejects.toThrow('the text has no token');
    await expect(routingPaths(at('sparse'), 'a'.repeat(17))).rejects.toThrow(
      '17 tokens, and the model looks at 16',
    );
    await expect(inspectRouting(at('sparse'), 'a', { set: ['seed=1'] })).rejects.toThrow(
      '--set changes recipes',
    );
  });
});
