import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Command, switchyard } from '../../test/support/command.js';
import { saveSmallModel } from '../../test/support/served-models.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { loadServedModel } from '../serve/index.js';

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  await saveSmallModel(join(folder, 'small'), 'languageModel');
});
afterAll(() => rm(folder, { recursive: true }));

/** A server of the small model, and where it listens. */
async function start(...args: string[]): Promise<{ readonly server: Command; readonly url: string }> {
  const server = new Command(['serve', 'small', '--port', '0', ...args], { cwd: folder });
  const [, url] = /listening on (\S+)/.exec(await server.prints('listening on'))!;
  return { server, url };
}

const complete = (url: string, body: object, headers: object = {}): Promise<Response> =>
  fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'small', prompt: 'Once', ...body }),
  });

/** Processes whose parent is this one. */
async function childrenOf(pid: number): Promise<number[]> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.trim().split(/\s+/).filter(Boolean).map(Number);
}

test('answers; SIGTERM finishes what runs, refuses what comes and leaves no process', async () => {
  const { server, url } = await start();
  const [engine] = await childrenOf(server.process.pid!);
  const answer = await complete(url, { max_tokens: 8, seed: 1 });
  expect(answer.status).toBe(200);
  expect(await answer.json()).toMatchObject({ usage: { prompt_tokens: 4, completion_tokens: 8 } });
  const running = complete(url, { max_tokens: 400, seed: 1, logit_bias: { 258: -100 } });
  await new Promise((resolve) => setTimeout(resolve, 300));
  server.process.kill('SIGTERM');
  await server.says('finishing the requests at work');
  expect(await (await running).json()).toMatchObject({ usage: { completion_tokens: 400 } });
  expect(await server.ended).toMatchObject({ code: 0 });
  expect(() => process.kill(engine, 0)).toThrow('ESRCH');
});

test('kill -9 of the engine: the server lives, and answers again', async () => {
  const { server, url } = await start();
  const [engine] = await childrenOf(server.process.pid!);
  const running = complete(url, { max_tokens: 500, logit_bias: { 258: -100 } });
  await new Promise((resolve) => setTimeout(resolve, 300));
  process.kill(engine, 'SIGKILL');
  expect((await running).status).toBe(503);
  expect((await complete(url, { max_tokens: 1 })).status).toBe(503);
  let status = 503;
  while (status === 503) status = (await complete(url, { max_tokens: 1 })).status;
  expect(status).toBe(200);
  server.process.kill('SIGTERM');
  await server.says('finishing');
  server.process.kill('SIGTERM');
  expect([0, 1]).toContain((await server.ended).code);
});

test('under a budget experts come from disk, and what is written is the same', async () => {
  const { plan, store, close } = await loadServedModel(join(folder, 'small'));
  const bytes = plan.placement[0].bytes + 5 * store!.layers[0].expertBytes;
  await close();
  const args = ['generate', 'small', '--prompt', 'Once', '--tokens', '30', '--json'];
  const [whole, part] = [
    await switchyard(args, { cwd: folder }),
    await switchyard([...args, '--memory-budget', `${bytes}B`, '--policy', 'lfu'], { cwd: folder }),
  ];
  expect(part.code, part.stderr).toBe(0);
  expect(part.stdout).toBe(whole.stdout);
  expect(part.stderr).toMatch(
    /^experts: \d+\.\d % of \d+ accesses found them in memory, which has 5 places; .* read/,
  );
  const { server, url } = await start('--memory-budget', `${bytes + 2 ** 20}B`, '--cache-memory', '1MiB');
  const answer = await complete(url, { max_tokens: 30, temperature: 0.8, seed: 1 });
  const { choices } = (await answer.json()) as { choices: { text: string }[] };
  expect(choices[0].text).toBe((JSON.parse(whole.stdout) as { text: string }).text);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toMatch(/bytes_read\S* [1-9]/i);
  server.process.kill('SIGTERM');
  const { code, stderr } = await server.ended;
  expect(code).toBe(0);
  expect(stderr).toContain('places for 5 of 24 experts: memory');
});

test('keys and public addresses', async () => {
  const open = await switchyard(['serve', 'small', '--host', '0.0.0.0', '--port', '0'], { cwd: folder });
  expect(open.code).toBe(1);
  expect(open.stderr).toContain('can be reached from other machines');
  const none = await switchyard(['serve', 'nothing'], { cwd: folder });
  expect(none.code).toBe(1);
  expect(none.stderr).toContain('nothing');
});
