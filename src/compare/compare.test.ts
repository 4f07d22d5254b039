import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyRecipe } from '../../test/support/command.js';
import { openTextForEvaluation } from '../data/index.js';
import { nameParameters } from '../nn/index.js';
import { trainRecipe } from '../recipes/index.js';
import { Evaluator, loadLanguageModel } from '../train/index.js';
import { compare, type CompareOptions, type Comparison } from './compare.js';
import { parseGrid, type Grid } from './grid.js';
import { planGrid } from './plan.js';
import type { RunRecord } from './record.js';

const scratch = mkdtempSync(join(tmpdir(), 'switchyard-compare-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const at = (...parts: string[]): string => join(scratch, ...parts);
const base = at('base.json');
const text = at('other.txt');
const cacheFolder = at('cache');
writeFileSync(base, JSON.stringify(tinyRecipe));
writeFileSync(text, 'The quick brown fox jumps over the lazy dog. '.repeat(8));

const grid = (changes: object = {}): Grid =>
  parseGrid(
    {
      name: 'tiny',
      description: 'Two variants in a second.',
      base,
      overrides: { 'train.steps': 6, 'train.evaluation.every': 3, 'train.checkpoint.every': 2 },
      seeds: [1, 2],
      variants: { dense: { 'model.sparse': null }, switch: {} },
      evaluate: [{ name: 'fox', path: text }],
      ...changes,
    },
    'grid',
  );

function folders(name: string): Pick<CompareOptions, 'out' | 'runs' | 'cacheFolder' | 'command'> {
  return {
    out: at(name, 'out'),
    runs: at(name, 'runs'),
    cacheFolder,
    command: 'switchyard compare grid.json',
  };
}

async function perform(
  name: string,
  asked: Grid,
  options: Partial<CompareOptions> = {},
): Promise<Comparison> {
  return compare(await planGrid(asked, { cacheFolder }), { ...folders(name), ...options });
}

const record = (name: string, id: string): RunRecord =>
  JSON.parse(readFileSync(at(name, 'out', `${id}.json`), 'utf8')) as RunRecord;
const ids = ['dense-seed1', 'dense-seed2', 'switch-seed1', 'switch-seed2'];

describe('a grid of two variants and two seeds', () => {
  let first: Comparison;
  beforeAll(async () => {
    first = await perform('grid', grid(), { keep: true });
  }, 60_000);

  test('keeps a record of every run, and its model but no checkpoint', () => {
    expect(first).toMatchObject({ recorded: 4, skipped: 0, failures: [], interrupted: false });
    expect(readdirSync(at('grid', 'out')).sort()).toEqual(
      [...ids.map((id) => `${id}.json`), 'curves.svg', 'table.md'].sort(),
    );
    for (const id of ids) {
      const folder = at('grid', 'runs', 'tiny', id);
      expect(existsSync(join(folder, 'checkpoints'))).toBe(false);
      expect(existsSync(join(folder, 'model', 'model.safetensors'))).toBe(true);
    }
  });

  test('records what the run was and what came out', () => {
    const kept = record('grid', 'switch-seed2');
    expect(kept).toMatchObject({
      grid: 'tiny',
      variant: 'switch',
      seed: 2,
      outcome: 'finished',
      steps: 6,
      tokens: 384,
    });
    expect(kept.recipe).toMatchObject({ seed: 2, train: { steps: 6 }, model: { sparse: { numExperts: 4 } } });
    expect(kept.environment).toMatchObject({ node: process.version });
    expect(kept.environment['data']).toBeTypeOf('string');
    expect(kept.curve.map(({ step }) => step)).toEqual([3, 6]);
    expect(kept.training.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(kept.curve[1].loss).toBe(kept.evaluations['asTrained'].validation.loss);
    expect(kept.tokensPerSecond).toBeGreaterThan(0);
    expect(kept.size.activeParameters).toBeLessThan(kept.size.parameters);
    const { routing, dropped, tokens } = kept.evaluations['asTrained'].validation;
    expect(routing.map(({ layer }) => layer)).toEqual(['1']);
    expect(routing[0].load.reduce((a, b) => a + b, 0)).toBeGreaterThanOrEqual(tokens);
    expect(dropped).toBe(0);
    expect(record('grid', 'dense-seed1').evaluations['asTrained'].validation.routing).toEqual([]);
  });

  test('a run is the same as `switchyard train` makes it', async () => {
    const { recipe } = record('grid', 'switch-seed1');
    const folder = at('alone');
    const { evaluation } = await trainRecipe(recipe, { folder, cacheFolder });
    expect(evaluation!.loss).toBe(record('grid', 'switch-seed1').evaluations['asTrained'].validation.loss);
  });

  test('measures further texts with the trained weights', async () => {
    const { model, weights, tokenizer } = await loadLanguageModel(at('grid', 'runs', 'tiny', 'switch-seed1'));
    const shape = { batchSize: 4, contextLength: 16 };
    const { sequence, close } = await openTextForEvaluation(text, tokenizer, shape, cacheFolder);
    const evaluator = await Evaluator.create(model, weights, shape, {});
    const { loss, tokens } = await evaluator.evaluate(sequence, tokenizer);
    await evaluator.release();
    close();
    expect(record('grid', 'switch-seed1').evaluations['asTrained'].texts['fox']).toMatchObject({
      loss,
      tokens,
    });
  });

  test('the table holds the numbers of the records', () => {
    const losses = (variant: string): number[] =>
      [1, 2].map((seed) => record('grid', `${variant}-seed${seed}`).evaluations['asTrained'].validation.loss);
    const [d, s] = [losses('dense'), losses('switch')];
    const mean = ([a, b]: number[]): number => (a + b) / 2;
    const sd = ([a, b]: number[]): number => Math.abs(a - b) / Math.SQRT2;
    const shown = (pair: number[]): string => `${mean(pair).toFixed(4)} ± ${sd(pair).toFixed(4)}`;
    const table = readFileSync(at('grid', 'out', 'table.md'), 'utf8');
    const [, , ...rows] = table.split('\n').filter((line) => line.startsWith('|'));
    const cells = rows.slice(0, 2).map((line) => line.split('|').map((cell) => cell.trim()));
    expect(cells.map(([, name, seeds]) => [name, seeds])).toEqual([
      ['dense', '1, 2'],
      ['switch', '1, 2'],
    ]);
    const { size } = record('grid', 'switch-seed1');
    expect(cells[1].slice(3, 6)).toEqual(
      [size.parameters, size.activeParameters, size.forwardFlopsPerToken].map((n) =>
        n.toLocaleString('en-US'),
      ),
    );
    expect(cells[0][7]).toBe(shown(d));
    expect(cells[1][7]).toBe(shown(s));
    const difference = [s[0] - d[0], s[1] - d[1]];
    expect(cells[0][8]).toBe('');
    expect(cells[1][8]).toBe(`${mean(difference) > 0 ? '+' : ''}${shown(difference)}`);
    const fox = [1, 2].map(
      (seed) => record('grid', `switch-seed${seed}`).evaluations['asTrained'].texts['fox'].loss,
    );
    expect(cells[1][11]).toBe(shown(fox));
    expect(table).toContain('Nothing was matched');
    expect(table).toContain('`switchyard compare grid.json`');
  });

  test('the figure has a line for every run and a colour for every variant', () => {
    const svg = readFileSync(at('grid', 'out', 'curves.svg'), 'utf8');
    const colors = [...svg.matchAll(/<polyline [^>]*stroke="([^"]+)"/g)].map(([, color]) => color);
    expect(colors).toHaveLength(4);
    expect(new Set(colors).size).toBe(2);
  });

  test('is not trained again: records say that it is done', async () => {
    const before = statSync(at('grid', 'out', 'dense-seed1.json')).mtimeMs;
    rmSync(at('grid', 'out', 'table.md'));
    rmSync(at('grid', 'runs'), { recursive: true });
    const started: string[] = [];
    const again = await perform('grid', grid(), {
      listener: { onStart: ({ id }) => (started.push(id), {}) },
    });
    expect(again).toMatchObject({ recorded: 0, skipped: 4 });
    expect(started).toEqual([]);
    expect(again.rows).toEqual(first.rows);
    expect(statSync(at('grid', 'out', 'dense-seed1.json')).mtimeMs).toBe(before);
    expect(existsSync(at('grid', 'out', 'table.md'))).toBe(true);
    expect(existsSync(at('grid', 'runs'))).toBe(false);
  });

  test('refuses records of another recipe and lists what differs; threads and names are no difference', async () => {
    const changed = grid({ overrides: { ...grid().overrides, 'train.schedule.learningRate': 0.002 } });
    await expect(perform('grid', changed)).rejects.toThrow(
      /dense-seed1\.json is of another recipe; it differs in train\.schedule\.learningRate: 0\.001 → 0\.002; and 3 more such runs\. Say --force/,
    );
    const same = grid({ overrides: { ...grid().overrides, 'train.threads': 1 } });
    await expect(perform('grid', same)).resolves.toMatchObject({ recorded: 0, skipped: 4 });
  });

  test('with force repeats them, and leaves what is not repeated out of the table', async () => {
    const changed = grid({ overrides: { ...grid().overrides, 'train.schedule.learningRate': 0.002 } });
    const plan = await planGrid(changed, { cacheFolder });
    const notes: string[] = [];
    const { rows, recorded } = await compare(plan, {
      ...folders('grid'),
      selected: plan.runs.filter(({ id }) => id === 'dense-seed1'),
      force: true,
      listener: { onNote: (note) => notes.push(note) },
    });
    expect(recorded).toBe(1);
    expect(rows.map(({ variant, seeds }) => [variant, seeds])).toEqual([['dense', [1]]]);
    expect(notes).toContain('left out of the table: switch-seed1, whose record is of another recipe');
    expect(record('grid', 'dense-seed1').recipe.train.schedule.learningRate).toBe(0.002);
  });
});

test('the table counts the experts that a stratum sees, whatever a record says of its load', async () => {
  const strata = { kind: 'stratified', every: 2, strata: [1, 3], topK: 1 };
  const asked = grid({ seeds: [1], variants: { strata: { 'model.sparse': strata } }, evaluate: [] });
  const { rows } = await perform('strata', asked);
  const path = join(folders('strata').out, 'strata-seed1.json');
  const record = JSON.parse(readFileSync(path, 'utf8')) as RunRecord;
  const { routing } = record.evaluations['asTrained'].validation;
  expect(routing.map(({ layer }) => layer)).toEqual(['1.0', '1.1']);
  expect(routing[1].dead).toBe(routing[1].load.slice(1).filter((count) => count === 0).length);
  for (const layer of routing) Object.assign(layer, { balance: 0, dead: 99 });
  writeFileSync(path, JSON.stringify(record));
  expect((await perform('strata', asked)).rows).toEqual(rows);
});

test('a model with a memory is measured on further texts read as streams', async () => {
  const path = at('memory.json');
  const data = { kind: 'text', path: text, order: 'stream', tokenizer: { kind: 'byte' } };
  const model = { ...tinyRecipe.model, positions: 'transformerXL', memoryLength: 4 };
  writeFileSync(
    path,
    JSON.stringify({ ...tinyRecipe, model, data, train: { ...tinyRecipe.train, batchSize: 1 } }),
  );
  const { rows, failures } = await perform(
    'memory',
    grid({ base: path, seeds: [1], variants: { memory: {} } }),
  );
  expect(failures).toEqual([]);
  expect(rows[0].texts['fox'].mean).toBeGreaterThan(0);
});

test('how far layers route alike is measured where several route', async () => {
  const asked = grid({
    seeds: [1],
    variants: {
      apart: { 'model.sparse': { numExperts: 4 } },
      shared: { 'model.sparse': { numExperts: 4, routerSharing: { share: 'decision' } } },
    },
  });
  const { rows } = await perform('agreement', asked);
  const { agreement } = record('agreement', 'apart-seed1').evaluations['asTrained'];
  expect(agreement!.tokens).toBeGreaterThan(100);
  expect(agreement!.adjacent.matched).toBeLessThan(1);
  // Layers that repeat a decision agree wholly, and more than by chance.
  const shared = record('agreement', 'shared-seed1').evaluations['asTrained'].agreement!;
  expect(shared.adjacent).toMatchObject({ matched: 1, raw: 1 });
  expect(shared.adjacent.matchedChance).toBeLessThan(1);
  expect(shared.routerInstability).toBe(0);
  expect(rows[1].agreement!.matched.mean).toBe(1);
  expect(readFileSync(at('agreement', 'out', 'table.md'), 'utf8')).toContain(
    'How far neighbouring layers route alike',
  );
  expect(record('grid', 'switch-seed2').evaluations['asTrained'].agreement).toBeUndefined();
});

describe('runs that do not come to their end', () => {
  test('an unfinished run goes on where it stopped, with the same result', async () => {
    const asked = grid({ variants: { switch: {} }, seeds: [5] });
    const { runs } = await planGrid(asked, { cacheFolder });
    const folder = at('resumed', 'runs', 'tiny', runs[0].id);
    // Stopped after four steps, as a signal does it.
    let steps = 0;
    const listener = { onStep: () => ++steps === 4 && process.emit('SIGINT', 'SIGINT') };
    const { outcome } = await trainRecipe(runs[0].recipe, { folder, cacheFolder, listener });
    expect(outcome).toBe('interrupted');
    const seen: number[] = [];
    const onStep = ({ step }: { step: number }): void => void seen.push(step);
    const resumed = await perform('resumed', asked, { listener: { onStart: () => ({ onStep }) } });
    expect(seen).toEqual([5, 6]);
    expect(resumed.recorded).toBe(1);
    await perform('straight', asked);
    const compared = ({ evaluations, curve, training, tokens }: RunRecord): unknown => ({
      evaluations,
      curve,
      training,
      tokens,
    });
    expect(compared(record('resumed', runs[0].id))).toEqual(compared(record('straight', runs[0].id)));
  });

  test('a run that was trained but not recorded is measured from its model', async () => {
    const asked = grid({ variants: { switch: {} }, seeds: [1] });
    const { runs } = await planGrid(asked, { cacheFolder });
    const folder = at('unrecorded', 'runs', 'tiny', runs[0].id);
    const { evaluation } = await trainRecipe(runs[0].recipe, { folder, cacheFolder });
    await perform('unrecorded', asked);
    const { validation } = record('unrecorded', runs[0].id).evaluations['asTrained'];
    expect(validation.loss).toBe(evaluation!.loss);
    expect(validation.routing[0].load).toEqual(evaluation!.loads[0]);
  });

  test('an unfinished run of another recipe is refused before anything is trained', async () => {
    const asked = grid({ seeds: [1] });
    const { runs } = await planGrid(asked, { cacheFolder });
    const run = runs[1];
    const other = { ...run.recipe, train: { ...run.recipe.train, clipNorm: 2 } };
    const listener = { onStep: () => process.emit('SIGINT', 'SIGINT') };
    await trainRecipe(other, { folder: at('other', 'runs', 'tiny', run.id), cacheFolder, listener });
    await expect(perform('other', asked)).rejects.toThrow(
      'the unfinished run switch-seed1 is of another recipe; it differs in train.clipNorm: 2 → 1',
    );
    expect(existsSync(at('other', 'out'))).toBe(false);
    await expect(perform('other', asked, { force: true })).resolves.toMatchObject({ recorded: 2 });
  });

  test('a signal stops after the step; the same command goes on', async () => {
    const asked = grid({ seeds: [1] });
    let steps = 0;
    const onStep = (): void => {
      if (++steps === 2) process.emit('SIGINT', 'SIGINT');
    };
    const stopped = await perform('stopped', asked, { listener: { onStart: () => ({ onStep }) } });
    expect(stopped).toMatchObject({ recorded: 0, interrupted: true, failures: [], rows: [] });
    expect(steps).toBe(2);
    const rest = await perform('stopped', asked);
    expect(rest).toMatchObject({ recorded: 2, interrupted: false });
  });

  test('a run that fails is reported and does not stop the others', async () => {
    const asked = grid({
      seeds: [1],
      variants: {
        dense: { 'model.sparse': null },
        wild: { 'train.schedule.learningRate': 1e30, 'train.clipNorm': null },
        switch: {},
      },
    });
    const { failures, recorded, rows } = await perform('failed', asked);
    expect(recorded).toBe(2);
    expect(failures).toHaveLength(1);
    expect(failures[0]).toMatchObject({
      run: 'wild-seed1',
      message: expect.stringMatching(/training has diverged/),
    });
    expect(rows.map(({ variant }) => variant)).toEqual(['dense', 'switch']);
    expect(readFileSync(at('failed', 'out', 'table.md'), 'utf8')).toContain('Not complete: 2 of 3 runs');
  });

  test('a file that is no record is not overwritten', async () => {
    mkdirSync(at('foreign', 'out'), { recursive: true });
    writeFileSync(at('foreign', 'out', 'dense-seed1.json'), '{"mine": true}');
    await expect(perform('foreign', grid({ seeds: [1] }))).rejects.toThrow(
      /is not the record of a compared run/,
    );
    expect(readFileSync(at('foreign', 'out', 'dense-seed1.json'), 'utf8')).toBe('{"mine": true}');
  });
});

describe('routers that see later tokens', () => {
  const router = { kind: 'expertChoice', evaluation: 'experts' };

  test('need a causal evaluation', async () => {
    const asked = grid({
      variants: { dense: { 'model.sparse': null }, choice: { 'model.sparse.router': router } },
    });
    await expect(planGrid(asked)).rejects.toThrow(
      /^variant choice may see later tokens \(layer 1: .*\): its loss cannot stand alone; add to its "evaluations" one that is causal$/,
    );
  });

  test('stand in the table with both figures, the causal one first and compared', async () => {
    const asked = grid({
      seeds: [1],
      variants: {
        dense: { 'model.sparse': null },
        choice: {
          'model.sparse.router': router,
          evaluations: { causal: { 'model.sparse.router.evaluation': 'topK' } },
        },
      },
    });
    const { rows } = await perform('leaking', asked, { keep: true });
    expect(rows.map(({ variant, evaluation, leaking }) => [variant, evaluation, leaking])).toEqual([
      ['dense', 'asTrained', false],
      ['choice', 'causal', false],
      ['choice', 'asTrained', true],
    ]);
    const { evaluations, recipe } = record('leaking', 'choice-seed1');
    expect(evaluations['asTrained'].leaks[0]).toMatch(/^layer 1: /);
    expect(evaluations['causal']).toMatchObject({
      leaks: [],
      overrides: { 'model.sparse.router.evaluation': 'topK' },
    });
    expect(evaluations['causal'].validation.loss).not.toBe(evaluations['asTrained'].validation.loss);
    expect(recipe.model.sparse).toMatchObject({ router: { evaluation: 'experts' } });
    const table = readFileSync(at('leaking', 'out', 'table.md'), 'utf8');
    expect(table).toMatch(/\| choice, causal \|/);
    expect(table).toMatch(/\| choice \(sees later tokens\) \|/);
    expect(readFileSync(at('leaking', 'out', 'curves.svg'), 'utf8')).toContain('stroke-dasharray');
  });

  test('the causal figure is that of the same weights under the other routing', async () => {
    const folder = at('leaking', 'runs', 'tiny', 'choice-seed1');
    const { model, weights, tokenizer } = await loadLanguageModel(folder);
    const { sparse } = model.options as { sparse: object };
    const other = new (model.constructor as new (options: unknown) => typeof model)({
      ...model.options,
      sparse: { ...sparse, router: { ...(sparse as { router: object }).router, evaluation: 'topK' } },
    });
    nameParameters(other);
    const shape = { batchSize: 4, contextLength: 16 };
    const { sequence, close } = await openTextForEvaluation(text, tokenizer, shape, cacheFolder);
    const evaluator = await Evaluator.create(other, weights, shape, {});
    const { loss } = await evaluator.evaluate(sequence, tokenizer);
    await evaluator.release();
    close();
    expect(record('leaking', 'choice-seed1').evaluations['causal'].texts['fox'].loss).toBe(loss);
  });
});
