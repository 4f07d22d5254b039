import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Generator } from '../../decode/index.js';
import type { LanguageModel } from '../../models/index.js';
import type { EngineEvent, GenerationRequest, TokenRouting } from '../engine-client.js';
import { EngineUnavailableError, QueueFullError, RequestError, TimeLimitError } from '../engine-errors.js';
import type { EngineLimits } from './engine-limits.js';
import { Engine } from './engine.js';
import { servedParts, type PreparedModel } from './served-parts.js';
import { smallModel, smallPrepared } from '../../../test/support/served-models.js';

const open = async (
  kind: Parameters<typeof smallPrepared>[0],
  limits: Partial<EngineLimits> = {},
  change: object = {},
): Promise<Engine> => new Engine(await servedParts(smallPrepared(kind, change)), limits);

async function all(engine: Engine, request: GenerationRequest, signal?: AbortSignal): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  for await (const event of engine.generate(request, signal && { signal })) events.push(event);
  return events;
}

/** What was written, with the whole trace. */
function summary(events: readonly EngineEvent[]): {
  ids: number[];
  text: string;
  trace: TokenRouting[];
  logs: number[];
} {
  const [prompt, ...rest] = events;
  if (prompt.kind !== 'prompt') throw new Error('the first event must tell the prompt');
  const tokens = rest.filter((event) => event.kind === 'token');
  return {
    ids: tokens.map(({ id }) => id),
    text: rest.map((event) => ('text' in event ? event.text : '')).join(''),
    trace: [...(prompt.routing ?? []), ...tokens.slice(1).map(({ routing }) => routing!)],
    logs: tokens.map(({ probabilities }) => probabilities?.logProbability ?? NaN),
  };
}

let engine: Engine;
beforeAll(async () => {
  engine = await open('languageModel', { slots: 64, readTokens: 64 });
});
afterAll(() => engine.stop());

