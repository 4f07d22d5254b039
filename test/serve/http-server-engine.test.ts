/**
 * The built command over a real model: the official client, many clients at once, clients that leave, signals.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Command } from '../support/command.js';
import { dial, errorOf, eventsOf, post, until } from '../support/http.js';
import { saveSmallModel } from '../support/served-models.js';
import { temporaryFolder } from '../support/tiny-training.js';

let folder: string;
const running: Command[] = [];

beforeAll(async () => {
  folder = await temporaryFolder();
  await saveSmallModel(join(folder, 'small'), 'languageModel');
  await saveSmallModel(join(folder, 'classifier'), 'classifier');
});
afterAll(async () => {
  for (const { process } of running) process.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

async function start(
  model: string,
  ...args: string[]
): Promise<{ readonly command: Command; readonly url: string }> {
  const command = new Command(['serve', model, '--port', '0', ...args], { cwd: folder });
  running.push(command);
  const [, url] = /listening on (\S+)/.exec(await command.prints('listening on'))!;
  return { command, url };
}

/** A gauge or counter of the server. */
async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^switchyard_${name}\\{[^}]*\\} (.+)$`, 'm').exec(text)![1]);
}

describe('a language model', () => {
  let url: string;
  beforeAll(async () => ({ url } = await start('small', '--slots', '16', '--queue', '300')));
  const asked = { prompt: 'Once upon', max_tokens: 8, seed: 3, ignore_eos: true };

  test('D3.17 the official client reads the same text whole, streamed and by curl’s own words', async () => {
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    expect((await openai.models.list()).data.map(({ id }) => id)).toEqual(['small']);
    const request = { model: 'small', prompt: 'Once upon', max_tokens: 8, seed: 3, logprobs: 2 };
    const whole = await openai.completions.create(request);
    let text = '';
    for await (const { choices } of await openai.completions.create({ ...request, stream: true }))
      text += choices[0]?.text ?? '';
    expect(text).toBe(whole.choices[0].text);
    const { token_logprobs: logs, top_logprobs: top } = whole.choices[0].logprobs!;
    for (const [i, log] of logs!.entries()) {
      expect(log).toBeLessThanOrEqual(0);
      expect(Math.max(...Object.values(top![i]))).toBeGreaterThanOrEqual(log - 1e-6);
    }
    await expect(openai.completions.create({ ...request, prompt: 'x'.repeat(700) })).rejects.toMatchObject({
      status: 400,
      param: 'prompt',
    });
  });

  test('D3.18 routing traces of 64 requests at once are complete, and those of one at a time', async () => {
    interface Told {
      choices: { text: string; switchyard: { token_ids: number[]; routed_experts: number[][][] } }[];
      switchyard: { prompts: { routed_experts: number[][][] }[] };
    }
    const traced = { ...asked, switchyard: { routed_experts: true, token_ids: true } };
    const ask = async (i: number): Promise<Told> =>
      (await (
        await post(`${url}/v1/completions`, { ...traced, prompt: `prompt ${i}`, seed: i })
      ).json()) as Told;
    const together = await Promise.all(Array.from({ length: 64 }, (_, i) => ask(i)));
    for (const [i, told] of together.entries()) {
      const [{ switchyard }] = told.choices;
      expect(told.switchyard.prompts[0].routed_experts).toHaveLength(`prompt ${i}`.length);
      expect(switchyard.routed_experts).toHaveLength(8);
      for (const token of switchyard.routed_experts) {
        expect(token).toHaveLength(3);
        for (const layer of token) expect(new Set(layer).size).toBe(2);
      }
    }
    for (const i of [0, 31, 63]) {
      const alone = await ask(i);
      expect(alone.choices).toEqual(together[i].choices);
      expect(alone.switchyard).toEqual(together[i].switchyard);
    }
  });

  test('D3.9 after 200 clients that left, the next is answered quickly and nothing runs', async () => {
    const body = JSON.stringify({ ...asked, max_tokens: 500, stream: true });
    const head = `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`;
    const sockets = await Promise.all(Array.from({ length: 200 }, () => dial(url)));
    for (const socket of sockets) socket.write(`${head}\r\n\r\n${body}`);
    await until(async () => (await metric(url, 'running_texts')) > 0);
    for (const socket of sockets) socket.destroy();
    const started = performance.now();
    expect((await post(`${url}/v1/completions`, asked)).status).toBe(200);
    expect(performance.now() - started).toBeLessThan(10_000);
    await until(async () => (await metric(url, 'running_texts')) + (await metric(url, 'queue_length')) === 0);
  });

  test('D3.10 one huge prompt does not starve short ones', async () => {
    const short = (): Promise<number> =>
      post(`${url}/v1/completions`, { ...asked, max_tokens: 2 }).then(async (answer) => {
        await answer.text();
        return performance.now();
      });
    const huge = post(`${url}/v1/completions`, { ...asked, prompt: 'x'.repeat(590), max_tokens: 8 });
    const hugeEnded = huge.then(async (answer) => {
      expect(answer.status).toBe(200);
      await answer.text();
      return performance.now();
    });
    const long = post(`${url}/v1/completions`, { ...asked, max_tokens: 500 });
    const ended = await Promise.all(Array.from({ length: 6 }, short));
    const longEnded = long.then(async (answer) => {
      await answer.text();
      return performance.now();
    });
    for (const time of ended) expect(time).toBeLessThan(await longEnded);
    expect(await hugeEnded).toBeLessThan(await longEnded);
  });
});

test('D3.10 a full queue is 429, and what runs is never more than the slots', async () => {
  const { url } = await start('small', '--slots', '2', '--queue', '2');
  const body = { prompt: 'a', max_tokens: 60, ignore_eos: true };
  let most = 0;
  const watching = setInterval(
    () => void metric(url, 'running_texts').then((count) => (most = Math.max(most, count))),
    20,
  );
  const answers = await Promise.all(Array.from({ length: 12 }, () => post(`${url}/v1/completions`, body)));
  clearInterval(watching);
  const refused = answers.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThan(0);
  expect(Number(refused[0].headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  expect((await errorOf(refused[0])).code).toBe('queue_full');
  expect(answers.every(({ status }) => status === 200 || status === 429)).toBe(true);
  expect(most).toBeLessThanOrEqual(2);
});

test('D3.11 a second signal ends at once, and leaves no process', async () => {
  const { command, url } = await start('small');
  const answer = post(`${url}/v1/completions`, {
    prompt: 'a',
    max_tokens: 590,
    ignore_eos: true,
    stream: true,
  });
  await answer;
  const started = performance.now();
  command.process.kill('SIGTERM');
  await command.says('finishing the requests at work');
  command.process.kill('SIGTERM');
  await command.ended;
  expect(performance.now() - started).toBeLessThan(10_000);
  await (await answer).text().catch(() => undefined);
});

test('D3.11 what is not finished in time is told so, as the last event', async () => {
  const { command, url } = await start('small', '--grace', '0.05');
  const body = { prompt: 'a', max_tokens: 595, n: 16, ignore_eos: true, stream: true };
  const answer = await post(`${url}/v1/completions`, body);
  command.process.kill('SIGTERM');
  const events = eventsOf(await answer.text());
  expect(events.at(-1)).toBe('[DONE]');
  expect(JSON.parse(events.at(-2)!)).toMatchObject({ error: { code: 'engine_unavailable' } });
  expect((await command.ended).code).toBe(0);
});

test('under a memory budget, the live page is told where every expert is', async () => {
  const { url } = await start('small', '--memory-budget', '8MB');
  const body = { prompt: 'Once', max_tokens: 8, ignore_eos: true, seed: 1 };
  expect((await post(`${url}/v1/completions`, body)).status).toBe(200);
  const reading = new AbortController();
  const answer = await fetch(`${url}/live/events`, { signal: reading.signal });
  let text = '';
  for await (const part of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.includes('event: stats') && text.endsWith('\n\n')) break;
  }
  reading.abort();
  const stats = JSON.parse(eventsOf(text).at(-1)!) as {
    state: string;
    stats: { experts: { places: string[]; accesses: number[] }[]; restarts: number };
  };
  expect(stats.state).toBe('ready');
  expect(stats.stats.restarts).toBe(0);
  expect(stats.stats.experts).toHaveLength(3);
  for (const { places, accesses } of stats.stats.experts) {
    expect(places).toHaveLength(8);
    expect(accesses.reduce((a, b) => a + b, 0)).toBeGreaterThanOrEqual(8);
  }
  expect(await metric(url, 'expert_store_accesses_total')).toBeGreaterThan(0);
});

test('D3.17 a classifier tells classes and vectors', async () => {
  const { url } = await start('classifier');
  const body = { input: ['good', 'bad'], switchyard: { routed_experts: true } };
  const classes = (await (await post(`${url}/classify`, body)).json()) as {
    data: { probs: number[]; switchyard: { routed_experts: number[][][] } }[];
  };
  expect(classes.data).toHaveLength(2);
  for (const { probs, switchyard } of classes.data) {
    expect(probs.reduce((a, b) => a + b, 0)).toBeCloseTo(1);
    expect(switchyard.routed_experts[0]).toHaveLength(2);
  }
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const { data } = await openai.embeddings.create({ model: 'classifier', input: ['good', 'bad'] });
  for (const { embedding } of data) expect(Math.hypot(...embedding)).toBeCloseTo(1);
  await expect(openai.completions.create({ model: 'classifier', prompt: 'a' })).rejects.toMatchObject({
    param: 'model',
  });
});

// A shorter soak; `node bench/soak.mjs` makes 10,000 requests.
test('D3.19 memory and open files stay where they are', async () => {
  const { execFile } = await import('node:child_process');
  const { promisify } = await import('node:util');
  const requests = process.env['SWITCHYARD_LONG'] ? '10000' : '600';
  const { stdout } = await promisify(execFile)(process.execPath, ['bench/soak.mjs', '--requests', requests]);
  const soak = JSON.parse(stdout) as {
    exit: number;
    outcomes: Record<string, number>;
    server: Record<'residentBytes' | 'openFiles', { first: number; last: number }>;
    engine: { openFiles: { first: number; last: number } };
  };
  expect(Object.keys(soak.outcomes).sort()).toEqual(['200', '400', 'left']);
  expect(soak.exit).toBe(0);
  for (const { openFiles } of [soak.server, soak.engine])
    expect(openFiles.last - openFiles.first).toBeLessThan(20);
  expect(soak.server.residentBytes.last - soak.server.residentBytes.first).toBeLessThan(64e6);
}, 1_800_000);
