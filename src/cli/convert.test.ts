import { existsSync, readdirSync } from 'node:fs';
import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { switchyard, tinyRecipe, twoAtATime, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { SafetensorsFile, type StoredArray } from '../checkpoints/index.js';

let folder: string;
const command = (...args: string[]): Promise<Ended> => switchyard(args, { cwd: folder });
const golden = (name: string): string => resolve('test/golden', name);

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'tiny.json'), JSON.stringify(tinyRecipe));
  await writeFile(join(folder, 'book.txt'), 'It was the best of times.\n'.repeat(40));
  await cp(golden('decoders/mixtral-grouped'), join(folder, 'cut'), { recursive: true });
  await truncate(join(folder, 'cut/model.safetensors'), 5000);
  await cp(golden('decoders/mixtral-grouped'), join(folder, 'with-vocabulary'), { recursive: true });
  await cp(golden('tokenizers/vocab.txt'), join(folder, 'with-vocabulary/vocab.txt'));
  expect(await command('train', 'tiny.json', '--out', 'run')).toMatchObject({ code: 0 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function tensorsOf(name: string): Promise<Map<string, StoredArray>> {
  const file = await SafetensorsFile.open(join(folder, name, 'model.safetensors'));
  const found = new Map<string, StoredArray>();
  for (const tensor of [...file.tensors.keys()].sort()) found.set(tensor, await file.read(tensor));
  await file.close();
  return found;
}

describe('import and export', () => {
  test.each(['mixtral-fused', 'qwen2_moe-mixed'])(
    '%s comes in and goes out with the same bytes',
    async (name) => {
      const source = golden(`decoders/${name}`);
      const imported = await command('import', source, name, '--json');
      expect(imported.code, imported.stderr).toBe(0);
      expect(JSON.parse(imported.stdout)).toMatchObject({
        path: name,
        modelType: 'switchyard_language_model',
      });
      const layout = name.endsWith('fused') ? 'fused' : 'per-expert';
      const exported = await command('export', name, `${name}-out`, '--experts', layout);
      expect(exported.code, exported.stderr).toBe(0);
      expect(exported.stdout).toMatch(
        new RegExp(`^${name}-out: ${name.split('-')[0]}, \\S+ parameters in \\d+ tensors\n$`),
      );
      await cp(source, join(folder, `${name}-source`), { recursive: true });
      expect(await tensorsOf(`${name}-out`)).toEqual(await tensorsOf(`${name}-source`));
    },
  );

  test('--weights adds rounded experts to a packed folder, and to no other', async () => {
    const source = golden('decoders/mixtral-grouped');
    const refused = await command('import', source, 'loose', '--weights', 'int4');
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toContain('add --pack');
    const { code, stderr } = await command('import', source, 'rounded', '--pack', '--weights', 'int4');
    expect(code, stderr).toBe(0);
    expect(readdirSync(join(folder, 'rounded/experts-int4')).join()).toContain('safetensors');
    expect(existsSync(join(folder, 'loose'))).toBe(false);
  });

  test('narrower weights are what they are called, and half as long', async () => {
    const { code, stderr } = await command(
      'export',
      golden('decoders/llama-grouped'),
      'half',
      '--dtype',
      'bfloat16',
    );
    expect(code, stderr).toBe(0);
    const config = JSON.parse(await readFile(join(folder, 'half/config.json'), 'utf8')) as object;
    expect(config).toMatchObject({ model_type: 'llama', torch_dtype: 'bfloat16' });
    const file = await SafetensorsFile.open(join(folder, 'half/model.safetensors'));
    for (const { dtype } of file.tensors.values()) expect(dtype).toBe('BF16');
    await file.close();
  });

  test('a vocabulary in another format becomes tokenizer.json', async () => {
    const { code, stderr } = await command('import', 'with-vocabulary', 'converted');
    // Mixtral has room for fewer tokens than this vocabulary has, which only those who use it need to know.
    expect(code, stderr).toBe(0);
    const file = JSON.parse(await readFile(join(folder, 'converted/tokenizer.json'), 'utf8')) as object;
    expect(file).toMatchObject({ model: { type: 'WordPiece' } });
  });

  test('a compressed run is written back dense, in its own layout', async () => {
    const small = await command('compress', 'run', '--output', 'small', '--ratio', '0.5', '--json');
    expect(small.code, small.stderr).toBe(0);
    const dense = await command('export', 'small', 'dense', '--to', 'dense');
    expect(dense.code, dense.stderr).toBe(0);
    const [before, after] = [await tensorsOf('run/model'), await tensorsOf('dense')];
    expect([...after.keys()]).toEqual([...before.keys()]);
    for (const [name, values] of before) {
      if (!name.includes('.experts.')) expect(after.get(name)).toEqual(values);
    }
    expect(await readFile(join(folder, 'dense/config.json'), 'utf8')).not.toContain('compression');
    const evaluated = await command('eval', 'dense', '--data', 'book.txt', '--json');
    expect(evaluated.code, evaluated.stderr).toBe(0);
  });

  test('what cannot be converted is told in one line, and nothing is left', async () => {
    const rows: readonly (readonly [args: readonly string[], message: RegExp])[] = [
      [['import', 'none', 'x'], /there is no model here: cannot read none\/config\.json/],
      [['import', 'cut', 'x'], /cut\/model\.safetensors: /],
      [
        ['import', 'book.txt', 'x'],
        /cannot read book\.txt\/config\.json: a part of the path is not a folder/,
      ],
      [['import', golden('decoders/llama-grouped'), 'run'], /run: the folder is not empty/],
      [
        ['export', 'run', 'x', '--architecture', 'bert'],
        /there is no architecture "bert"; known are .*mixtral/,
      ],
      [['export', 'run', 'x', '--architecture', 'llama'], /run\/model is no model of Hugging Face: llama: /],
      [['export', 'run', 'x', '--dtype', 'int4'], /argument 'int4' is invalid/],
    ];
    const results = await twoAtATime(rows, ([args]) => command(...args));
    results.forEach(({ code, stdout, stderr }, i) => {
      const [args, message] = rows[i];
      expect([code, stdout], args.join(' ')).toEqual([1, '']);
      expect(stderr).toMatch(
        /^(?:switchyard|error): [^\n]+\n(?:\(add --help for options and examples\)\n)?$/,
      );
      expect(stderr).toMatch(message);
    });
    expect(existsSync(join(folder, 'x'))).toBe(false);
    expect(readdirSync(folder).filter((name) => name.includes('.tmp-'))).toEqual([]);
  });
});
