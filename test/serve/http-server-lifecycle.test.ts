/**
 * How the server ends, what it says while its engine is away, and whether the official client is content.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import OpenAI, {
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import { describe, expect, test } from 'vitest';
import { errorOf, eventsOf, KEY, post, startServer, until } from '../support/http.js';

const run = promisify(execFile);

describe('D3.11 ending', () => {
  test('refuses new requests, tells /ready, finishes those in work, and closes', async () => {
    const { url, engine, server } = await startServer({}, { tokenMilliseconds: 20 });
    const whole = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 20 });
    const streamed = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 20, stream: true });
    const live = fetch(`${url}/live/events`).then((answer) => answer.text());
    await until(() => engine.tokens > 2);
    const stopped = server.stop({ graceMilliseconds: 10_000 });
    const ready = await fetch(`${url}/ready`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toMatchObject({ status: 'unavailable', draining: true });
    const refused = await post(`${url}/v1/completions`, { prompt: 'b' });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('2');
    expect(await errorOf(refused)).toMatchObject({ type: 'service_unavailable_error', code: 'draining' });
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect(((await (await whole).json()) as { usage: object }).usage).toMatchObject({
      completion_tokens: 20,
    });
    expect(eventsOf(await (await streamed).text()).at(-1)).toBe('[DONE]');
    await live;
    await stopped;
    expect(engine.state).toBe('stopped');
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });

  test('tells those that are not finished in time, as their last event', async () => {
    const { url, engine, server } = await startServer({}, { tokenMilliseconds: 20 });
    const streamed = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 250, stream: true });
    const whole = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 250 });
    await until(() => engine.tokens > 2);
    await server.stop({ graceMilliseconds: 100 });
    const events = eventsOf(await (await streamed).text());
    expect(events.at(-1)).toBe('[DONE]');
    expect(JSON.parse(events.at(-2)!)).toMatchObject({ error: { type: 'service_unavailable_error' } });
    expect((await whole).status).toBe(503);
  });
});

describe('D3.12 an engine that is away', () => {
  test('fails requests at once, in the words of the API, until it is back', async () => {
    const { url, engine } = await startServer({}, { tokenMilliseconds: 10 });
    const running = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 200 });
    await until(() => engine.tokens > 2);
    engine.kill();
    const failed = await running;
    expect(failed.status).toBe(503);
    expect(await errorOf(failed)).toMatchObject({ code: 'engine_unavailable' });
    for (const path of ['/health', '/ready']) {
      const answer = await fetch(url + path);
      expect(answer.status).toBe(503);
      expect(await answer.json()).toMatchObject({ status: 'unavailable', engine: 'restarting' });
    }
    const started = performance.now();
    const refused = await post(`${url}/v1/chat/completions`, { messages: [{ role: 'user', content: 'a' }] });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('2');
    expect(performance.now() - started).toBeLessThan(2000);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain('switchyard_up{model="fake"} 0');
    engine.revive();
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 1 })).status).toBe(200);
  });

  test('or has not been there yet: everything but the model is told', async () => {
    const { url, engine } = await startServer();
    engine.state = 'starting';
    expect((await fetch(`${url}/v1/models`)).status).toBe(503);
    expect((await fetch(`${url}/health`)).status).toBe(503);
    expect((await post(`${url}/v1/completions`, { prompt: 'a' })).status).toBe(503);
    expect((await fetch(`${url}/metrics`)).status).toBe(200);
  });
});

describe('D3.17 the official client', () => {
  const message = { role: 'user', content: 'hello' } as const;
  const client = (url: string, apiKey = KEY): OpenAI =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

  test('lists models, writes, chats, streams and embeds', async () => {
    const { url } = await startServer({ apiKeys: [KEY] });
    const openai = client(url);
    const models = await openai.models.list();
    expect(models.data.map(({ id }) => id)).toEqual(['fake']);
    expect((await openai.models.retrieve('fake')).owned_by).toBe('switchyard');
    const completion = await openai.completions.create({
      model: 'fake',
      prompt: 'abc',
      max_tokens: 4,
      logprobs: 1,
    });
    expect(completion.choices[0].text).toHaveLength(4);
    expect(completion.choices[0].logprobs!.token_logprobs).toHaveLength(4);
    expect(completion.usage).toEqual({ prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 });
    const asked = { model: 'fake', messages: [message], max_completion_tokens: 6, seed: 1 };
    const chat = await openai.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2 });
    const [{ message: said, finish_reason: reason, logprobs }] = chat.choices;
    expect([said.role, said.content!.length, reason]).toEqual(['assistant', 6, 'length']);
    expect(logprobs!.content![0].top_logprobs).toHaveLength(2);
    const stream = await openai.chat.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    });
    let [text, total] = ['', 0];
    for await (const { choices, usage } of stream) {
      text += choices[0]?.delta.content ?? '';
      total += usage?.total_tokens ?? 0;
    }
    expect(text).toBe(said.content);
    expect(total).toBe(chat.usage!.total_tokens);
    const final = await openai.chat.completions.stream(asked).finalChatCompletion();
    expect(final.choices[0].message.content).toBe(said.content);
    for (const format of [undefined, 'float', 'base64'] as const) {
      const { data } = await openai.embeddings.create({
        model: 'fake',
        input: ['a', 'hello'],
        ...(format && { encoding_format: format }),
      });
      if (format !== 'base64') expect(data.map(({ embedding }) => embedding[3])).toEqual([-0.5, 0.5]);
    }
  });

  test('throws its own classes of errors', async () => {
    const { url, engine } = await startServer(
      { apiKeys: [KEY] },
      { slots: 1, queueLimit: 0, tokenMilliseconds: 50 },
    );
    const openai = client(url);
    const asked = { model: 'fake', messages: [message] };
    await expect(client(url, 'sk-wrong-0123456789').models.list()).rejects.toBeInstanceOf(
      AuthenticationError,
    );
    await expect(openai.models.retrieve('none')).rejects.toBeInstanceOf(NotFoundError);
    const bad = openai.chat.completions.create({ ...asked, n: 99 });
    await expect(bad).rejects.toBeInstanceOf(BadRequestError);
    await expect(bad).rejects.toMatchObject({ param: 'n', type: 'invalid_request_error', status: 400 });
    const running = openai.chat.completions.create({ ...asked, max_tokens: 10 });
    await until(() => engine.running === 1);
    await expect(openai.chat.completions.create(asked)).rejects.toBeInstanceOf(RateLimitError);
    await running;
    const lost = openai.chat.completions.create({ ...asked, max_tokens: 100, stream: true });
    await until(() => engine.running === 1);
    engine.kill();
    await expect(
      (async () => {
        for await (const _ of await lost);
      })(),
    ).rejects.toThrow('the engine was lost');
  });

  test('aborts', async () => {
    const { url, engine } = await startServer({}, { tokenMilliseconds: 10 });
    const stream = await client(url).chat.completions.create({
      model: 'fake',
      messages: [message],
      stream: true,
    });
    for await (const _ of stream) {
      if (engine.tokens > 3) stream.controller.abort();
    }
    await until(() => engine.running === 0);
    expect(engine.completed).toBe(0);
    const leaving = new AbortController();
    const asked = client(url).completions.create(
      { model: 'fake', prompt: 'a', max_tokens: 200 },
      { signal: leaving.signal },
    );
    await until(() => engine.running === 1);
    leaving.abort();
    await expect(asked).rejects.toBeInstanceOf(APIUserAbortError);
    await until(() => engine.running === 0);
  });

  test('curl works as well', async () => {
    const { url } = await startServer({ apiKeys: [KEY] });
    const curl = async (path: string, ...more: string[]): Promise<string> =>
      (await run('curl', ['-sS', '-N', `${url}${path}`, '-H', `Authorization: Bearer ${KEY}`, ...more]))
        .stdout;
    expect(JSON.parse(await curl('/v1/models'))).toMatchObject({ data: [{ id: 'fake' }] });
    const body = JSON.stringify({ messages: [message], max_tokens: 3, stream: true });
    const json = ['-H', 'Content-Type: application/json', '-d', body];
    expect(eventsOf(await curl('/v1/chat/completions', ...json)).at(-1)).toBe('[DONE]');
    // Longer than a packet: curl then asks whether it may send it.
    const long = JSON.stringify({ prompt: 'a', max_tokens: 1, metadata: { a: 'x'.repeat(100_000) } });
    expect(
      JSON.parse(await curl('/v1/completions', '-H', 'Content-Type: application/json', '-d', long)),
    ).toMatchObject({
      object: 'text_completion',
    });
  });
});

describe('the OpenAPI document', () => {
  test('has every route, its body under the limits of this server, and its answer', async () => {
    const { url } = await startServer({ apiKeys: [KEY] });
    const headers = { authorization: `Bearer ${KEY}` };
    const document = (await (await fetch(`${url}/openapi.json`, { headers })).json()) as {
      openapi: string;
      security: object[];
      paths: Record<string, Record<string, { operationId: string; requestBody?: object; security?: [] }>>;
    };
    expect(document.openapi).toBe('3.1.0');
    expect(document.security).toEqual([{ key: [] }]);
    expect(Object.keys(document.paths)).toContain('/v1/models/{model}');
    const ids = Object.values(document.paths).flatMap((path) =>
      Object.values(path).map(({ operationId }) => operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
    expect(document.paths['/health']['get'].security).toEqual([]);
    const chat = document.paths['/v1/chat/completions']['post'];
    expect(chat.requestBody).toMatchObject({
      content: { 'application/json': { schema: { required: ['messages'], additionalProperties: false } } },
    });
    expect(JSON.stringify(chat)).toContain('"maximum":16');
  });
});
