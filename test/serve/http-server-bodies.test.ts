/**
 * Bodies of requests: their size, their JSON, their fields.
 */
import { describe, expect, test } from 'vitest';
import { defaultHttpSettings } from '../../src/serve/http/settings.js';
import { parseStrictJson } from '../../src/serve/http/strict-json.js';
import { errorOf, exchange, post, startServer } from '../support/http.js';

const head = (lines: readonly string[]): string =>
  [
    'POST /v1/completions HTTP/1.1',
    'Host: localhost',
    'Content-Type: application/json',
    ...lines,
    '',
    '',
  ].join('\r\n');
const valid = JSON.stringify({ prompt: 'a', max_tokens: 1 });

describe('D3.5 bodies', () => {
  test('longer than allowed by what they announce', async () => {
    const { url, engine } = await startServer({ bodyLimit: 1000 });
    const answer = await post(`${url}/v1/completions`, { prompt: 'x'.repeat(1000) });
    expect(answer.status).toBe(413);
    expect(await errorOf(answer)).toMatchObject({ type: 'invalid_request_error', code: 'body_too_large' });
    expect((await post(`${url}/v1/completions`, { prompt: 'x'.repeat(100) })).status).toBe(200);
    expect(engine.requests).toHaveLength(1);
  });

  test('longer than announced by nobody: chunked', async () => {
    const { url } = await startServer({ bodyLimit: 1000 });
    const part = `190\r\n${'x'.repeat(400)}\r\n`;
    const answer = await exchange(url, `${head(['Transfer-Encoding: chunked'])}${part.repeat(3)}0\r\n\r\n`);
    expect(answer.slice(9, 12)).toBe('413');
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(65536)),
    });
    const init: RequestInit & { duplex: 'half' } = { body: endless, duplex: 'half' };
    const sent = post(`${url}/v1/completions`, '', init);
    expect(
      await sent.then(
        ({ status }) => status,
        () => 413,
      ),
    ).toBe(413);
    expect((await post(`${url}/v1/completions`, valid)).status).toBe(200);
  });

  test('that announce less than they have', async () => {
    const { url } = await startServer();
    const answer = await exchange(url, head(['Content-Length: 5', 'Connection: keep-alive']) + valid);
    expect(answer.slice(9, 12)).toBe('400');
  });

  test('that announce more than they have are waited for, but not for ever', async () => {
    const { url, engine } = await startServer({ headersMilliseconds: 200, bodyMilliseconds: 400 });
    const answer = await exchange(url, head([`Content-Length: ${valid.length + 1}`]) + valid);
    expect(answer.slice(9, 12)).toBe('408');
    expect(engine.requests).toEqual([]);
  });

  test.each([
    ['two lengths', ['Content-Length: 5', 'Content-Length: 6']],
    ['a length and chunks', ['Content-Length: 5', 'Transfer-Encoding: chunked']],
    ['a negative length', ['Content-Length: -5']],
  ])('with %s are refused', async (_, lines) => {
    const { url, engine } = await startServer();
    expect((await exchange(url, head(lines) + valid)).slice(9, 12)).toBe('400');
    expect(engine.requests).toEqual([]);
  });

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonp',
    'application/json; charset=latin1',
    '',
  ])("of the type '%s' are refused, so that no form of another page can send them", async (type) => {
    const { url } = await startServer();
    const answer = await post(`${url}/v1/completions`, valid, { headers: { 'content-type': type } });
    expect(answer.status).toBe(415);
    expect(await errorOf(answer)).toMatchObject({ code: 'unsupported_media_type' });
  });

  test('of the right type with its parameters', async () => {
    const { url } = await startServer();
    for (const type of [
      'application/json; charset=UTF-8',
      'Application/JSON',
      'application/json;charset="utf-8"',
    ])
      expect((await post(`${url}/v1/completions`, valid, { headers: { 'content-type': type } })).status).toBe(
        200,
      );
  });

  test('that are not UTF-8, or that there is none of', async () => {
    const { url } = await startServer();
    for (const body of [new Uint8Array([0x22, 0xff, 0x22]), ''])
      expect((await post(`${url}/v1/completions`, '', { body })).status).toBe(400);
  });
});

