/**
 * Who may enter, from where, and what is written down about it.
 */
import { describe, expect, test } from 'vitest';
import { accessLine, printable } from '../../src/serve/http/access-log.js';
import { createApp, serverRoutes } from '../../src/serve/http/app.js';
import { HttpMetrics } from '../../src/serve/http/http-metrics.js';
import { defaultHttpSettings, isHostAllowed, isLoopback } from '../../src/serve/http/settings.js';
import { HttpServer, readApiKeys, type HttpSettings } from '../../src/serve/index.js';
import { writeFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FakeEngine, route } from '../support/fake-engine.js';
import { errorOf, exchange, KEY, post, startServer } from '../support/http.js';
import { temporaryFolder } from '../support/tiny-training.js';

/** Everything that may be read without a key. A route that is added here must tell nothing of prompts or answers. */
const PUBLIC = [
  '/',
  '/assets/charts.js',
  '/assets/elements.js',
  '/assets/expert-grid.js',
  '/assets/icon.svg',
  '/assets/live.css',
  '/assets/live.js',
  '/assets/prompt-panel.js',
  '/assets/server.js',
  '/assets/uplot.css',
  '/assets/uplot.js',
  '/health',
  '/ready',
];

function application(settings: Partial<HttpSettings> = {}, engine = new FakeEngine()) {
  const complete = { ...defaultHttpSettings, ...settings };
  const server = {
    ...{ client: engine, settings: complete, metrics: new HttpMetrics(), draining: false },
    closing: new AbortController().signal,
  };
  return createApp(server);
}

describe('D3.1 every registered route is public by name or closed', () => {
  const app = application({ apiKeys: [KEY] });
  const registered = app.routes.filter(({ path }) => path !== '/*');

  test('the router has all routes of the server and nothing else', () => {
    const paths = new Set(registered.map(({ path }) => path));
    expect([...paths].sort()).toEqual(
      serverRoutes(defaultHttpSettings)
        .map(({ path }) => path)
        .sort(),
    );
    expect(paths.size).toBeGreaterThan(12);
  });

  test.each(registered.map(({ method, path }) => [method === 'ALL' ? 'DELETE' : method, path]))(
    '%s %s',
    async (method, path) => {
      const url = `http://localhost${path.replace(/:model\{.+\}/, 'fake')}`;
      const closed = await app.request(url, { method });
      if (PUBLIC.includes(path) && method === 'GET') expect(closed.status).toBe(200);
      else if (PUBLIC.includes(path)) expect(closed.status).toBe(405);
      else {
        expect(closed.status).toBe(401);
        const open = await app.request(url, { method, headers: { authorization: `Bearer ${KEY}` } });
        expect(open.status).not.toBe(401);
        await open.body?.cancel();
      }
    },
  );

  test('what is no route is closed as well', async () => {
    for (const path of [
      '/v2',
      '/v1',
      '/health/',
      '/Health',
      '//health',
      '/v1/models/../health2',
      '/assets/',
    ]) {
      expect((await app.request(`http://localhost${path}`)).status, path).toBe(401);
    }
  });

  test('every answer has the headers that keep pages harmless', async () => {
    for (const path of ['/v1/models', '/health', '/', '/nothing']) {
      const { headers } = await app.request(`http://localhost${path}`);
      expect(headers.get('x-content-type-options'), path).toBe('nosniff');
      expect(headers.get('content-security-policy'), path).toContain("default-src 'none'");
      expect(headers.get('x-request-id'), path).toMatch(/^[0-9a-f-]{36}$/);
      expect(headers.get('x-powered-by'), path).toBeNull();
    }
  });
});

