import { existsSync } from 'node:fs';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder, tinyText } from '../../test/support/tiny-training.js';
import { openTensors, readFloats } from '../checkpoints/index.js';
import { loadModel } from '../train/index.js';
import { parseRecipe, recipeOfRun, trainRecipe, type Recipe } from './index.js';

let folder: string;
const at = (name: string): string => join(folder, name);

function recipe(model: object, train: object = {}, data: object = {}): Recipe {
  const sizes = { hiddenSize: 16, numLayers: 2, numHeads: 2, intermediateSize: 32, contextLength: 16 };
  return parseRecipe(
    {
      model: { ...sizes, ...model },
      data: {
        kind: 'text',
        path: at('text.txt'),
        validation: at('text.txt'),
        tokenizer: { kind: 'byte' },
        ...data,
      },
      train: {
        batchSize: 4,
        steps: 4,
        schedule: { warmupSteps: 0 },
        evaluation: { every: 2, maxBatches: 1 },
        checkpoint: { every: 2, keep: 5 },
        ...train,
      },
    },
    'test.json',
  );
}

const options = (name: string) => ({ folder: at(name), cacheFolder: at('cache') });
const student = (distillation: object): Recipe =>
  recipe({}, { distillation: { teacher: at('teacher'), ...distillation } });

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(at('text.txt'), Buffer.from(tinyText(2000)));
  await trainRecipe(recipe({ sparse: { every: 2, numExperts: 4 } }), options('teacher'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const weightsOf = (name: string): Promise<Buffer> => readFile(at(join(name, 'model', 'model.safetensors')));

test('a student starts with what the teacher knows outside its experts, and says how far it agrees', async () => {
  await trainRecipe(student({}), options('student'));
  const { environment } = await recipeOfRun(at('student'));
  expect(environment?.['teacher']).toMatch(/^[0-9a-f]{64}$/);
  const lines = (await readFile(at('student/metrics.jsonl'), 'utf8')).trim().split('\n');
  expect(lines.filter((line) => line.includes('"distillation"'))).toHaveLength(4);
  const start = await openTensors(at('student/checkpoints/step-000000/model.safetensors'));
  const { weights: theirs } = await loadModel(at('teacher'));
  for (const name of start.tensors.keys()) {
    const isOwn = name.startsWith('blocks.1.feedForward.');
    expect(theirs.has(name), name).toBe(!isOwn);
    if (!isOwn) expect(await readFloats(start, name), name).toEqual(theirs.get(name));
  }
  await start.close();
  await trainRecipe(student({ initialize: false }), options('alone'));
  expect(existsSync(at('alone/checkpoints/step-000000'))).toBe(false);
});

test('a resumed student is bit for bit the one that was never stopped', async () => {
  await trainRecipe(student({}), options('whole'));
  await cp(at('whole'), at('parts'), { recursive: true });
  await rm(at('parts/checkpoints/step-000004'), { recursive: true });
  await rm(at('parts/model/model.safetensors'));
  const { step } = await trainRecipe(student({}), { ...options('parts'), resume: true });
  expect(step).toBe(4);
  expect((await weightsOf('parts')).equals(await weightsOf('whole'))).toBe(true);
});

test('a student goes on with another teacher only under a warning', async () => {
  await cp(at('whole'), at('changed'), { recursive: true });
  await rm(at('changed/checkpoints/step-000004'), { recursive: true });
  const warnings: string[] = [];
  await cp(at('teacher'), at('kept'), { recursive: true });
  await trainRecipe({ ...recipe({ sparse: { every: 2, numExperts: 4 } }), seed: 2 }, options('other'));
  await cp(at('other/model'), at('teacher/model'), { recursive: true });
  await trainRecipe(student({}), {
    ...options('changed'),
    resume: true,
    listener: { onWarning: (line) => warnings.push(line) },
  });
  expect(warnings.join()).toMatch(/began in another environment: teacher: /);
  await cp(at('kept/model'), at('teacher/model'), { recursive: true });
});

test.each<[string, () => Recipe, string]>([
  ['no teacher', () => student({ teacher: at('nobody') }), 'there is no model here'],
  [
    'another tokenizer',
    () =>
      recipe(
        {},
        { distillation: { teacher: at('teacher') } },
        { tokenizer: { kind: 'bpe', vocabSize: 258 } },
      ),
    'has another tokenizer than the recipe',
  ],
  [
    'a teacher that is too short',
    () => recipe({ contextLength: 32 }, { distillation: { teacher: at('teacher') } }),
    'do not fit contextLength 16',
  ],
])('%s is refused before there is a run', async (name, make, message) => {
  await expect(trainRecipe(make(), options(name))).rejects.toThrow(message);
  await expect(recipeOfRun(at(name))).rejects.toThrow();
});