describe('a request', () => {
  test('is the text of the generator, with the same seed and options', async () => {
    const { model, weights } = smallModel('languageModel');
    const generator = await Generator.create(model as LanguageModel, weights);
    const options = {
      maxTokens: 20,
      temperature: 0.9,
      topK: 50,
      topP: 0.95,
      minP: 0.01,
      repetitionPenalty: 1.2,
      seed: 3,
    };
    const [{ ids }] = await generator.complete([[...Buffer.from('Once')]], { ...options, vocabSize: 258 });
    await generator.release();
    const made = summary(
      await all(engine, { prompt: { text: 'Once' }, ...options, logitBias: { 258: -100 } }),
    );
    expect(made.ids).toEqual(ids);
  });

  test('has one prompt event first and one end last; usage adds up', async () => {
    const events = await all(engine, { prompt: { text: 'né' }, maxTokens: 5, seed: 1, ignoreEnd: true });
    expect(events.map(({ kind }) => kind)).toEqual(['prompt', ...Array<string>(5).fill('token'), 'end']);
    expect(events[0]).toMatchObject({ tokens: 3, seed: 1 });
    expect(events.at(-1)).toMatchObject({ index: 0, reason: 'length', tokens: 5 });
  });

  test('ends at the model’s longest text, however much was asked for', async () => {
    const ids = Array.from({ length: 590 }, (_, i) => i % 250);
    const events = await all(engine, { prompt: { ids }, maxTokens: 4000, ignoreEnd: true });
    expect(events.at(-1)).toMatchObject({ reason: 'length', tokens: 10 });
  });

  test('n texts go on from one prompt; the first is the one of n = 1', async () => {
    const request = { prompt: { text: 'Once upon' }, maxTokens: 6, seed: 5, routing: true, ignoreEnd: true };
    const events = await all(engine, { ...request, n: 3 });
    const of = (index: number): EngineEvent[] => [
      events[0],
      ...events.filter((event) => event.kind !== 'prompt' && event.index === index),
    ];
    const texts = [0, 1, 2].map((index) => summary(of(index)));
    expect(texts[0]).toEqual(summary(await all(engine, request)));
    expect(new Set(texts.map(({ ids }) => ids.join(' '))).size).toBe(3);
    for (const { trace } of texts) expect(trace).toHaveLength(9 + 5);
  });

  test('stop strings and stop tokens end it and are no part of it', async () => {
    const request = { prompt: { text: 'abc' }, temperature: 0, maxTokens: 30, ignoreEnd: true };
    const whole = summary(await all(engine, request));
    const stop = whole.text.slice(4, 6);
    const stopped = await all(engine, { ...request, stop: ['never', stop] });
    expect(stopped.at(-1)).toMatchObject({ reason: 'stop', stop });
    expect(summary(stopped).text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
    const [, , third] = whole.ids;
    const ended = await all(engine, { ...request, stopTokens: [third] });
    expect(ended.at(-1)).toMatchObject({ reason: 'stop', stop: third });
    expect(summary(ended).ids).toEqual(whole.ids.slice(0, whole.ids.indexOf(third)));
  });

  test('penalties and bias change what is drawn, as their formulas say', async () => {
    const request = { prompt: { text: 'abc' }, temperature: 0, maxTokens: 12, ignoreEnd: true };
    const plain = summary(await all(engine, request)).ids;
    expect(new Set(plain).size).toBeLessThan(12);
    for (const change of [{ presencePenalty: 100 }, { frequencyPenalty: 100 }]) {
      const ids = summary(await all(engine, { ...request, ...change })).ids;
      expect(ids[0]).toBe(plain[0]);
      expect(new Set(ids).size).toBe(12);
    }
    expect(summary(await all(engine, { ...request, logitBias: { 65: 100 } })).ids).toEqual(
      Array(12).fill(65),
    );
  });

  test('log-probabilities are the model’s own, best first', async () => {
    const request = { prompt: { text: 'abc' }, temperature: 0, maxTokens: 4, topLogProbabilities: 5 };
    const events = await all(engine, request);
    for (const event of events) {
      if (event.kind !== 'token') continue;
      const { top, ...own } = event.probabilities!;
      expect(top[0]).toEqual(own);
      expect(top).toHaveLength(5);
      const logs = top.map(({ logProbability }) => logProbability);
      expect(logs).toEqual([...logs].sort((a, b) => b - a));
      expect(logs.reduce((sum, log) => sum + Math.exp(log), 0)).toBeLessThan(1);
    }
  });

  test('echo tells the prompt with the probabilities that its tokens have when they are written', async () => {
    const request = {
      prompt: { text: 'abc' },
      temperature: 0,
      maxTokens: 8,
      topLogProbabilities: 2,
      ignoreEnd: true,
    };
    const made = summary(await all(engine, request));
    const ids = [...Buffer.from('abc'), ...made.ids];
    const [prompt, end] = await all(engine, { ...request, prompt: { ids }, maxTokens: 0, echo: true });
    expect(end).toMatchObject({ kind: 'end', reason: 'length', tokens: 0 });
    if (prompt.kind !== 'prompt') throw new Error('no prompt');
    expect(prompt.detail!.map(({ id }) => id)).toEqual(ids);
    expect(prompt.detail![0].probabilities).toBeUndefined();
    const logs = prompt.detail!.slice(3).map(({ probabilities }) => probabilities!.logProbability);
    logs.forEach((log, i) => expect(log).toBeCloseTo(made.logs[i], 4));
  });

  test('pieces never split a character and add up to the text', async () => {
    const text = '🙂é';
    const bias = Object.fromEntries([...Buffer.from(text)].map((id) => [id, 30]));
    const events = await all(engine, { prompt: { text: 'x' }, maxTokens: 200, logitBias: bias, seed: 2 });
    const tokens = events.filter((event) => event.kind === 'token').map(({ id }) => id);
    expect(summary(events).text).toBe(Buffer.from(tokens).toString());
  });
});

describe('many requests at once', () => {
  const requests = Array.from({ length: 64 }, (_, i): GenerationRequest => {
    const length = 1 + ((i * 37) % 90) + (i % 9 === 0 ? 230 : 0);
    return {
      prompt: { ids: Array.from({ length }, (_, t) => (i * 31 + t * 17) % 250) },
      ...{ maxTokens: 4 + (i % 13), seed: i, temperature: i % 2, topLogProbabilities: 0 },
      ...{ routing: true, ignoreEnd: true },
    };
  });

  test('64 together give what each gives alone, with complete traces', async () => {
    const together = (await Promise.all(requests.map((request) => all(engine, request)))).map(summary);
    for (const [i, request] of requests.entries()) {
      const alone = summary(await all(engine, request));
      expect(together[i].ids, `request ${i}`).toEqual(alone.ids);
      expect(together[i].trace, `request ${i}`).toEqual(alone.trace);
      alone.logs.forEach((log, t) => expect(together[i].logs[t]).toBeCloseTo(log, 4));
      const length = (request.prompt as { ids: number[] }).ids.length;
      expect(alone.trace).toHaveLength(length + alone.ids.length - 1);
      for (const layers of alone.trace) {
        expect(layers).toHaveLength(3);
        for (const experts of layers) {
          expect(experts).toHaveLength(2);
          for (const expert of experts) expect(expert).toBeGreaterThanOrEqual(0);
        }
      }
    }
  }, 120_000);

  test('a long prompt does not hold up short ones', async () => {
    const order: string[] = [];
    const ids = Array.from({ length: 560 }, (_, i) => i % 250);
    const long = all(engine, { prompt: { ids }, maxTokens: 1 }).then(() => order.push('long'));
    const short = all(engine, { prompt: { text: 'ab' }, maxTokens: 4, ignoreEnd: true }).then(() =>
      order.push('short'),
    );
    await Promise.all([long, short]);
    expect(order).toEqual(['short', 'long']);
  });
});

describe('limits', () => {
  test('a full queue refuses, and says when to come back', async () => {
    const narrow = await open('languageModel', { slots: 1, queueLimit: 2 });
    const request = { prompt: { text: 'a' }, maxTokens: 3, ignoreEnd: true };
    const taken = [all(narrow, request), all(narrow, request)];
    await expect(all(narrow, request)).rejects.toThrow(QueueFullError);
    await expect(all(narrow, request)).rejects.toMatchObject({ limit: 2, retryAfterSeconds: 2 });
    for (const events of await Promise.all(taken)) expect(events.at(-1)!.kind).toBe('end');
    expect((await narrow.stats()).requests).toMatchObject({ completed: 2, refused: 2 });
    await narrow.stop();
  });

  test('no more texts than slots are written at once', async () => {
    const narrow = await open('languageModel', { slots: 2 });
    const request = { prompt: { text: 'a' }, maxTokens: 6, ignoreEnd: true };
    const taken = Array.from({ length: 6 }, () => all(narrow, request));
    let most = 0;
    const watch = setInterval(
      () => void narrow.stats().then(({ running }) => (most = Math.max(most, running))),
      1,
    );
    await Promise.all(taken);
    clearInterval(watch);
    expect(most).toBe(2);
    await narrow.stop();
  });

  test('time limits end requests that run and requests that wait', async () => {
    const narrow = await open('languageModel', { slots: 1 });
    const endless = { prompt: { text: 'a' }, ignoreEnd: true, timeLimitMilliseconds: 60 };
    const taken = [all(narrow, endless), all(narrow, { ...endless, timeLimitMilliseconds: 5 })];
    for (const failed of await Promise.allSettled(taken))
      expect(failed).toMatchObject({ status: 'rejected', reason: expect.any(TimeLimitError) as unknown });
    const next = await all(narrow, { prompt: { text: 'a' }, maxTokens: 2, ignoreEnd: true });
    expect(next.at(-1)).toMatchObject({ tokens: 2 });
    await narrow.stop();
  });

  test('an aborted request ends within one token and frees its slot', async () => {
    const narrow = await open('languageModel', { slots: 1 });
    const controller = new AbortController();
    let tokens = 0;
    const reading = async (): Promise<void> => {
      const request = { prompt: { text: 'a' }, ignoreEnd: true };
      for await (const event of narrow.generate(request, controller)) {
        if (event.kind === 'token' && ++tokens === 3) controller.abort(new Error('the reader left'));
      }
    };
    await expect(reading()).rejects.toThrow('the reader left');
    await all(narrow, { prompt: { text: 'a' }, maxTokens: 1, ignoreEnd: true });
    const { requests, generatedTokens, running } = await narrow.stats();
    expect(requests).toMatchObject({ cancelled: 1, completed: 1 });
    expect(running).toBe(0);
    // Those that were read, one that was on its way, and the next request's.
    expect(generatedTokens).toBeLessThanOrEqual(tokens + 2);
    await narrow.stop();
  });

  test('200 abandoned requests leave nothing behind', async () => {
    for (let i = 0; i < 200; i++) {
      const request = { prompt: { text: `number ${i}` }, ignoreEnd: true };
      for await (const event of engine.generate(request)) if (event.kind === 'token') break;
    }
    expect(await all(engine, { prompt: { text: 'a' }, maxTokens: 1, ignoreEnd: true })).toHaveLength(3);
    expect(await engine.stats()).toMatchObject({ running: 0, queued: 0 });
  });

  test('a text waits for a reader that is slower', async () => {
    const narrow = await open('languageModel');
    const before = (await narrow.stats()).generatedTokens;
    const reader = narrow.generate({ prompt: { text: 'a' }, ignoreEnd: true })[Symbol.asyncIterator]();
    await reader.next();
    const other = await all(narrow, { prompt: { text: 'b' }, maxTokens: 150, ignoreEnd: true });
    expect(other.at(-1)).toMatchObject({ tokens: 150 });
    expect((await narrow.stats()).generatedTokens - before - 150).toBeLessThan(70);
    let tokens = 0;
    for (;;) {
      const { done, value } = await reader.next();
      if (done) break;
      if (value.kind === 'token') tokens++;
    }
    expect(tokens).toBe(599);
    await narrow.stop();
  });

  test('stop finishes what has begun, refuses what comes, and fails what takes too long', async () => {
    const [patient, hasty] = [await open('languageModel'), await open('languageModel')];
    const request = { prompt: { text: 'a' }, maxTokens: 30, ignoreEnd: true };
    const done = all(patient, request);
    const stopped = patient.stop();
    await expect(all(patient, request)).rejects.toThrow(EngineUnavailableError);
    expect((await done).at(-1)).toMatchObject({ tokens: 30 });
    await stopped;
    expect(patient.state).toBe('stopped');
    const cut = all(hasty, { ...request, maxTokens: 500 });
    const settled = expect(cut).rejects.toThrow('the server stops');
    await hasty.stop({ graceMilliseconds: 20 });
    await settled;
  });
});

test.each([
  [{ prompt: { text: '' } }, 'prompt: has no token'],
  [{ prompt: { ids: [1, 999] } }, 'prompt.ids.1: 999 is no token; ids are below 259'],
  [
    { prompt: { messages: [{ role: 'user', content: 'Hi' }] } },
    'prompt.messages: the model has no chat template',
  ],
  [{ prompt: 'Hi' }, 'prompt: must be {text}, {ids} or'],
  [{ prompt: { ids: Array<number>(700).fill(1) } }, 'prompt: has 700 tokens; the model takes at most 599'],
  [{ prompt: { text: 'a' }, temperature: NaN }, 'temperature: '],
  [{ prompt: { text: 'a' }, maxTokens: -1 }, 'maxTokens: '],
  [{ prompt: { text: 'a' }, n: 65 }, 'n: 65 texts are more than the 64 at once'],
  [{ prompt: { text: 'a' }, logitBias: { 259: 1 } }, 'logitBias.259: is no token'],
  [{ prompt: { text: 'a' }, stop: [''] }, 'stop.0: is empty'],
  [{ prompt: { text: 'a' }, surprise: 1 }, 'surprise'],
])('bad request %#', async (request, message) => {
  const asked = all(engine, request as GenerationRequest);
  await expect(asked).rejects.toThrow(message);
  await expect(asked).rejects.toBeInstanceOf(RequestError);
});

describe('encoder–decoders', () => {
  test('16 together write what each writes alone, with traces of both sides', async () => {
    const pairs = await open('encoderDecoder');
    const { model, weights } = smallModel('encoderDecoder');
    const generator = await Generator.create(model as LanguageModel, weights);
    const requests = Array.from({ length: 16 }, (_, i) => ({
      prompt: { text: 'source '.repeat(1 + (i % 6)) + i },
      ...{ maxTokens: 70, temperature: 0, routing: true, seed: 1 },
    }));
    const together = await Promise.all(requests.map((request) => all(pairs, request)));
    for (const [i, request] of requests.entries()) {
      const ids = [...Buffer.from(request.prompt.text), 258];
      const options = { maxTokens: 70, temperature: 0, topK: 0, topP: 1, seed: 1, stopTokens: [258] };
      const [expected] = await generator.complete([ids], { ...options, vocabSize: 259 });
      const made = summary(together[i]);
      expect(made.ids).toEqual(expected.ids);
      expect(made.trace).toHaveLength(ids.length + made.ids.length - 1);
      expect(together[i][0]).toMatchObject({ tokens: ids.length });
      const [first] = made.trace;
      expect(first.map((experts) => experts[0] >= 0)).toEqual([true, true, false, false]);
      const last = made.trace.at(-1)!;
      expect(last.map((experts) => experts[0] >= 0)).toEqual([false, false, true, true]);
    }
    await Promise.all([pairs.stop(), generator.release()]);
  });

  test('make vectors of length 1, the same in company', async () => {
    const pairs = await open('encoderDecoder');
    const inputs = ['one', 'two and three', 'a third text that is longer', 'four'];
    const together = await pairs.embed({ inputs });
    for (const [i, input] of inputs.entries()) {
      const [alone] = await pairs.embed({ inputs: [input] });
      alone.vector.forEach((number, at) => expect(together[i].vector[at]).toBeCloseTo(number, 5));
      expect(Math.hypot(...alone.vector)).toBeCloseTo(1, 6);
      expect(alone.tokens).toBe(input.length + 1);
    }
    await pairs.stop();
  });
});

test('classifiers tell classes with probabilities, alone and in company, and do not write', async () => {
  const classifier = await open('classifier');
  const inputs = ['one', 'two and three', 'a third text that is longer', [1, 2, 3]];
  const together = await classifier.classify({ inputs, routing: true });
  for (const [i, input] of inputs.entries()) {
    const [alone] = await classifier.classify({ inputs: [input] });
    alone.probabilities.forEach((p, at) => expect(together[i].probabilities[at]).toBeCloseTo(p, 5));
    expect(together[i].label).toBe(alone.label);
    expect(together[i].routing).toHaveLength(alone.tokens);
  }
  await expect(all(classifier, { prompt: { text: 'a' } })).rejects.toThrow('which does not write text');
  await expect(classifier.classify({ inputs: ['x'.repeat(60)] })).rejects.toThrow('inputs.0: has 61 tokens');
  const tokens = together.reduce((sum, text) => sum + text.tokens, 0);
  const numbers = 2 * tokens;
  const { passes } = await classifier.stats();
  await expect(classifier.classify({ inputs, tokenLimit: tokens - 1 })).rejects.toThrow(
    `inputs: have ${tokens} tokens in all, and ${tokens - 1} are allowed`,
  );
  await expect(classifier.embed({ inputs, routing: true, routingLimit: numbers - 1 })).rejects.toThrow(
    `routing: would be ${numbers} numbers, and ${numbers - 1} are allowed`,
  );
  expect((await classifier.stats()).passes).toBe(passes);
  const within = { inputs, routing: true, tokenLimit: tokens, routingLimit: numbers };
  expect(await classifier.classify(within)).toHaveLength(inputs.length);
  await classifier.stop();
});

test('models that need their text in one piece are served over their whole window', async () => {
  const memory = await open(
    'languageModel',
    {},
    {
      ...{
        positions: 'transformerXL',
        memoryLength: 8,
        evaluationMemoryLength: 8,
        contextLength: 16,
        norm: 'layer',
      },
    },
  );
  const request = {
    prompt: { text: 'abc' },
    maxTokens: 30,
    temperature: 0,
    seed: 1,
    routing: true,
    ignoreEnd: true,
  };
  const [one, two] = await Promise.all([all(memory, request), all(memory, request)]);
  expect(one).toEqual(two);
  expect(summary(one).trace).toHaveLength(3 + 21 - 1);
  await memory.stop();
});

describe('a pass that fails', () => {
  /** An engine of which no pass works whose name says so. */
  async function failing(kind: Parameters<typeof smallPrepared>[0], isBroken: (name: string) => boolean) {
    const prepared = smallPrepared(kind);
    const { passes } = prepared;
    const broken: PreparedModel['passes'] = {
      async get(name, trace) {
        const pass = await passes.get(name, trace);
        return {
          run: (feeds) => (isBroken(name) ? Promise.reject(new Error('bad sector')) : pass.run(feeds)),
        };
      },
      release: () => passes.release(),
    };
    return new Engine(await servedParts({ ...prepared, passes: broken }));
  }

  test('ends the requests that were in it; those in other passes go on as they would alone', async () => {
    const written = { maxTokens: 12, temperature: 0, ignoreEnd: true, routing: true };
    const requests = [
      { prompt: { text: 'short' }, ...written },
      { prompt: { text: 'long '.repeat(60) }, ...written },
      { prompt: { text: 'another' }, ...written, maxTokens: 40 },
    ];
    for (const isBroken of [
      (name: string): boolean => / × 1 after (512|600)/.test(name),
      (name: string): boolean => / × (64|256) after (512|600)/.test(name),
    ]) {
      const served = await failing('languageModel', isBroken);
      const results = await Promise.allSettled(requests.map((request) => all(served, request)));
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      const [short, long, another] = results as [
        PromiseFulfilledResult<EngineEvent[]>,
        PromiseRejectedResult,
        PromiseFulfilledResult<EngineEvent[]>,
      ];
      expect(long.reason).toBeInstanceOf(EngineUnavailableError);
      expect((long.reason as Error).message).toBe('the engine failed: bad sector');
      for (const [made, at] of [[short, 0] as const, [another, 2] as const])
        expect(summary(made.value).ids).toEqual(summary(await all(engine, { ...requests[at], seed: 1 })).ids);
      expect(await served.stats()).toMatchObject({
        running: 0,
        queued: 0,
        requests: { failed: 1, completed: 2 },
      });
      await served.stop();
    }
  });

  test('ends the requests whose whole texts or sources were in it', async () => {
    const pairs = await failing('encoderDecoder', (name) => /^(embed|read) \d+ × 32/.test(name));
    const long = 'a source of twenty letters';
    const results = await Promise.allSettled([
      pairs.embed({ inputs: ['one'] }),
      pairs.embed({ inputs: ['two', long] }),
      all(pairs, { prompt: { text: 'three' }, maxTokens: 4 }),
      all(pairs, { prompt: { text: long }, maxTokens: 4 }),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected']);
    await pairs.stop();
  });
});
