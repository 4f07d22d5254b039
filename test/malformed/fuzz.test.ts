/**
 * Loader test 25: mutated headers and indices are read as JSON says, or refused with our error; two million of them with
 * SWITCHYARD_LONG=1.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, it } from 'vitest';
import { requireBuild } from '../crash/child.js';

const [seed, count] = process.env['SWITCHYARD_LONG'] === '1' ? [25, 2_000_000] : [1, 30_000];
beforeAll(requireBuild);

it(`${count} mutated headers (seed ${seed}): no crash, no hang, at most 64 MB above the start`, () => {
  const program = fileURLToPath(new URL('fuzz-headers.mjs', import.meta.url));
  const run = spawnSync(process.execPath, [program, String(seed), String(count)], { encoding: 'utf8' });
  expect(run).toMatchObject({ status: 0, stderr: '' });
  console.log(run.stdout.trim());
  const told = JSON.parse(run.stdout) as Record<string, number>;
  expect(told).toMatchObject({ seed, headers: count });
  expect(told['aboveStartMegabytes']).toBeLessThan(64);
  expect(told['slowestMilliseconds']).toBeLessThan(2000);
  // Otherwise every header was refused at the first byte, and nothing was tested.
  expect(told['accepted']).toBeGreaterThan(count / 50);
  expect(told['kindsOfAnswer']).toBeGreaterThan(60);
});
