import { existsSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { switchyard, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { SafetensorsFile } from '../checkpoints/index.js';

let folder: string;
beforeAll(async () => void (folder = await temporaryFolder()));
afterAll(() => rm(folder, { recursive: true, force: true }));

const command = (...args: string[]): Promise<Ended> => switchyard(['export', ...args], { cwd: folder });
const model = (name: string): string => resolve('test/golden', name);

test('a checkpoint of Hugging Face as ONNX says what transformers says', async () => {
  const source = model('switch_transformers/untied');
  const { code, stdout, stderr } = await command(
    source,
    'onnx',
    '--to',
    'onnx',
    '--length',
    '19',
    '--batch',
    '2',
  );
  expect(code, stderr).toBe(0);
  expect(stdout.split('\n')).toEqual([
    'onnx/encoder_model.onnx: opset 21; input_ids [2, 19], attention_mask [2, 19] → last_hidden_state [2, 19, 10]',
    'onnx/decoder_model.onnx: opset 21; input_ids [2, 19], decoder_attention_mask [2, 19], ' +
      'encoder_hidden_states [2, 19, 10], encoder_attention_mask [2, 19] → logits [2, 19, 29]',
    '',
  ]);
  const expected = await SafetensorsFile.open(join(source, 'expected.safetensors'));
  /** A tensor of the fixture, its rows padded to 19. */
  const padded = async (name: string): Promise<Tensor> => {
    const rows = Array.from((await expected.read(name)) as Float32Array, Number);
    const width = rows.length / 2;
    const numbers = Array.from({ length: 38 }, (_, i) =>
      i % 19 < width ? rows[Math.floor(i / 19) * width + (i % 19)] : 0,
    );
    return new Tensor('int64', BigInt64Array.from(numbers, BigInt), [2, 19]);
  };
  const run = async (file: string, feeds: Record<string, Tensor>): Promise<Tensor> => {
    const session = await InferenceSession.create(join(folder, 'onnx', file), { logSeverityLevel: 3 });
    const [result] = Object.values(await session.run(feeds));
    await session.release();
    return result as Tensor;
  };
  const sourceMask = await padded('source_mask');
  const states = await run('encoder_model.onnx', {
    input_ids: await padded('source'),
    attention_mask: sourceMask,
  });
  const targetMask = await padded('target_mask');
  const logits = await run('decoder_model.onnx', {
    input_ids: await padded('target'),
    decoder_attention_mask: targetMask,
    encoder_hidden_states: states,
    encoder_attention_mask: sourceMask,
  });
  const said = (await expected.read('logits')) as Float32Array;
  await expected.close();
  let [compared, worst] = [0, 0];
  for (let at = 0; at < said.length; at++) {
    const [row, column] = [Math.floor(at / 29), at % 29];
    const place = Math.floor(row / 9) * 19 + (row % 9);
    if (Number((targetMask.data as BigInt64Array)[place]) === 0) continue;
    compared++;
    worst = Math.max(worst, Math.abs(said[at] - (logits.data as Float32Array)[place * 29 + column]));
  }
  expect(compared).toBeGreaterThan(200);
  expect(worst).toBeLessThan(1e-4);
});

test('--json tells names, types and shapes', async () => {
  const { code, stdout, stderr } = await command(
    model('t5/relu'),
    'json',
    '--to',
    'onnx',
    '--json',
    '--length',
    '5',
  );
  expect(code, stderr).toBe(0);
  const told = JSON.parse(stdout) as {
    path: string;
    opset: number;
    graphs: Record<string, { inputs: object[] }>;
  };
  expect(told).toMatchObject({ path: 'json', opset: 21 });
  expect(told.graphs['encoder_model.onnx'].inputs[0]).toEqual({
    name: 'input_ids',
    elementType: 'INT64',
    shape: [1, 5],
  });
  expect((await readdir(join(folder, 'json'))).sort()).toEqual([
    'decoder_model.onnx',
    'encoder_model.onnx',
    'model.onnx.data',
  ]);
  expect((await stat(join(folder, 'json', 'model.onnx.data'))).size).toBeGreaterThan(1000);
});

test.each<[string, string[], string]>([
  [
    'a dtype',
    ['--to', 'onnx', '--dtype', 'bfloat16'],
    '--dtype does not go with --to onnx, which takes --length, --batch',
  ],
  ['an expert layout', ['--to', 'onnx', '--experts', 'fused'], '--experts does not go with --to onnx'],
  ['a length elsewhere', ['--length', '5'], '--length does not go with --to hf'],
  ['a batch of none', ['--to', 'onnx', '--batch', '0'], "expected a whole number of at least 1, not '0'"],
])('%s: one line, nothing written', async (_, flags, message) => {
  const { code, stdout, stderr } = await command(model('t5/relu'), 'bad', ...flags);
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toContain(message);
  expect(existsSync(join(folder, 'bad'))).toBe(false);
});

test('a folder that is in use is left alone', async () => {
  const { code, stderr } = await command(model('t5/relu'), 'json', '--to', 'onnx');
  expect(code).toBe(1);
  expect(stderr).toBe(
    'switchyard: json: the folder is not empty; name one that does not exist yet, or remove it\n',
  );
});
