import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MetricsLog, readMetrics, type MetricsRecord } from './metrics-log.js';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-metrics-'));
  path = join(folder, 'metrics.jsonl');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const write = (steps: readonly number[], log = MetricsLog.open(path)): void => {
  for (const step of steps) log.append({ step, loss: 1 / (step + 1), text: 'é\n"x"' });
  log.close();
};

it('appends one object a line and reads them back', async () => {
  write([1, 1, 2]);
  write([2, 3]);
  expect((await readFile(path, 'utf8')).split('\n')).toHaveLength(6);
  expect(readMetrics(path).map((record) => record.step)).toEqual([1, 1, 2, 2, 3]);
  expect(readMetrics(path)[0]).toEqual({ step: 1, loss: 0.5, text: 'é\n"x"' });
  expect(readMetrics(join(folder, 'none'))).toEqual([]);
});

it('cuts a torn last line off, wherever it was torn', async () => {
  write([1, 2]);
  const whole = await readFile(path);
  const second = whole.indexOf('\n') + 1;
  for (let length = second; length < whole.length; length++) {
    await writeFile(path, whole.subarray(0, length));
    expect(readMetrics(path).map((record) => record.step)).toEqual([1]);
    const log = MetricsLog.open(path);
    log.append({ step: 2, loss: 1 / 3, text: 'é\n"x"' });
    log.close();
    expect((await readFile(path)).equals(whole)).toBe(true);
  }
  // A power cut may keep the length of a file and lose its last bytes.
  for (const tail of [Buffer.alloc(5000), Buffer.from('\0\0\0\n'), Buffer.from('{"step":\n')]) {
    await writeFile(path, Buffer.concat([whole, tail]));
    MetricsLog.open(path).close();
    expect((await readFile(path)).equals(whole)).toBe(true);
  }
});

it('names a line that is broken in the middle', async () => {
  write([1]);
  await appendFile(path, '{"step":"2"}\n');
  await appendFile(path, '{"step":3}\n');
  expect(() => MetricsLog.open(path)).toThrow(`${path}: line 2 is not a JSON object with a step`);
  expect(() => readMetrics(path)).toThrow('line 2');
});

it('refuses steps that go back, and nameless folders', () => {
  const log = MetricsLog.open(path);
  log.append({ step: 5 });
  expect(() => log.append({ step: 4 })).toThrow('a record of step 4 cannot follow one of step 5');
  expect(() => log.append({ step: NaN })).toThrow(RangeError);
  log.close();
  expect(() => MetricsLog.open(join(folder, 'no', 'metrics.jsonl'))).toThrow(/cannot write .*ENOENT/);
});

it('a log that is cut and written again equals one that never stopped (seed 7)', async () => {
  const run = fc.asyncProperty(
    fc.array(fc.nat(2), { minLength: 1, maxLength: 40 }),
    fc.nat(60),
    fc.nat(20),
    async (jumps, resumeAt, torn) => {
      let step = 0;
      const steps = jumps.map((jump) => (step += jump));
      await rm(path, { force: true });
      write(steps);
      const whole = await readFile(path);
      await appendFile(path, '{"step": 100000, "torn'.slice(0, torn));
      const log = MetricsLog.open(path);
      log.truncateAfter(resumeAt);
      expect(readMetrics(path).every((record: MetricsRecord) => record.step <= resumeAt)).toBe(true);
      write(
        steps.filter((s) => s > resumeAt),
        log,
      );
      expect((await readFile(path)).equals(whole)).toBe(true);
    },
  );
  await fc.assert(run, { seed: 7, numRuns: 100 });
});

it('reads logs longer than one piece', () => {
  const log = MetricsLog.open(path);
  const text = 'ü'.repeat(500_000);
  for (let step = 0; step < 4; step++) log.append({ step, text });
  log.truncateAfter(2);
  log.close();
  expect(readMetrics(path).map(({ step, text: t }) => [step, t === text])).toEqual([
    [0, true],
    [1, true],
    [2, true],
  ]);
});
