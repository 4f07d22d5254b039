/**
 * Checkpoints larger than the memory that they are converted in; beyond 4 GiB with SWITCHYARD_LONG=1.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { requireBuild } from '../crash/child.js';

const isLong = process.env['SWITCHYARD_LONG'] === '1';
let folder: string;
beforeAll(requireBuild);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-streaming-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function runChild(name: string, ...args: readonly number[]): Record<string, unknown> {
  const program = fileURLToPath(new URL(name, import.meta.url));
  const run = spawnSync(process.execPath, [program, folder, ...args.map(String)], { encoding: 'utf8' });
  expect(run).toMatchObject({ status: 0, stderr: '' });
  console.log(name, run.stdout.trim());
  return JSON.parse(run.stdout) as Record<string, unknown>;
}

it('a small checkpoint in shards is converted in less memory than it takes', () => {
  const told = runChild('convert.mjs', 64, 1024);
  expect(told['bytes']).toBe(256 << 20);
  expect(told['peakGrowth']).toBeLessThan(160 << 20);
});

it.runIf(isLong)('16 a checkpoint of more than 4 GiB is converted in less than 2 GB', () => {
  const told = runChild('convert.mjs', 20, 65_536);
  expect(told['bytes']).toBeGreaterThan(2 ** 32);
  expect(told['peak']).toBeLessThan(2e9);
});

it.runIf(isLong)('a model of more than 2 GB is exported in less than 2 GB, and runs', () => {
  const told = runChild('export-large.mjs', 44);
  expect(told['dataBytes']).toBeGreaterThan(2 ** 31);
  expect(told['peak']).toBeLessThan(2e9);
  const logits = told['logits'] as number[];
  expect(logits).toHaveLength(32);
  expect(logits.every((value) => Number.isFinite(value))).toBe(true);
  expect(new Set(logits).size).toBeGreaterThan(1);
});
