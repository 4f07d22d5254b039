import { spawn } from 'node:child_process';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { switchyard, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { ByteTokenizer } from '../data/index.js';
import { createModel, modelSchema } from '../models/index.js';
import { nameParameters, ParameterArena } from '../nn/index.js';
import { namedTensors, saveModelConfig, saveModelWeights } from '../train/index.js';

let folder: string;
const command = (...args: string[]): Promise<Ended> => switchyard(['generate', ...args], { cwd: folder });

/** The JSON objects on standard output, one a line. */
function lines({ code, stdout, stderr }: Ended): Record<string, unknown>[] {
  expect(code, stderr).toBe(0);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A model folder with random weights and a tokenizer of bytes with pad, begin and end. */
async function saveModel(path: string, options: Readonly<Record<string, unknown>>): Promise<void> {
  const tokenizer = new ByteTokenizer({ specialTokens: true });
  const parsed = modelSchema.parse({
    hiddenSize: 16,
    numHeads: 2,
    intermediateSize: 32,
    contextLength: 48,
    initialization: { scale: 4, embedding: 1 },
    tieEmbeddings: false,
    ...options,
  });
  const model = createModel({ ...parsed, vocabSize: tokenizer.vocabSize });
  const named = nameParameters(model);
  const values = ParameterArena.allocate(named).initialize(named, 7).views;
  await saveModelConfig(path, model.options as never, tokenizer);
  const shapes = new Map([...named].map(([name, { shape }]) => [name, shape]));
  await saveModelWeights(path, namedTensors(shapes, values));
}

beforeAll(async () => {
  folder = await temporaryFolder();
  await saveModel(join(folder, 'plain'), { kind: 'languageModel', numLayers: 2 });
  await saveModel(join(folder, 'pairs'), {
    kind: 'encoderDecoder',
    ...{ numEncoderLayers: 1, numDecoderLayers: 2, padTokenId: 256, eosTokenId: 258 },
  });
  await cp(join(folder, 'plain'), join(folder, 'chat'), { recursive: true });
  const template =
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";
  await writeFile(join(folder, 'chat', 'chat_template.jinja'), template);
  await writeFile(join(folder, 'prompts.txt'), 'one\nthe second\nthree\n');
  await writeFile(join(folder, 'gap.txt'), 'one\n\nthree\n');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const greedy = ['-t', '0', '-n', '10'];

test('a file of prompts: each continued as it is alone', async () => {
  const together = lines(
    await command('plain', '--prompts', 'prompts.txt', ...greedy, '--log-probabilities'),
  );
  expect(together.map(({ prompt }) => prompt)).toEqual(['one', 'the second', 'three']);
  const alone = lines(await command('plain', '-p', 'the second', ...greedy, '--log-probabilities', '--json'));
  expect(Object.keys(alone[0])).toEqual(['prompt', 'text', 'tokens', 'reason', 'logProbabilities']);
  const { logProbabilities: logs, ...rest } = together[1] as { logProbabilities: number[] };
  expect(alone[0]).toMatchObject(rest);
  expect(logs).toHaveLength(10);
});

test('text is streamed behind the prompt, and ends before a stop text', async () => {
  const { stdout } = await command('plain', '-p', 'né', ...greedy);
  expect(stdout.startsWith('né')).toBe(true);
  const text = String(lines(await command('plain', '-p', 'né', ...greedy, '--json'))[0]['text']);
  expect(stdout).toBe(`né${text}\n`);
  const stop = text.slice(3, 5);
  const ended = await command('plain', '-p', 'né', ...greedy, '--stop', 'never', '--stop', stop);
  expect(ended.stdout).toBe(`né${text.slice(0, text.indexOf(stop))}\n`);
});

test('beams find a text that is at least as probable as the greedy one', async () => {
  const [found] = lines(
    await command('plain', '-p', 'a', '-n', '6', '--beams', '5', '--length-penalty', '0', '--json'),
  );
  const [drawn] = lines(
    await command('plain', '-p', 'a', '-n', '6', '-t', '0', '--log-probabilities', '--json'),
  );
  const sum = (drawn['logProbabilities'] as number[]).reduce((a, b) => a + b, 0);
  expect(found['logProbability']).toBeGreaterThan(sum - 1e-6);
  expect(Object.keys(found)).toEqual(['prompt', 'text', 'tokens', 'logProbability', 'score']);
});

test('an encoder–decoder prints the target alone', async () => {
  const [{ text }] = lines(await command('pairs', '-p', 'source', ...greedy, '--json'));
  const { stdout } = await command('pairs', '-p', 'source', ...greedy);
  expect(stdout).toBe(`${String(text)}\n`);
});

describe('--chat', () => {
  test('asks by the template, and answers alone', async () => {
    const [{ text, prompt }] = lines(await command('chat', '--chat', '-p', 'hi', ...greedy, '--json'));
    expect(prompt).toBe('hi');
    const [same] = lines(await command('chat', '-p', '[user] hi\n[assistant] ', ...greedy, '--json'));
    expect(same['text']).toBe(text);
    expect((await command('chat', '--chat', '-p', 'hi', ...greedy)).stdout).toBe(`${String(text)}\n`);
  });

  test('every line of stdin is answered with what was said before in mind', async () => {
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
    const child = spawn(process.execPath, [main, 'generate', 'chat', '--chat', ...greedy, '--stop', '\n'], {
      cwd: folder,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (piece: string) => (stdout += piece));
    child.stdin.end('hi\n\nand you?\n');
    await new Promise((resolve) => child.on('close', resolve));
    const ask = async (text: string): Promise<string> => {
      const [made] = lines(await command('chat', '-p', text, ...greedy, '--stop', '\n', '--json'));
      return String(made['text']);
    };
    const first = await ask('[user] hi\n[assistant] ');
    const second = await ask(`[user] hi\n[assistant] ${first}\n[user] and you?\n[assistant] `);
    expect(stdout).toBe(`${first}\n${second}\n`);
  });

  test('what the template refuses is one line', async () => {
    const { code, stderr } = await command('chat', '--chat', '-p', 'hi', '--system', 'Be brief.');
    expect([code, stderr]).toEqual([
      1,
      'switchyard: chat/chat_template.jinja refuses these messages: no system here\n',
    ]);
  });
});

test.each<[string[], string]>([
  [['plain', '--chat', '-p', 'x'], 'plain: the model has no chat template, neither chat_template.jinja nor'],
  [['plain', '--beams', '2', '--top-k', '3'], '--beams and --top-k do not go together'],
  [['plain', '--prompts', 'prompts.txt', '-p', 'x'], '--prompts and --prompt do not go together'],
  [['plain', '--length-penalty', '2'], '--length-penalty is for --beams'],
  [['plain', '--system', 'x'], '--system is for --chat'],
  [['plain', '--log-probabilities'], '--log-probabilities are printed with --json'],
  [['plain', '--prompts', 'nothing.txt'], '--prompts nothing.txt: ENOENT'],
  [['plain', '--prompts', 'gap.txt'], '--prompts gap.txt: line 2 is empty: there is nothing to continue'],
  [['plain', '--stop', ''], '--stop is empty: every text would end at once'],
  [
    ['pairs', '-p', 'x'.repeat(48)],
    "the source has 49 tokens, more than the model's contextLength 48: shorten it",
  ],
])('%j is refused in one line', async (args, message) => {
  const { code, stdout, stderr } = await command(...args);
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stderr).toContain(message);
});