describe('D3.6 JSON', () => {
  const deep = (depth: number): string => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth);

  test.each([
    ['{{{', 'not JSON'],
    ['[]', 'expected object'],
    ['3', 'expected object'],
    ['null', 'expected object'],
    ['"text"', 'expected object'],
    ['[1, 2', 'not JSON'],
    [deep(10_000), 'nested deeper'],
    ['['.repeat(10_000) + ']'.repeat(10_000), 'nested deeper'],
    ['{"prompt": "a", "prompt": "b"}', '"prompt" twice'],
    [String.raw`{"prompt": "a", "\u0070rompt": "b"}`, '"prompt" twice'],
    ['{"__proto__": {"n": 2}, "prompt": "a"}', '__proto__'],
    [String.raw`{"prompt": "a", "metadata": {"\u005f_proto__": "x"}}`, '__proto__'],
    ['{"constructor": {"prototype": 1}, "prompt": "a"}', 'constructor: there is no such field'],
    ['{"prompt": "a",}', 'not JSON'],
    ["{'prompt': 'a'}", 'not JSON'],
    ['\u0000', 'not JSON'],
  ])('%.40s', async (text, why) => {
    const { url, engine } = await startServer();
    for (const path of ['/v1/completions', '/v1/chat/completions', '/v1/embeddings', '/classify']) {
      const answer = await post(url + path, text);
      expect(answer.status, path).toBe(400);
      const error = await errorOf(answer);
      expect(error.type).toBe('invalid_request_error');
      expect(error.message).toContain(why);
    }
    expect(engine.requests).toEqual([]);
    expect(({} as { n?: number }).n).toBeUndefined();
  });

  test('strings may hold what looks like structure', () => {
    const value = { 'a"b': ['{', '}', '\\', '"', ':,[]'], c: { 'a"b': 1 }, d: [{ c: 1 }, { c: 2 }] };
    expect(parseStrictJson(JSON.stringify(value))).toEqual(value);
  });
});

