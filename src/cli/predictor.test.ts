import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { switchyard, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import type { RoutingPaths } from './inspect-routing.js';

const mood = {
  name: 'mood',
  model: {
    kind: 'classifier',
    head: 'encoderMean',
    numLabels: 2,
    hiddenSize: 16,
    numEncoderLayers: 4,
    numHeads: 2,
    intermediateSize: 32,
    contextLength: 16,
    sparse: { every: 2, numExperts: 4, router: { kind: 'softmax', standardDeviation: 1 } },
  },
  data: {
    kind: 'task',
    train: 'train.tsv',
    validation: 'dev.tsv',
    source: '{text}',
    label: 'mood',
    classes: ['bad', 'good'],
    tokenizer: { kind: 'bpe', vocabSize: 270, sentinels: 2 },
  },
  train: { batchSize: 4, steps: 4, schedule: { warmupSteps: 1 } },
};

let folder: string;
const command = (...args: string[]): Promise<Ended> => switchyard(args, { cwd: folder });
const examples = (from: number, to: number): string =>
  `mood\ttext\n${Array.from({ length: to - from }, (_, i) => {
    const good = (from + i) % 3 !== 0;
    return `${good ? 'good' : 'bad'}\tthe ${good ? 'sun' : 'rain'} of day ${from + i}\n`;
  }).join('')}`;

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'train.tsv'), examples(0, 60));
  await writeFile(join(folder, 'dev.tsv'), examples(60, 80));
  await writeFile(join(folder, 'mood.json'), JSON.stringify(mood));
  const trained = await command('train', 'mood.json', '--out', 'mood');
  expect(trained).toMatchObject({ code: 0 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('predictor', () => {
  test('is trained on what the routers decide, and measured', async () => {
    const train = ['predictor', 'train', 'mood', '--out', 'foresight', '--hidden-size', '24'];
    const trained = await command(...train, '--steps', '60', '--learning-rate', '0.01', '--json');
    expect(trained.stderr).toContain('recorded');
    expect(trained).toMatchObject({ code: 0 });
    const about = JSON.parse(trained.stdout) as { tokens: number; trainedFor: string };
    expect(about.tokens).toBeGreaterThan(300);
    expect(existsSync(join(folder, 'foresight.recording'))).toBe(false);
    const config = JSON.parse(await readFile(join(folder, 'foresight/config.json'), 'utf8')) as object;
    expect(config).toMatchObject({ hiddenSize: 24, embeddingSize: 16, trainedFor: about.trainedFor });

    const measured = await command('predictor', 'eval', 'foresight', 'mood', '--padding', '--json');
    expect(measured).toMatchObject({ code: 0, stderr: '' });
    const { plain, padded } = JSON.parse(measured.stdout) as Record<string, { real: { top1: number } }> & {
      padded: { padded: { positions: number } };
    };
    expect(plain.real.top1).toBeGreaterThan(0.6);
    expect(padded.padded.positions).toBe(20 * 16);
    const told = await command('predictor', 'eval', 'foresight', 'mood');
    expect(told.stdout).toContain('real tokens   top-1');
    expect(told.stdout).toContain('encoder.1');
  });

  test('refuses what does not fit in one line', async () => {
    const again = await command('predictor', 'train', 'mood', '--out', 'foresight', '--steps', '1');
    expect(again.stderr).toContain('there is a finished predictor');
    expect(again.code).toBe(1);
    await command('train', 'mood.json', '--out', 'other', '--set', 'seed=2');
    const other = await command('predictor', 'eval', 'foresight', 'other');
    expect(other.stderr).toMatch(/^switchyard: foresight was made for another model .*\n$/);
    const nowhere = await command('predictor', 'eval', 'nowhere', 'mood');
    expect(nowhere.stderr).toContain('nowhere: there is no predictor here');
  });
});

test('trace writes one line of JSON a text', async () => {
  const traced = await command('trace', 'mood', '--text', 'the sun of day 1', '--text', 'rain');
  expect(traced).toMatchObject({ code: 0, stderr: '' });
  const [first, second] = traced.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RoutingPaths);
  expect(first.layers.map(({ name }) => name)).toEqual(['encoder.1', 'encoder.3']);
  expect(first.shape).toEqual([first.ids.length, 2, 1]);
  expect(first.experts.flat(2).every((expert) => expert >= 0 && expert < 4)).toBe(true);
  expect(second.ids.length).toBeLessThan(first.ids.length);
  await writeFile(join(folder, 'texts.txt'), 'the sun of day 1\n\nrain\n');
  const written = await command('trace', 'mood', '--data', 'texts.txt', '--out', 'routing.jsonl');
  expect(written.stdout).toContain('wrote 2 texts');
  expect(await readFile(join(folder, 'routing.jsonl'), 'utf8')).toBe(traced.stdout);
  const nothing = await command('trace', 'mood');
  expect(nothing.stderr).toContain('give a text with --text');
});
