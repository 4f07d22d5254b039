/**
 * Connections that are slow, broken or abandoned, queues that are full, and streams.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { dial, errorOf, eventsOf, exchange, heard, post, startServer, until } from '../support/http.js';

const request = (body: object): string => {
  const text = JSON.stringify(body);
  return `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
};

describe('D3.8 slow clients', () => {
  const quick = { headersMilliseconds: 300, bodyMilliseconds: 600, keepAliveMilliseconds: 300 };

  test('200 that never finish a header, a body, or say nothing, are closed while others are served', async () => {
    const { url } = await startServer(quick);
    const sockets = await Promise.all(Array.from({ length: 200 }, () => dial(url)));
    const ends = sockets.map((socket, i) => {
      if (i % 4 === 0) socket.write('GET /v1/models HTTP/1.1\r\nHost: loc');
      if (i % 4 === 1) socket.write(request({ prompt: 'a', max_tokens: 1 }).slice(0, -3));
      // Half-open: nothing more will come from it.
      if (i % 4 === 2)
        socket.end('POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n');
      return new Promise((resolve) => void socket.once('close', resolve));
    });
    for (const socket of sockets) socket.resume();
    const drip = setInterval(() => {
      for (const [i, socket] of sockets.entries()) if (i % 4 === 0 && socket.writable) socket.write('a');
    }, 50);
    const started = performance.now();
    for (let i = 0; i < 5; i++) expect((await fetch(`${url}/v1/models`)).status).toBe(200);
    expect(performance.now() - started).toBeLessThan(8000);
    await Promise.all(ends);
    clearInterval(drip);
    expect(performance.now() - started).toBeLessThan(15_000);
    expect((await post(`${url}/v1/completions`, { prompt: 'a' })).status).toBe(200);
  });

  test('are told so in the words of the API', async () => {
    const { url } = await startServer(quick);
    const answer = await exchange(url, 'GET /health HTTP/1.1\r\nHost: loc');
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(JSON.parse(answer.split('\r\n\r\n')[1])).toMatchObject({ error: { type: 'timeout_error' } });
  });

  test('an idle connection is closed', async () => {
    const { url } = await startServer(quick);
    const socket = await dial(url);
    socket.write('GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const started = performance.now();
    expect(await heard(socket, 8000)).toContain('200 OK');
    expect(performance.now() - started).toBeLessThan(6000);
  });

  test('what is not HTTP is refused, and a header without end', async () => {
    const { url } = await startServer();
    expect(await exchange(url, '\u0016\u0003\u0001 hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    const long = `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`;
    expect(await exchange(url, long)).toMatch(/^HTTP\/1\.1 431 /);
    expect(await exchange(url, 'GET / HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    expect(await exchange(url, 'GET \\\\x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 4\d\d /,
    );
  });
});

describe('D3.9 clients that leave', () => {
  test('end their generation within one token, streamed or not', async () => {
    const { url, engine } = await startServer({}, { tokenMilliseconds: 20 });
    for (const stream of [true, false]) {
      const before = engine.cancelled;
      const leaving = new AbortController();
      const body = { prompt: 'a', max_tokens: 200, stream };
      const answer = post(`${url}/v1/completions`, body, { signal: leaving.signal }).then((response) =>
        response.text(),
      );
      answer.catch(() => undefined);
      await until(() => engine.running === 1 && engine.tokens % 200 > 3);
      leaving.abort();
      await expect(answer).rejects.toThrow();
      const { tokens } = engine;
      await until(() => engine.running === 0);
      expect(engine.tokens - tokens).toBeLessThanOrEqual(2);
      expect(engine.cancelled).toBe(before + 1);
    }
  });

  test('while they wait take no place in the queue', async () => {
    const { url, engine } = await startServer({}, { slots: 1, tokenMilliseconds: 5 });
    const long = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 100 });
    await until(() => engine.running === 1);
    const leaving = new AbortController();
    const waiting = post(`${url}/v1/completions`, { prompt: 'b' }, { signal: leaving.signal });
    await until(() => engine.queued === 1);
    leaving.abort();
    await expect(waiting).rejects.toThrow();
    await until(() => engine.queued === 0);
    expect((await long).status).toBe(200);
  });

  test('200 of them leave nothing behind, and the next one is answered at once', async () => {
    const { url, engine, server } = await startServer(
      {},
      { slots: 4, queueLimit: 300, tokenMilliseconds: 5 },
    );
    const sockets = await Promise.all(Array.from({ length: 200 }, () => dial(url)));
    for (const socket of sockets) socket.write(request({ prompt: 'a', max_tokens: 250, stream: true }));
    await until(() => engine.running === 4 && engine.queued > 100);
    for (const [i, socket] of sockets.entries()) {
      if (i % 2 === 0) socket.destroy();
      else socket.resetAndDestroy();
    }
    const started = performance.now();
    const answer = await post(`${url}/v1/completions`, { prompt: 'b', max_tokens: 2 });
    expect(answer.status).toBe(200);
    expect(performance.now() - started).toBeLessThan(5000);
    await until(() => engine.running + engine.queued === 0);
    expect(server.activeRequests).toBe(0);
  });
});

describe('D3.10 a full queue', () => {
  test('is told with the time after which to try again, and never more run than may', async () => {
    const { url, engine } = await startServer({}, { slots: 2, queueLimit: 3, tokenMilliseconds: 100 });
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 10 })),
    );
    const refused = answers.filter(({ status }) => status === 429);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    expect(refused).toHaveLength(15);
    expect(refused[0].headers.get('retry-after')).toBe('3');
    expect(await errorOf(refused[0])).toMatchObject({ type: 'rate_limit_error', code: 'queue_full' });
    expect(engine.mostRunning).toBe(2);
  });

  test('refuses streams with a status of their own, before their first event', async () => {
    const { url } = await startServer({}, { slots: 1, queueLimit: 0, tokenMilliseconds: 20 });
    const [one, other] = await Promise.all(
      [1, 2].map(() => post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 5, stream: true })),
    );
    expect([one.status, other.status].sort()).toEqual([200, 429]);
    await Promise.all([one.text(), other.text()]);
  });

  test('a request that is not finished in its time is told so', async () => {
    const { url } = await startServer({ requestMilliseconds: 5 }, { tokenMilliseconds: 20 });
    const answer = await post(`${url}/v1/completions`, { prompt: 'a' });
    expect(answer.status).toBe(504);
    expect(await errorOf(answer)).toMatchObject({ type: 'timeout_error', code: 'time_limit' });
    const text = await (await post(`${url}/v1/completions`, { prompt: 'a', stream: true })).text();
    expect(eventsOf(text).map((data) => data.slice(0, 8))).toEqual(['{"error"', '[DONE]']);
  });
});

describe('D3.13 streams', () => {
  const messages = [{ role: 'user', content: 'a' }];
  interface Chunk {
    id: string;
    object: string;
    choices: { index: number; delta: { role?: string; content?: string }; finish_reason: string | null }[];
    usage?: object | null;
  }

  test('begin with the role, have one finish_reason a text, and end with [DONE]', async () => {
    const { url } = await startServer();
    const body = { messages, max_tokens: 5, n: 2, stream: true };
    const answer = await post(`${url}/v1/chat/completions`, body);
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const events = eventsOf(await answer.text());
    expect(events.pop()).toBe('[DONE]');
    const chunks = events.map((data) => JSON.parse(data) as Chunk);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(new Set(chunks.map(({ object }) => object))).toEqual(new Set(['chat.completion.chunk']));
    expect(chunks.some((chunk) => 'usage' in chunk)).toBe(false);
    for (const index of [0, 1]) {
      const choices = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index);
      expect(choices[0].delta).toEqual({ role: 'assistant', content: '' });
      expect(choices.slice(1).every(({ delta }) => delta.role === undefined)).toBe(true);
      expect(choices.map(({ finish_reason }) => finish_reason)).toEqual([
        ...new Array<null>(choices.length - 1).fill(null),
        'length',
      ]);
    }
    const whole = (await (await post(`${url}/v1/chat/completions`, { ...body, stream: false })).json()) as {
      choices: { message: { content: string } }[];
    };
    for (const index of [0, 1]) {
      const pieces = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index);
      expect(pieces.map(({ delta }) => delta.content ?? '').join('')).toBe(
        whole.choices[index].message.content,
      );
    }
  });

  test('tell the usage in a last chunk without choices, when asked', async () => {
    const { url } = await startServer();
    for (const [path, prompt, read] of [
      ['/v1/chat/completions', { messages }, 7],
      ['/v1/completions', { prompt: ['ab', 'abc'] }, 5],
    ] as const) {
      const body = { ...prompt, max_tokens: 3, stream: true, stream_options: { include_usage: true } };
      const events = eventsOf(await (await post(url + path, body)).text());
      const chunks = events.slice(0, -1).map((data) => JSON.parse(data) as Chunk);
      const last = chunks.pop()!;
      expect(chunks.every(({ usage }) => usage === null)).toBe(true);
      const written = path === '/v1/completions' ? 6 : 3;
      expect(last).toMatchObject({
        choices: [],
        usage: { prompt_tokens: read, completion_tokens: written, total_tokens: read + written },
      });
    }
  });

  test('tell a failure as their last event but [DONE]', async () => {
    const { url, engine } = await startServer({}, { tokenMilliseconds: 10 });
    const answer = post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 100, stream: true });
    await until(() => engine.tokens > 2);
    engine.kill();
    const events = eventsOf(await (await answer).text());
    expect(events.at(-1)).toBe('[DONE]');
    expect(JSON.parse(events.at(-2)!)).toMatchObject({ error: { code: 'engine_unavailable' } });
    expect(events.filter((data) => data.includes('finish_reason":"'))).toEqual([]);
  });

  test('end at a stop string without it', async () => {
    const { url } = await startServer();
    const body = { prompt: 'a', max_tokens: 200, stop: 'z', stream: true };
    const events = eventsOf(await (await post(`${url}/v1/completions`, body)).text());
    expect(events.join('')).not.toContain('"text":"z"');
    expect(JSON.parse(events.at(-2)!)).toMatchObject({ choices: [{ finish_reason: 'stop' }] });
  });

  test('that are read slowly wait for their reader, and one who reads nothing is left', async () => {
    const model = { contextLength: 1_000_000 };
    const limits = { maxTokens: 1_000_000 };
    const { defaultRequestLimits } = await import('../../src/serve/index.js');
    const { url, engine, server } = await startServer(
      { stallMilliseconds: 1500, limits: { ...defaultRequestLimits, ...limits } },
      { model },
    );
    const socket = await dial(url);
    socket.pause();
    socket.write(request({ prompt: 'a', max_tokens: 900_000, stream: true }));
    await until(() => engine.tokens > 100);
    let before = -1;
    // What the kernel takes is bounded; once it is full, nothing more is made.
    while (engine.tokens !== before) {
      before = engine.tokens;
      await delay(300);
    }
    expect(engine.tokens).toBeLessThan(200_000);
    expect(server.activeRequests).toBe(1);
    await until(() => engine.running === 0 && server.activeRequests === 0);
    expect(engine.completed).toBe(0);
  });
});