describe('D3.7 fields', () => {
  const completions = '/v1/completions';
  const chat = '/v1/chat/completions';
  const message = { role: 'user', content: 'a' };

  test.each([
    ['n', 17],
    ['n', 0],
    ['n', -1],
    ['n', 1.5],
    ['n', '1'],
    ['max_tokens', 0],
    ['max_tokens', -5],
    ['max_tokens', 32_769],
    ['max_tokens', 1e300],
    ['max_tokens', [1]],
    ['stop', ['a', 'b', 'c', 'd', 'e']],
    ['stop', ''],
    ['stop', 'x'.repeat(257)],
    ['stop', [1]],
    ['logit_bias', Object.fromEntries(Array.from({ length: 301 }, (_, id) => [id, 1]))],
    ['logit_bias', { x: 1 }, 'logit_bias.x'],
    ['logit_bias', { 5: 101 }, 'logit_bias.5'],
    ['logit_bias', []],
    ['logprobs', 21],
    ['logprobs', -1],
    ['temperature', -0.1],
    ['temperature', 101],
    ['temperature', 'hot'],
    ['top_p', 0],
    ['top_p', 1.01],
    ['top_k', -1],
    ['min_p', 2],
    ['repetition_penalty', 0],
    ['presence_penalty', 3],
    ['frequency_penalty', -3],
    ['seed', -1],
    ['seed', 0.5],
    ['stream', 'yes'],
    ['stream_options', { include_usage: true }],
    ['echo', 1],
    ['model', 'another'],
    ['model', 7],
    ['prompt', ''],
    ['prompt', []],
    ['prompt', [[]]],
    ['prompt', ['a', 1]],
    ['prompt', [1.5]],
    ['prompt', [-1]],
    ['prompt', [128]],
    ['prompt', Array.from({ length: 129 }, () => 'a')],
    ['prompt', 'x'.repeat(256)],
    ['user', 'x'.repeat(513)],
    ['metadata', { a: 1 }, 'metadata.a'],
    ['switchyard', { routed_experts: 1 }, 'switchyard.routed_experts'],
    ['switchyard', { other: true }, 'switchyard.other'],
    ['best_of', 2],
    ['suffix', 'x'],
    ['tempreature', 1],
  ] as [string, unknown, string?][])('completions: %s of %j', async (field, value, param = field) => {
    const { url, engine } = await startServer();
    const answer = await post(url + completions, { prompt: 'a', [field]: value });
    expect(answer.status).toBe(field === 'model' && value === 'another' ? 404 : 400);
    const error = await errorOf(answer);
    expect(error.param ?? '').toMatch(new RegExp(`^${param.replace('.', '\\.')}(\\.|$)`));
    expect(error.message.length).toBeGreaterThan(param.length + 3);
    expect(engine.running).toBe(0);
    expect(engine.tokens).toBe(0);
  });

  test.each([
    ['messages', []],
    ['messages', [{ role: 'nobody', content: 'a' }], 'messages.0.role'],
    ['messages', [{ role: 'user' }], 'messages.0.content'],
    ['messages', [{ role: 'user', content: 'a', tool_calls: [] }], 'messages.0.tool_calls'],
    ['messages', Array.from({ length: 1025 }, () => message)],
    ['max_completion_tokens', 0],
    ['top_logprobs', 2],
    ['response_format', { type: 'json_object' }, 'response_format.type'],
    ['tools', []],
    ['audio', {}],
  ] as [string, unknown, string?][])('chats: %s of %.60j', async (field, value, param = field) => {
    const { url } = await startServer();
    const answer = await post(url + chat, { messages: [message], [field]: value });
    expect(answer.status).toBe(400);
    expect((await errorOf(answer)).param).toBe(param);
  });

  test.each(['NaN', 'Infinity', '-Infinity', '1e999', '-1e999', '0x1', '01'])(
    'a number %s is none',
    async (number) => {
      const { url } = await startServer();
      for (const field of ['temperature', 'max_tokens', 'top_p', 'seed']) {
        const answer = await post(url + completions, `{"prompt": "a", "${field}": ${number}}`);
        expect(answer.status, field).toBe(400);
        const { code, param } = await errorOf(answer);
        expect(code === 'invalid_json' || param === field).toBe(true);
      }
    },
  );

  test('texts in all are bounded, not only of each prompt', async () => {
    const { url } = await startServer();
    const prompt = Array.from({ length: 9 }, () => 'a');
    const answer = await post(url + completions, { prompt, n: 16 });
    expect(await errorOf(answer)).toMatchObject({
      param: 'n',
      message: expect.stringContaining('more than 128 texts') as string,
    });
  });

  test.each([
    ['of the tokens that are added', completions, { prompt: 'abc', max_tokens: 4, logprobs: 4 }, 20],
    ['of all texts of a prompt', completions, { prompt: 'abc', max_tokens: 4, logprobs: 0, n: 5 }, 20],
    ['of all prompts', completions, { prompt: ['a', 'b'], max_tokens: 5, logprobs: 1 }, 20],
    [
      'of a prompt, with each text',
      completions,
      { prompt: 'abc', max_tokens: 1, logprobs: 0, echo: true, n: 2 },
      8,
    ],
    ['as far as the model writes', chat, { messages: [message], logprobs: true, top_logprobs: 1 }, 2 * 249],
    ['in a stream', completions, { prompt: 'abc', max_tokens: 4, logprobs: 4, stream: true }, 20],
  ] as const)('log-probabilities in all are bounded: %s', async (_, path, body, count) => {
    const within = async (logProbabilities: number): Promise<Response> => {
      const { url } = await startServer({ limits: { ...defaultHttpSettings.limits, logProbabilities } });
      return post(url + path, body);
    };
    const refused = await within(count - 1);
    expect(refused.status).toBe(400);
    const error = await errorOf(refused);
    expect(error).toMatchObject({ param: 'logprobs', code: 'too_large' });
    expect(error.message).toContain(`up to ${count} numbers, and ${count - 1} are allowed`);
    const answered = await within(count);
    expect(answered.status).toBe(200);
    await answered.body?.cancel();
  });

  test('texts to classify or embed are bounded by their tokens and their trace, before they are read', async () => {
    const limits = { ...defaultHttpSettings.limits, inputTokens: 6, routedExperts: 20 };
    const { url, engine } = await startServer({ limits });
    const switchyard = { routed_experts: true };
    for (const path of ['/classify', '/v1/embeddings']) {
      const long = await errorOf(await post(url + path, { input: ['abcd', 'abc'] }));
      expect(long).toMatchObject({ type: 'invalid_request_error', param: 'input' });
      expect(long.message).toContain('have 7 tokens in all, and 6 are allowed');
      const traced = await errorOf(await post(url + path, { input: ['abc', 'abc'], switchyard }));
      expect(traced).toMatchObject({ type: 'invalid_request_error', param: 'switchyard.routed_experts' });
      expect(traced.message).toContain('would be 24 numbers, and 20 are allowed');
      expect(engine.mostRunning).toBe(0);
    }
    expect((await post(`${url}/classify`, { input: ['abc', 'abc'] })).status).toBe(200);
    expect((await post(`${url}/classify`, { input: 'abcde', switchyard })).status).toBe(200);
  });

  test('a conversation needs a template', async () => {
    const { url } = await startServer({}, { model: { hasChatTemplate: false } });
    const answer = await post(url + chat, { messages: [message] });
    expect(await errorOf(answer)).toMatchObject({ param: 'messages', code: 'no_chat_template' });
  });

  test('a model is only asked for what it can do', async () => {
    const { url } = await startServer({}, { model: { tasks: ['classify'], kind: 'classifier' } });
    for (const [path, body] of [
      [completions, { prompt: 'a' }],
      [chat, { messages: [message] }],
      ['/v1/embeddings', { input: 'a' }],
    ] as const)
      expect(await errorOf(await post(url + path, body))).toMatchObject({ code: 'unsupported_task' });
    expect((await post(`${url}/classify`, { input: 'a' })).status).toBe(200);
  });

  test('null is as good as none, and every field arrives', async () => {
    const { url, engine } = await startServer();
    const nothing = {
      n: null,
      stop: null,
      stream: null,
      logprobs: null,
      seed: null,
      logit_bias: null,
      user: null,
    };
    expect((await post(url + completions, { prompt: 'a', ...nothing })).status).toBe(200);
    const everything = {
      ...{ max_tokens: 3, n: 2, seed: 5, temperature: 0.5, top_p: 0.9, top_k: 7, min_p: 0.1, stop: 'q' },
      ...{ repetition_penalty: 1.1, presence_penalty: 0.2, frequency_penalty: 0.3, logit_bias: { 5: -1 } },
      ...{ stop_token_ids: [3], ignore_eos: true, logprobs: 2, echo: true, model: 'fake' },
    };
    expect((await post(url + completions, { prompt: [1, 2], ...everything })).status).toBe(200);
    expect(engine.requests).toEqual([
      { prompt: { text: 'a' }, maxTokens: 16, timeLimitMilliseconds: 600_000 },
      {
        prompt: { ids: [1, 2] },
        ...{ maxTokens: 3, n: 2, seed: 5, temperature: 0.5, topP: 0.9, topK: 7, minP: 0.1, stop: ['q'] },
        ...{ repetitionPenalty: 1.1, presencePenalty: 0.2, frequencyPenalty: 0.3, logitBias: { 5: -1 } },
        ...{ stopTokens: [3], ignoreEnd: true, topLogProbabilities: 2, echo: true },
        timeLimitMilliseconds: 600_000,
      },
    ]);
  });
});
