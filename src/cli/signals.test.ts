import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Command, switchyard, tinyRecipe } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  const train = { ...tinyRecipe.train, steps: 500, evaluation: { every: 400 }, checkpoint: { every: 400 } };
  await writeFile(join(folder, 'tiny.json'), JSON.stringify({ ...tinyRecipe, train }));
  expect(await start('tiny.json', '--out', 'straight').ended).toMatchObject({ code: 0 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));
const start = (...args: string[]): Command => new Command(['train', ...args], { cwd: folder });

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s finishes the step, saves and ends with 0; a resume ends at the bits of an uninterrupted run',
  async (signal) => {
    const stopped = start('tiny.json', '--out', signal);
    await stopped.says('step 1/500');
    stopped.process.kill(signal);
    const { code, stdout, stderr } = await stopped.ended;
    expect(code).toBe(0);
    expect(stderr).toContain('finishing the step and saving; a second signal ends at once\n');
    const [, step] =
      /^stopped at step (\d+) \(11\.4k parameters\); continue with: switchyard train --resume --out SIG/.exec(
        stdout,
      )!;
    expect(Number(step)).toBeLessThan(400);
    expect(
      existsSync(join(folder, signal, 'checkpoints', `step-${step.padStart(6, '0')}`, 'manifest.json')),
    ).toBe(true);
    expect(existsSync(join(folder, signal, 'run.lock'))).toBe(false);

    const resumed = await switchyard(['train', '--resume', '--out', signal, '--json'], { cwd: folder });
    expect(JSON.parse(resumed.stdout)).toMatchObject({ outcome: 'finished', step: 500 });
    expect(resumed.stderr).not.toContain('warning');
    const model = (run: string): Promise<Buffer> => readFile(join(folder, run, 'model/model.safetensors'));
    expect(Buffer.compare(await model(signal), await model('straight'))).toBe(0);
  },
);

test('a second signal ends at once with 130, also in the middle of an evaluation; the run can be resumed', async () => {
  const long = [
    '--set',
    'train.evaluation.every=1',
    '--set',
    'data.validationLines=4000',
    '--set',
    'train.steps=3',
  ];
  const running = start('tiny.json', '--out', 'killed', ...long);
  await running.says('step 1/3');
  running.process.kill('SIGINT');
  await running.says('finishing the step and saving');
  // Two within a tenth of a second count as one: npm passes on what the terminal has told already.
  await new Promise((resolve) => setTimeout(resolve, 150));
  running.process.kill('SIGINT');
  const { code, stdout } = await running.ended;
  expect([code, stdout]).toEqual([130, '']);
  expect(existsSync(join(folder, 'killed', 'model', 'model.safetensors'))).toBe(false);

  const again = start('--resume', '--out', 'killed');
  await again.says('step 1/3');
  again.process.kill('SIGTERM');
  await again.says('finishing the step and saving');
  again.process.kill('SIGTERM');
  expect((await again.ended).code).toBe(143);
});

test('a second process on one run is refused by name, and harms nothing', async () => {
  const first = start('tiny.json', '--out', 'shared', '--set', 'train.steps=100000');
  await first.says('step 1/100000');
  const second = await switchyard(['train', '--resume', '--out', 'shared'], { cwd: folder });
  expect(second).toMatchObject({ code: 1, stdout: '' });
  expect(second.stderr).toMatch(/^switchyard: [^\n]+\n$/);
  expect(second.stderr).toContain(String(first.process.pid));
  first.process.kill('SIGINT');
  expect(await first.ended).toMatchObject({ code: 0 });
  expect(existsSync(join(folder, 'shared', 'run.lock'))).toBe(false);
});

test('a run that starts from another is resumed from there, even before its first checkpoint', async () => {
  const args = ['--from', 'straight', '--set', 'train.steps=6'];
  expect(await start('tiny.json', '--out', 'tuned', ...args).ended).toMatchObject({ code: 0 });
  expect(await start('tiny.json', '--out', 'cut', ...args).ended).toMatchObject({ code: 0 });
  // As if it had been killed after its first step.
  await rm(join(folder, 'cut/checkpoints/step-000006'), { recursive: true });
  await rm(join(folder, 'cut/model/model.safetensors'));
  expect(await start('--resume', '--out', 'cut').ended).toMatchObject({ code: 0 });
  const model = (run: string): Promise<Buffer> => readFile(join(folder, run, 'model/model.safetensors'));
  expect(Buffer.compare(await model('cut'), await model('tuned'))).toBe(0);
});
