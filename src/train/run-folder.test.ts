import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { CheckpointContents } from './checkpoint-save.js';
import { readMetrics } from './metrics-log.js';
import { RunFolderError } from './run-folder-error.js';
import { readRecipe, RunFolder } from './run-folder.js';

let parent: string;
let path: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'switchyard-run-'));
  path = join(parent, 'runs', 'first');
});
afterEach(() => rm(parent, { recursive: true, force: true }));

const recipe = { name: 'first', seed: 1, model: { layers: 2 } };
const contents = (step: number): CheckpointContents => ({
  model: [{ name: 'weight', dtype: 'F32', shape: [2], data: Float32Array.of(step, -step) }],
  optimizer: [],
  state: { step },
});

it('creates, closes, opens and goes on', async () => {
  const run = await RunFolder.create(path, recipe);
  expect((await readdir(path)).sort()).toEqual(['checkpoints', 'metrics.jsonl', 'recipe.json', 'run.lock']);
  run.append({ step: 1, loss: 2 });
  await run.checkpoints.save(1, contents(1));
  run.close();
  expect((await readdir(path)).sort()).toEqual(['checkpoints', 'metrics.jsonl', 'recipe.json']);
  const again = await RunFolder.open(path);
  expect(again.recipe).toEqual(recipe);
  expect(await readRecipe(path)).toEqual(recipe);
  expect((await again.checkpoints.latest())!.step).toBe(1);
  again.close();
});

it('a second opening is refused, by name of the process', async () => {
  const run = await RunFolder.create(path, recipe);
  await expect(RunFolder.open(path)).rejects.toMatchObject({ code: 'locked' });
  await expect(RunFolder.create(path, recipe)).rejects.toThrow(`process ${process.pid}`);
  run.close();
  await expect(RunFolder.create(path, recipe)).rejects.toMatchObject({ code: 'exists' });
  // The refusal gave the lock back.
  (await RunFolder.open(path)).close();
});

it('rewinds: metrics and checkpoints are as they were at the step', async () => {
  const run = await RunFolder.create(path, recipe);
  let expected = '';
  for (let step = 1; step <= 6; step++) {
    run.append({ step, loss: 1 / step });
    if (step % 2 === 0) await run.checkpoints.save(step, contents(step));
    if (step === 4) expected = await readFile(join(path, 'metrics.jsonl'), 'utf8');
  }
  run.close();
  const resumed = await RunFolder.open(path);
  expect(await resumed.rewind(4)).toEqual([join(path, 'checkpoints', 'step-000006.abandoned-1')]);
  expect(await readFile(join(path, 'metrics.jsonl'), 'utf8')).toBe(expected);
  resumed.append({ step: 5 });
  await resumed.checkpoints.save(6, contents(6));
  expect(await resumed.rewind(0)).toHaveLength(3);
  expect(readMetrics(join(path, 'metrics.jsonl'))).toEqual([]);
  resumed.close();
});

it('a process that lost its lock does not save', async () => {
  const run = await RunFolder.create(path, recipe);
  await rm(join(path, 'run.lock'));
  await expect(run.checkpoints.save(1, contents(1))).rejects.toThrow('is no longer held by this process');
  await expect(run.rewind(0)).rejects.toMatchObject({ code: 'lost' });
  expect(await run.checkpoints.list()).toEqual([]);
  run.close();
});

it('one clear error for what is not a run', async () => {
  const fails = async (code: string, text: string | RegExp): Promise<void> => {
    const error = await RunFolder.open(path).catch((e: unknown) => e as Error);
    expect(error).toBeInstanceOf(RunFolderError);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toMatch(text);
    expect((error as Error).message).not.toContain('\n');
  };
  await fails('absent', /there is no run in .*recipe\.json does not exist/);
  await mkdir(path, { recursive: true });
  for (const [text, reason] of [
    ['{', /recipe\.json is not JSON/],
    ['[]', /recipe\.json must hold a JSON object/],
    ['null', /recipe\.json must hold a JSON object/],
  ] as const) {
    await writeFile(join(path, 'recipe.json'), text);
    await fails('invalid', reason);
  }
  await rm(path, { recursive: true });
  await writeFile(path, 'a file');
  await fails('absent', /there is no run/);
  await expect(RunFolder.create(path, recipe)).rejects.toThrow(/cannot create the run folder .*EEXIST/);
  await expect(RunFolder.create(join(parent, 'x'), { seed: NaN })).rejects.toThrow('seed is NaN');
});

it.runIf(process.getuid?.() !== 0)('one clear error for a folder that cannot be written', async () => {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o555);
  await expect(RunFolder.create(path, recipe)).rejects.toThrow(/cannot write .*permission denied \(EACCES\)/);
});