describe('D3.2 keys', () => {
  const other = 'sk-other-0123456789abcdef';
  const app = application({ apiKeys: [KEY, other] });
  const models = (authorization?: string, query = ''): Response | Promise<Response> =>
    app.request(
      `http://localhost/v1/models${query}`,
      authorization === undefined ? {} : { headers: { authorization } },
    );

  test('any of several keys opens, whatever the case of the scheme', async () => {
    expect((await models(`Bearer ${KEY}`)).status).toBe(200);
    expect((await models(`bearer ${other}`)).status).toBe(200);
  });

  test.each([
    ['missing', undefined],
    ['empty', ''],
    ['without a key', 'Bearer '],
    ['wrong', `Bearer ${KEY.replace('0', '1')}`],
    ['a beginning of the right one', `Bearer ${KEY.slice(0, -1)}`],
    ['more than the right one', `Bearer ${KEY}x`],
    ['another scheme', `Basic ${Buffer.from(`:${KEY}`).toString('base64')}`],
    ['no scheme', KEY],
    ['two keys', `Bearer ${KEY}, Bearer ${KEY}`],
    ['not ASCII', `Bearer ${KEY}\u00e9`],
  ])('%s is refused in the words of the API', async (_, authorization) => {
    const answer = await models(authorization);
    expect(answer.status).toBe(401);
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    const error = await errorOf(answer);
    expect(error).toMatchObject({ type: 'authentication_error', param: null, code: 'invalid_api_key' });
    expect(JSON.stringify(error)).not.toContain(KEY.slice(0, 8));
  });

  test('a key in the query does not count', async () => {
    expect((await models(undefined, `?api_key=${KEY}&key=${KEY}`)).status).toBe(401);
  });

  test('keys are in no line of the log', async () => {
    const { url, log } = await startServer({ apiKeys: [KEY] });
    await fetch(`${url}/v1/models?api_key=${KEY}`, { headers: { authorization: `Bearer ${KEY}` } });
    await fetch(`${url}/v1/models?api_key=${KEY}`);
    expect(log.map((line) => line.split(' ').slice(2, 5).join(' '))).toEqual([
      'GET /v1/models 200',
      'GET /v1/models 401',
    ]);
    expect(log.join('\n')).not.toContain(KEY);
  });

  test('come from a file and the environment, never from the command line', async () => {
    const folder = await temporaryFolder();
    const file = join(folder, 'keys');
    await writeFile(file, `# ours\n${KEY}\n\n  ${other}\r\n`);
    expect(readApiKeys(file, {})).toEqual([KEY, other]);
    expect(readApiKeys(undefined, { SWITCHYARD_API_KEYS: `${KEY}, ${other},` })).toEqual([KEY, other]);
    expect(readApiKeys(undefined, {})).toEqual([]);
    await writeFile(file, '# nothing\n');
    expect(() => readApiKeys(file, {})).toThrow('there is no key in it');
    expect(() => readApiKeys(join(folder, 'none'), {})).toThrow('ENOENT');
    expect(() => application({ apiKeys: ['short'] })).toThrow(
      'API key 1 has 5 characters: at least 16 are needed',
    );
    expect(() => application({ apiKeys: [KEY, `${KEY} ${KEY}`] })).toThrow(
      'API key 2 may only have visible ASCII',
    );
    await rm(folder, { recursive: true });
  });
});

describe('D3.3 loopback', () => {
  test('is where the server is bound by default', async () => {
    const { url } = await startServer();
    expect(new URL(url).hostname).toBe('127.0.0.1');
    expect(defaultHttpSettings.host).toBe('127.0.0.1');
  });

  test.each(['0.0.0.0', '::', '192.168.1.4', 'example.org'])('%s without a key is refused', async (host) => {
    await expect(HttpServer.start(new FakeEngine(), { host, port: 0 })).rejects.toThrow(
      `${host} can be reached from other machines, and there is no API key`,
    );
  });

  test('a key, or saying so, allows it', async () => {
    expect((await startServer({ host: '0.0.0.0', apiKeys: [KEY] })).url).toMatch(/^http:\/\/0\.0\.0\.0:/);
    expect((await startServer({ host: '0.0.0.0', allowPublic: true })).url).toMatch(/^http:\/\/0\.0\.0\.0:/);
  });

  test('has these names', () => {
    expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost'].every(isLoopback)).toBe(true);
    expect(['0.0.0.0', '::', '127.0.0.1.example.org', '10.0.0.1', ''].some(isLoopback)).toBe(false);
  });
});

