/**
 * Runs that are interrupted, killed, or opened twice.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readMetrics } from '../../src/train/metrics-log.js';
import { RunFolder } from '../../src/train/run-folder.js';
import { node, requireBuild } from './child.js';

let parent: string;
let folder: string;
beforeAll(requireBuild);
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'switchyard-runs-'));
  folder = join(parent, 'run');
});
afterEach(() => rm(parent, { recursive: true, force: true }));

describe.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s', (signal, code) => {
  it('once: finishes the step, saves, exits 0, gives the lock back', async () => {
    const child = node('run.mjs', [folder, 'create', 50]);
    await child.tells('started');
    child.process.kill(signal);
    expect(await child.ended).toBe(0);
    const { saved } = await child.tells('saved');
    const started = child.told.filter((line) => 'started' in line);
    expect(started.at(-1)).toEqual({ started: saved });
    expect((await readdir(folder)).sort()).toEqual(['checkpoints', 'metrics.jsonl', 'recipe.json']);
    expect(readMetrics(join(folder, 'metrics.jsonl')).at(-1)!.step).toBe(saved);
  });

  it(`twice: exits at once with ${code}, gives the lock back`, async () => {
    const child = node('run.mjs', [folder, 'create', 60_000]);
    await child.tells('started');
    child.process.kill(signal);
    await child.tells('requested');
    await delay(150);
    child.process.kill(signal);
    expect(await child.ended).toBe(code);
    expect(child.told.some((line) => 'saved' in line)).toBe(false);
    expect(await readdir(folder)).not.toContain('run.lock');
  });
});

describe('two processes', () => {
  it('the second is refused in one line that names the first', async () => {
    const first = node('run.mjs', [folder, 'create', 20]);
    await first.tells('started');
    const second = node('run.mjs', [folder, 'open', 20]);
    expect(await second.ended).toBe(1);
    const [{ code, refused }] = second.told as [{ code: string; refused: string }];
    expect(code).toBe('locked');
    expect(refused).toMatch(new RegExp(`^the run is in use by process ${first.process.pid} on \\S+ `));
    await expect(RunFolder.open(folder)).rejects.toMatchObject({ code: 'locked' });
    first.process.kill('SIGTERM');
    expect(await first.ended).toBe(0);
  });

  it('a killed run is taken over, and its log goes on from the checkpoint', async () => {
    const saved = node('run.mjs', [folder, 'create', 10]);
    await saved.tells('started');
    await delay(50);
    saved.process.kill('SIGTERM');
    await saved.ended;
    const { saved: step } = await saved.tells('saved');
    const log = await readFile(join(folder, 'metrics.jsonl'), 'utf8');
    const killed = node('run.mjs', [folder, 'open', 5]);
    await killed.tells('started');
    await delay(60);
    killed.process.kill('SIGKILL');
    expect(await killed.ended).toBe('SIGKILL');
    expect(await readdir(folder)).toContain('run.lock');
    expect((await readFile(join(folder, 'metrics.jsonl'), 'utf8')).length).toBeGreaterThan(log.length);
    const resumed = await RunFolder.open(folder);
    await resumed.rewind(Number(step));
    expect(await readFile(join(folder, 'metrics.jsonl'), 'utf8')).toBe(log);
    resumed.close();
    expect(await readdir(folder)).not.toContain('run.lock');
  });
});
