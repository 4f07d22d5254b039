import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

interface Result {
  readonly texts: number;
  readonly hitRate?: number;
  readonly bytesRead: number;
  readonly reads: number;
  readonly slots: number;
  readonly beladyHitRate: number;
}
interface Recorded {
  readonly cases: readonly {
    readonly mode: string;
    readonly diskBytesPerSecond: { readonly before: number; readonly after: number };
    readonly result: Result;
  }[];
}

let folder: string;
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'sida-bench-'))));
afterAll(() => rmSync(folder, { recursive: true }));

/** The benchmark on its small model, with these modes. */
function bench(only: string): Recorded {
  const script = new URL('../../bench/sida.mjs', import.meta.url).pathname;
  const flags = [
    '--small',
    '--only',
    only,
    '--out',
    folder,
    '--folder',
    join(folder, 'model'),
    '--limit',
    '0.2',
  ];
  const { status, stderr } = spawnSync(process.execPath, [script, ...flags], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return JSON.parse(readFileSync(join(folder, 'system-small.json'), 'utf8')) as Recorded;
}

test('the system benchmark runs small, goes on where it ended, and leaves no model behind', () => {
  const { cases } = bench('resident,lru');
  for (const { diskBytesPerSecond } of cases) {
    expect(diskBytesPerSecond.before).toBeGreaterThan(0);
    expect(diskBytesPerSecond.after).toBeGreaterThan(0);
  }
  expect(cases.map(({ mode }) => mode)).toEqual(['resident', 'lru', 'resident']);
  const [resident, lru] = cases.map(({ result }) => result);
  expect(resident).toMatchObject({ slots: 192, hitRate: 1, bytesRead: 0 });
  expect(lru.hitRate).toBeLessThan(lru.beladyHitRate + 0.2);
  expect(lru.bytesRead).toBe(lru.reads * 64 * 128 * 2 * 4);
  const more = bench('resident,lru,prefetch,ResMoE × prefetch');
  expect(more.cases.slice(0, 3)).toEqual(cases);
  const [prefetch, residuals] = more.cases.slice(3).map(({ result }) => result);
  expect(prefetch.texts).toBeGreaterThan(1);
  // A quarter of the numbers, up to the rounding of a rank.
  expect((residuals.bytesRead * prefetch.reads) / (residuals.reads * prefetch.bytesRead)).toBeCloseTo(
    0.25,
    2,
  );
  expect(existsSync(join(folder, 'model'))).toBe(false);
  const table = readFileSync(join(folder, 'system-small.md'), 'utf8');
  expect(table).toMatch(/\| zipf \| lru \| 40 \|/);
  expect(readFileSync(join(folder, 'system-small.svg'), 'utf8')).toContain('<svg');
}, 300_000);