describe('D3.4 origins and hosts', () => {
  const ask = (settings: Partial<HttpSettings>, headers: Record<string, string>, method = 'GET') =>
    application(settings).request('http://localhost/v1/models', { method, headers });
  const preflight = {
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization',
  };

  test('no origin may read answers by default', async () => {
    for (const origin of ['https://example.org', 'http://localhost:3000', 'null']) {
      const answer = await ask({}, { origin });
      expect([...answer.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
      const asked = await ask({}, { origin, ...preflight }, 'OPTIONS');
      expect(asked.status).toBe(405);
      expect(asked.headers.get('access-control-allow-origin')).toBeNull();
    }
  });

  test('one that is listed may, and no other', async () => {
    const settings = { allowedOrigins: ['https://example.org'] };
    const answer = await ask(settings, { origin: 'https://example.org' });
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://example.org');
    expect(answer.headers.get('vary')).toBe('Origin');
    for (const origin of [
      'https://example.org.evil.test',
      'http://example.org',
      'https://example.org:444',
      'null',
    ])
      expect((await ask(settings, { origin })).headers.get('access-control-allow-origin')).toBeNull();
  });

  test('a page may ask first without a key, and gets nothing but leave', async () => {
    const settings = { allowedOrigins: ['https://example.org'], apiKeys: [KEY] };
    const asked = await ask(settings, { origin: 'https://example.org', ...preflight }, 'OPTIONS');
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-headers')).toBe('authorization, content-type');
    expect((await ask(settings, { origin: 'https://evil.test', ...preflight }, 'OPTIONS')).status).toBe(401);
    expect((await ask(settings, { origin: 'https://example.org' })).status).toBe(401);
  });

  test('credentials are never allowed', async () => {
    for (const allowedOrigins of [['*'], ['https://example.org']]) {
      for (const method of ['GET', 'OPTIONS']) {
        const answer = await ask({ allowedOrigins }, { origin: 'https://example.org', ...preflight }, method);
        expect(answer.headers.get('access-control-allow-origin')).toBe(allowedOrigins[0]);
        expect(answer.headers.get('access-control-allow-credentials')).toBeNull();
      }
    }
  });

  test('what is no origin is refused at the start', async () => {
    for (const origin of ['example.org', 'https://example.org/', 'https://example.org/x', ''])
      await expect(HttpServer.start(new FakeEngine(), { port: 0, allowedOrigins: [origin] })).rejects.toThrow(
        'is not an origin',
      );
  });

  test('foreign names are refused, which is what rebinding needs', async () => {
    const { url } = await startServer();
    const status = async (host: string): Promise<string> =>
      (await exchange(url, `GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)).slice(
        9,
        12,
      );
    expect(await status('evil.test')).toBe('421');
    expect(await status(`evil.test:${new URL(url).port}`)).toBe('421');
    expect(await status('localhost.evil.test')).toBe('421');
    expect(await status(new URL(url).host)).toBe('200');
    expect(await status('localhost')).toBe('200');
    expect(await status('LOCALHOST:1')).toBe('200');
  });

  test('names that are allowed', () => {
    expect(isHostAllowed('models.example.org:8080', ['Models.Example.org'])).toBe(true);
    expect(isHostAllowed('[::1]:8080', [])).toBe(true);
    expect(isHostAllowed('10.1.2.3', [])).toBe(true);
    expect(isHostAllowed('anything', ['*'])).toBe(true);
    for (const host of [null, '', 'a b', 'user@localhost', 'localhost:x', 'localhost:1:2', 'localhost/'])
      expect(isHostAllowed(host, []), String(host)).toBe(false);
  });
});

describe('D3.14 the log', () => {
  test('has one line a request, whatever path, headers and prompts hold', async () => {
    const { url, log } = await startServer();
    await fetch(`${url}/%0d%0a2026-01-01%20forged%1b[31m`, { headers: { 'user-agent': 'forged\u00e9' } });
    await post(`${url}/v1/completions`, { prompt: 'line\r\nforged \u001b[31m', max_tokens: 1 });
    await exchange(url, 'GET /a\u0080\u001b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await post(`${url}/v1/completions`, { prompt: 'x', model: 'no\nsuch' });
    expect(log.length).toBeGreaterThanOrEqual(3);
    for (const line of log) expect(line).toMatch(/^[\x20-\x7e…]+$/);
    expect(log.join('\n')).not.toContain('forged \\u001b');
  });

  test('escapes whatever could end a line, move a cursor or hide', () => {
    expect(printable('a\r\nb\t\u001b[31m\u2028\u202e\\')).toBe(
      'a\\u000d\\u000ab\\u0009\\u001b[31m\\u2028\\u202e\\\\',
    );
    expect(printable('x'.repeat(300))).toHaveLength(201);
    const record = { method: 'GET', path: '/\n', status: 200, milliseconds: 1.4, requestId: 'id' };
    expect(accessLine(record, new Date(0))).toBe('1970-01-01T00:00:00.000Z id GET /\\u000a 200 1 ms');
  });

  test('tells why a fault of ours happened, and the answer does not', async () => {
    const { url, log } = await startServer();
    const answer = await post(`${url}/v1/completions`, { prompt: 'x', temperature: 99 });
    expect(answer.status).toBe(500);
    expect(await errorOf(answer)).toMatchObject({ type: 'server_error', code: 'internal_error' });
    expect(log.at(-1)).toContain('TypeError: a fault of the engine');
  });
});

describe('D3.15 the page’s files', () => {
  const paths = [
    '/assets/../api-keys.js',
    '/assets/..%2fapi-keys.js',
    '/assets/%2e%2e/api-keys.js',
    '/assets/..%5capi-keys.js',
    '/assets//etc/passwd',
    '/assets/%2fetc%2fpasswd',
    '/assets/live.js/../../package.json',
    '/assets/live.js%00.css',
    '/assets/',
    '/assets',
    '/../../../../etc/passwd',
  ];

  test.each(paths)('%s is nothing', async (path) => {
    const { url } = await startServer();
    const answer = await exchange(
      url,
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
    );
    expect(answer.slice(9, 12)).toBe('404');
    expect(answer).not.toContain('root:');
  });

  test('only run what is theirs', async () => {
    const { url } = await startServer({ apiKeys: [KEY] });
    const page = await fetch(`${url}/`);
    const policy = page.headers.get('content-security-policy')!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/unsafe|\*|http:|data:.*script/);
    const html = await page.text();
    expect(html).not.toMatch(/<script(?![^>]* src=)|\son\w+=|javascript:|<style|\sstyle=|https?:\/\//i);
  });

  test('hold no secret and ask nobody else', async () => {
    const { url } = await startServer({ apiKeys: [KEY] });
    for (const path of PUBLIC) {
      const text = await (await fetch(url + path)).text();
      expect(text, path).not.toContain(KEY);
      expect(text, path).not.toMatch(/(?:src|href|url|fetch|import)\W{1,3}(?:https?:)?\/\//);
    }
  });
});

describe('D3.16 files and addresses in requests', () => {
  const image = { type: 'image_url', image_url: { url: 'http://127.0.0.1:1/secret' } };

  test.each([
    ['an image by address', image],
    ['a file', { type: 'file', file: { file_id: '/etc/passwd' } }],
    ['audio', { type: 'input_audio', input_audio: { data: '', format: 'wav' } }],
  ])('%s is refused and named: nothing is ever fetched or opened', async (_, part) => {
    const { url, engine } = await startServer();
    const messages = [{ role: 'user', content: [{ type: 'text', text: 'what is this?' }, part] }];
    const answer = await post(`${url}/v1/chat/completions`, { messages });
    expect(answer.status).toBe(400);
    expect((await errorOf(answer)).param).toMatch(/^messages\.0\.content/);
    expect(engine.requests).toEqual([]);
  });

  test('text parts are put together', async () => {
    const { url, engine } = await startServer();
    const content = ['a', 'b'].map((text) => ({ type: 'text', text }));
    await post(`${url}/v1/chat/completions`, { messages: [{ role: 'user', content }], max_tokens: 1 });
    expect(engine.requests).toMatchObject([{ prompt: { messages: [{ role: 'user', content: 'ab' }] } }]);
  });
});

describe('D3.18 experts of tokens', () => {
  const asked = { prompt: 'abc', max_tokens: 4, switchyard: { routed_experts: true, token_ids: true } };

  test('are told only when asked for', async () => {
    const { url, engine } = await startServer();
    const answer = await post(`${url}/v1/completions`, { prompt: 'abc', max_tokens: 4 });
    expect(await answer.text()).not.toContain('routed_experts');
    expect(engine.requests[0]).not.toHaveProperty('routing');
  });

  test('are refused where the server does not tell them', async () => {
    const { url } = await startServer({ routedExperts: false });
    for (const [path, body] of [
      ['/v1/completions', asked],
      ['/classify', { input: 'a', switchyard: { routed_experts: true } }],
    ] as const) {
      const answer = await post(url + path, body);
      expect(answer.status).toBe(400);
      expect(await errorOf(answer)).toMatchObject({ param: 'switchyard.routed_experts', code: 'disabled' });
    }
  });

  interface Told {
    choices: { index: number; switchyard: { token_ids: number[]; routed_experts: number[][][] } }[];
    switchyard: { layers: object[]; prompts: { tokens: number; routed_experts: number[][][] }[] };
  }

  test('have the shape [tokens, layers, topK], of each token’s own pass', async () => {
    const { url } = await startServer();
    const told = (await (await post(`${url}/v1/completions`, asked)).json()) as Told;
    const { layers, prompts } = told.switchyard;
    expect(layers).toEqual([
      { name: '1', num_experts: 8, top_k: 2 },
      { name: '3', num_experts: 8, top_k: 2 },
    ]);
    expect(prompts).toEqual([
      { tokens: 3, routed_experts: ['a', 'b', 'c'].map((c) => route(c.charCodeAt(0))) },
    ]);
    const { token_ids: ids, routed_experts: experts } = told.choices[0].switchyard;
    expect(ids).toHaveLength(4);
    expect(experts).toEqual(['c'.charCodeAt(0), ...ids.slice(0, 3)].map((id) => route(id)));
  });

  test('are complete for 64 texts at once, streamed or not', async () => {
    const { url } = await startServer({}, { slots: 64 });
    const prompt = Array.from({ length: 64 }, (_, i) => `prompt ${i}`);
    const told = (await (await post(`${url}/v1/completions`, { ...asked, prompt })).json()) as Told;
    expect(told.choices.map(({ index }) => index)).toEqual(prompt.map((_, i) => i));
    for (const { switchyard } of told.choices) expect(switchyard.routed_experts).toHaveLength(4);
    expect(told.switchyard.prompts.map(({ routed_experts }) => routed_experts.length)).toEqual(
      prompt.map(({ length }) => length),
    );
    const streamed = await (await post(`${url}/v1/completions`, { ...asked, prompt, stream: true })).text();
    const counts = new Array<number>(64).fill(0);
    for (const line of streamed.split('\n\n').filter((event) => event.startsWith('data: {'))) {
      for (const { index, switchyard } of (JSON.parse(line.slice(6)) as Told).choices)
        counts[index] += switchyard.routed_experts.length;
    }
    expect(counts).toEqual(new Array<number>(64).fill(4));
  });

  test('are never more than the server allows', async () => {
    const limits = { ...defaultHttpSettings.limits, routedExperts: 27 };
    const { url, engine } = await startServer({ limits });
    const answer = await post(`${url}/v1/completions`, asked);
    expect(answer.status).toBe(400);
    expect(await errorOf(answer)).toMatchObject({ param: 'switchyard.routed_experts', code: 'too_large' });
    expect(engine.running).toBe(0);
    expect((await post(`${url}/v1/completions`, { ...asked, max_tokens: 3 })).status).toBe(200);
  });
});

describe('D3.20 metrics', () => {
  test('have labels of the server’s own alone, however many paths are asked for', async () => {
    const { url } = await startServer();
    for (let i = 0; i < 50; i++) await fetch(`${url}/made/up/${i}?x=${i}`);
    for (let i = 0; i < 5; i++) await fetch(`${url}/v1/models/name-${i}`);
    await post(`${url}/v1/completions`, { prompt: 'a', model: 'made-up', user: 'made-up' });
    await post(`${url}/v1/completions`, { prompt: 'a', user: 'made-up' });
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).not.toContain('made');
    expect(text).not.toContain('name-');
    const labels = new Set([...text.matchAll(/(\w+)="/g)].map(([, name]) => name));
    expect([...labels].sort()).toEqual(['le', 'model', 'outcome', 'route', 'status']);
    const routes = new Set([...text.matchAll(/route="([^"]*)"/g)].map(([, path]) => path));
    expect([...routes].sort()).toEqual(['/v1/completions', '/v1/models/:model{.+}', 'other']);
    expect(text).toContain('switchyard_http_responses_total{model="fake",route="other",status="404"} 50');
  });

  test('are in the format of Prometheus, with tokens, queue, hits, bytes, stalls and cumulative histograms', async () => {
    const { url } = await startServer();
    await post(`${url}/v1/completions`, { prompt: 'a', max_tokens: 5 });
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    const text = await answer.text();
    for (const line of text.trimEnd().split('\n'))
      expect(line).toMatch(
        /^(# (HELP|TYPE) switchyard_\w+ .+|switchyard_\w+\{(\w+="[^"]*",?)+\} [\d.e+-]+)$/,
      );
    const names = [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name);
    expect(new Set(names).size).toBe(names.length);
    const value = (name: string): number =>
      Number(new RegExp(`^switchyard_${name}(?:\\{[^}]*\\})? (.+)$`, 'm').exec(text)![1]);
    expect(value('generated_tokens_total')).toBe(5);
    expect(value('queue_length')).toBe(0);
    expect(value('expert_store_hits_total')).toBe(90);
    expect(value('expert_store_bytes_read_total')).toBe(40960);
    expect(value('expert_store_stall_milliseconds_total')).toBe(12.5);
    expect(text).toContain('switchyard_time_to_first_token_seconds_bucket{model="fake",le="0.1"} 1');
    expect(text).toContain('switchyard_time_to_first_token_seconds_bucket{model="fake",le="1"} 3');
    expect(text).toContain('switchyard_time_to_first_token_seconds_bucket{model="fake",le="+Inf"} 6');
    expect(value('time_to_first_token_seconds_count')).toBe(6);
  });
});
