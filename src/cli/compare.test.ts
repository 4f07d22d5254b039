/** The built command: child processes, signals, options. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { Command, switchyard, tinyRecipe, type Ended } from '../../test/support/command.js';

const scratch = mkdtempSync(join(tmpdir(), 'switchyard-compare-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(scratch, 'case-'));
  writeFileSync(join(cwd, 'base.json'), JSON.stringify(tinyRecipe));
});

function writeGrid(changes: object = {}): void {
  const grid = {
    name: 'tiny',
    base: 'base.json',
    overrides: { 'train.steps': 4, 'train.evaluation.every': 2 },
    seeds: [1, 2],
    variants: { dense: { 'model.sparse': null }, switch: {} },
    ...changes,
  };
  writeFileSync(join(cwd, 'grid.json'), JSON.stringify(grid));
}

const run = (...args: string[]): Promise<Ended> => switchyard(['compare', 'grid.json', ...args], { cwd });
const results = (...parts: string[]): string => join(cwd, 'docs', 'results', 'tiny', ...parts);
const seedsOf = (id: string): string[] => readdirSync(results()).filter((file) => file.startsWith(id));

test('trains the grid in child processes, and says what it did', async () => {
  writeGrid();
  const first = await run('--processes', '2');
  expect(first.code, first.stderr).toBe(0);
  expect(first.stdout).toMatch(/^dense\s+loss \d\.\d{4} ± \d\.\d{4} {2}\(2 seeds\)$/m);
  expect(first.stdout).toMatch(/^switch\s+loss .* to the baseline {2}\(2 seeds\)$/m);
  expect(first.stdout).toMatch(
    /4 runs recorded, 0 had a record; the table is docs\/results\/tiny\/table\.md/,
  );
  expect(first.stderr).toMatch(/4 switch-seed1 {2}step 4 {2}validation loss/);
  expect(first.stderr).toMatch(/recorded: loss .* tokens\/s; .* left for the grid/);
  // A pipe gets plain lines.
  expect(first.stderr).not.toContain('\r');
  const { threads, processes } = JSON.parse(readFileSync(results('switch-seed2.json'), 'utf8')) as {
    threads: number;
    processes: number;
  };
  expect(processes).toBe(2);
  expect(threads).toBeGreaterThanOrEqual(1);
  expect(readFileSync(results('table.md'), 'utf8')).toContain('`switchyard compare grid.json`');

  const json = await run('--json');
  expect(json.code).toBe(0);
  expect(JSON.parse(json.stdout)).toMatchObject({
    recorded: 0,
    skipped: 4,
    failures: [],
    rows: [
      { variant: 'dense', seeds: [1, 2] },
      { variant: 'switch', seeds: [1, 2] },
    ],
  });
});

test('grows in pieces: a variant, a seed', async () => {
  writeGrid();
  expect((await run('--only', 'switch', '--seeds', '1')).code).toBe(0);
  expect(seedsOf('dense')).toEqual([]);
  expect(seedsOf('switch')).toEqual(['switch-seed1.json']);
  const rest = await run('--only', 'dense', '--seeds', '1', '--keep');
  expect(rest.stdout).toMatch(/^switch/m);
  expect(existsSync(join(cwd, 'runs', 'compare', 'tiny', 'dense-seed1', 'model', 'model.safetensors'))).toBe(
    true,
  );
  expect(existsSync(join(cwd, 'runs', 'compare', 'tiny', 'switch-seed1', 'model'))).toBe(false);
});

test('a dry run shows sizes, matching and what is to be done, and trains nothing', async () => {
  writeGrid({
    variants: {
      dense: { 'model.sparse': null, free: ['model.intermediateSize'] },
      switch: {},
    },
    baseline: 'switch',
  });
  const text = await run('--dry-run', '--match', 'parameters');
  expect(text.code, text.stderr).toBe(0);
  expect(text.stdout).toMatch(/^dense .* % from \d+ with model\.intermediateSize = \d+$/m);
  expect(text.stdout).toMatch(/^dense-seed1\s+to do$/m);
  const { code, stdout } = await run('--dry-run', '--match', 'parameters', '--json');
  expect(code).toBe(0);
  const plan = JSON.parse(stdout) as {
    match: string;
    variants: { name: string; parameters: number; match: { target: number; reached: number } }[];
  };
  expect(plan.match).toBe('parameters');
  const [dense, sparse] = plan.variants;
  expect(dense.match.target).toBe(sparse.parameters);
  expect(dense.match.reached).toBe(dense.parameters);
  expect(Math.abs(dense.parameters / sparse.parameters - 1)).toBeLessThan(0.01);
  expect(existsSync(join(cwd, 'runs'))).toBe(false);
  expect(existsSync(results())).toBe(false);
});

test('Ctrl-C finishes the step; the same command goes on and ends with the same numbers', async () => {
  writeGrid({
    overrides: { 'train.steps': 300, 'train.evaluation.every': 1000, 'train.checkpoint.every': 50 },
    seeds: [1],
  });
  const command = new Command(['compare', 'grid.json'], { cwd });
  await command.says('dense-seed1  step 1');
  command.process.kill('SIGINT');
  const stopped = await command.ended;
  expect(stopped.code, stopped.stderr).toBe(0);
  expect(stopped.stderr).toContain('finishing the step and saving');
  expect(stopped.stdout).toContain('stopped; continue with: switchyard compare grid.json');
  expect(existsSync(results())).toBe(false);
  const metrics = readFileSync(join(cwd, 'runs', 'compare', 'tiny', 'dense-seed1', 'metrics.jsonl'), 'utf8');
  const steps = metrics.trim().split('\n').length;
  const rest = await run('--only', 'dense', '--out', 'resumed');
  expect(rest.code, rest.stderr).toBe(0);
  expect(rest.stderr).toMatch(new RegExp(`dense-seed1 {2}step ${steps + 1}/300`));
  rmSync(join(cwd, 'runs'), { recursive: true });
  await run('--only', 'dense', '--out', 'straight');
  const evaluations = (folder: string): unknown =>
    (JSON.parse(readFileSync(join(cwd, folder, 'dense-seed1.json'), 'utf8')) as { evaluations: unknown })
      .evaluations;
  expect(evaluations('resumed')).toEqual(evaluations('straight'));
});

test('a run whose process is killed counts as failed; it goes on at the next call', async () => {
  writeGrid({
    overrides: { 'train.steps': 300, 'train.evaluation.every': 1000, 'train.checkpoint.every': 50 },
    seeds: [1],
  });
  const command = new Command(['compare', 'grid.json', '--only', 'switch'], { cwd });
  await command.says('switch-seed1  step 1');
  const lock = readFileSync(join(cwd, 'runs', 'compare', 'tiny', 'switch-seed1', 'run.lock'), 'utf8');
  const { pid } = JSON.parse(lock) as { pid: number };
  expect(pid).not.toBe(command.process.pid);
  process.kill(pid, 'SIGKILL');
  const killed = await command.ended;
  expect(killed.code).toBe(1);
  expect(killed.stderr).toMatch(
    /switchyard: 1 of 1 runs failed:\n {2}switch-seed1: its process was ended by SIGKILL/,
  );
  const rest = await run('--only', 'switch');
  expect(rest.code, rest.stderr).toBe(0);
  expect(seedsOf('switch')).toEqual(['switch-seed1.json']);
});

test('a failed run is reported at the end, and the others are recorded', async () => {
  writeGrid({
    seeds: [1],
    variants: {
      wild: { 'train.schedule.learningRate': 1e30, 'train.clipNorm': null },
      dense: { 'model.sparse': null },
    },
    baseline: 'dense',
  });
  const { code, stderr, stdout } = await run();
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /switchyard: 1 of 2 runs failed:\n {2}wild-seed1: step \d: .* training has diverged/,
  );
  expect(stdout).toContain('1 run recorded');
  expect(existsSync(results('dense-seed1.json'))).toBe(true);
});

test.each([
  [['--seeds', '1,x'], /expected different whole numbers with commas, such as 1,2,3, not '1,x'/],
  [['--match', 'params'], /expected one of parameters, activeParameters, flops, not 'params'/],
  [['--only', 'sparse'], /there is no variant 'sparse'; known: dense, switch/],
  [
    ['--processes', '1000'],
    /1000 processes at once need as many cores, and there (is|are) \d+; choose 1 … \d+/,
  ],
])('%j is refused in one line', async (args, message) => {
  writeGrid();
  const { code, stderr } = await run(...args);
  expect(code).toBe(1);
  expect(stderr).toMatch(message);
  expect(existsSync(join(cwd, 'runs'))).toBe(false);
});
