import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { saveSmallModel, smallModel, withoutX } from '../../../test/support/served-models.js';
import { temporaryFolder } from '../../../test/support/tiny-training.js';
import { nameParameters, ParameterArena } from '../../nn/index.js';
import type { EngineSource } from '../engine/engine-source.js';
import { openEngine } from '../engine/open-engine.js';
import type { EngineClient, EngineEvent, GenerationRequest } from '../engine-client.js';
import { EngineUnavailableError, QueueFullError, RequestError, TimeLimitError } from '../engine-errors.js';
import {
  fromWeights,
  predictorSchema,
  RoutingPredictor,
  routingFingerprint,
  savePredictor,
} from '../predictor/index.js';
import { ChildEngine, type ChildEngineOptions } from './child-engine.js';

// Node runs no TypeScript: the built program.
const program = new URL('../../../dist/serve/process/engine-process.js', import.meta.url);
let folder: string;
let engine: ChildEngine;

const start = (options: ChildEngineOptions = {}, kind = 'languageModel'): Promise<ChildEngine> =>
  ChildEngine.start({ path: join(folder, kind) }, { program, backOffMilliseconds: 100, ...options });

async function all(
  client: EngineClient,
  request: GenerationRequest,
  signal?: AbortSignal,
): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  for await (const event of client.generate(request, signal && { signal })) events.push(event);
  return events;
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Whether there is a process. */
function lives(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

beforeAll(async () => {
  folder = await temporaryFolder();
  await saveSmallModel(join(folder, 'languageModel'), 'languageModel');
  await saveSmallModel(join(folder, 'classifier'), 'classifier');
  engine = await start();
});
afterAll(async () => {
  await engine.stop({ graceMilliseconds: 0 });
  await rm(folder, { recursive: true });
});

const request = { prompt: { text: 'Once' }, ...{ maxTokens: 12, seed: 4, ignoreEnd: true } };
const endless = { prompt: { text: 'Once' }, ignoreEnd: true };

describe('answers as an engine in this process', () => {
  test('texts with all details', async () => {
    const here = await openEngine({ path: join(folder, 'languageModel') });
    const detailed = { ...request, ...{ routing: true, topLogProbabilities: 3, echo: true, n: 2 } };
    expect(engine.model).toEqual(here.model);
    expect(await all(engine, detailed)).toEqual(await all(here, detailed));
    await here.stop();
  });

  test('classes', async () => {
    const here = await openEngine({ path: join(folder, 'classifier') });
    const there = await start({}, 'classifier');
    const texts = { inputs: ['one', 'two'], routing: true };
    expect(await there.classify(texts)).toEqual(await here.classify(texts));
    expect(await there.embed(texts)).toEqual(await here.embed(texts));
    await expect(all(there, request)).rejects.toThrow(RequestError);
    await Promise.all([here.stop(), there.stop()]);
  });

  test('errors with their fields', async () => {
    const bad = { prompt: { text: 'a' }, logitBias: { 999: 1 } };
    await expect(all(engine, bad)).rejects.toMatchObject({
      field: 'logitBias.999',
      message: 'logitBias.999: is no token; ids are below 259',
    });
    const narrow = await start({ limits: { slots: 1, queueLimit: 1 } });
    const controller = new AbortController();
    const many = [1, 2, 3, 4].map(() => all(narrow, endless, controller.signal));
    await expect(Promise.race(many)).rejects.toBeInstanceOf(QueueFullError);
    controller.abort(new Error('enough'));
    const errors = (await Promise.allSettled(many)).map(
      (ended) => (ended as { reason: Error }).reason.message,
    );
    expect(errors.filter((message) => message === 'enough').length).toBeGreaterThanOrEqual(1);
    const late = all(narrow, { ...endless, timeLimitMilliseconds: 10 });
    await expect(late).rejects.toBeInstanceOf(TimeLimitError);
    await narrow.stop();
  });
});

test('a reader that leaves ends its request', async () => {
  let tokens = 0;
  for await (const event of engine.generate(endless)) if (event.kind === 'token' && ++tokens === 3) break;
  await all(engine, request);
  expect(await engine.stats()).toMatchObject({ running: 0, queued: 0 });
  expect((await engine.stats()).generatedTokens).toBeLessThan(400);
});

test('what a slow reader has not read does not pile up', async () => {
  const before = (await engine.stats()).generatedTokens;
  const reader = engine.generate(endless)[Symbol.asyncIterator]();
  await reader.next();
  await all(engine, { ...request, maxTokens: 400 });
  expect((await engine.stats()).generatedTokens - before - 400).toBeLessThan(200);
  let tokens = 0;
  for (let step = await reader.next(); !step.done; step = await reader.next()) tokens++;
  expect(tokens).toBe(596 + 1);
});

test('kill -9: running requests fail at once, the process comes back, later requests are answered', async () => {
  const lines: string[] = [];
  const killed = await start({ onLog: (line) => lines.push(line) });
  const expected = await all(killed, request);
  const before = killed.pid!;
  const failing: Promise<unknown>[] = [all(killed, endless), all(killed, endless)];
  for (const failed of failing) failed.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 200));
  process.kill(before, 'SIGKILL');
  for (const failed of await Promise.allSettled(failing)) {
    expect(failed).toMatchObject({
      status: 'rejected',
      reason: expect.any(EngineUnavailableError) as unknown,
    });
  }
  expect(killed.state).toBe('restarting');
  await expect(all(killed, request)).rejects.toThrow('the engine is restarting');
  expect(await killed.stats()).toMatchObject({ running: 0, requests: { failed: 2 } });
  await until(() => killed.state === 'ready');
  expect(killed.pid).not.toBe(before);
  expect(await all(killed, request)).toEqual(expected);
  const { restarts, requests } = await killed.stats();
  expect({ restarts, ...requests }).toMatchObject({ restarts: 1, failed: 2 });
  expect(lines).toEqual(["the engine's process was ended by SIGKILL; it is started again in 0.1 s"]);
  await killed.stop();
});

test('stop finishes what runs, and leaves no process', async () => {
  const stopping = await start();
  const pid = stopping.pid!;
  const running = all(stopping, { ...request, maxTokens: 60 });
  await until(() => true);
  // As a terminal or a service manager does: everybody is told, the engine's process included.
  process.kill(pid, 'SIGTERM');
  const stopped = stopping.stop();
  expect(stopping.state).toBe('stopping');
  await expect(all(stopping, request)).rejects.toThrow('the engine is stopping');
  expect((await running).at(-1)).toMatchObject({ kind: 'end', tokens: 60 });
  await stopped;
  expect(stopping.state).toBe('stopped');
  expect(lives(pid)).toBe(false);
});

test('stop waits until slower readers have what was finished', async () => {
  const stopping = await start();
  const reader = stopping.generate({ ...request, maxTokens: 180 });
  await reader.next();
  await until(async () => (await stopping.stats()).requests.completed === 1);
  const stopped = stopping.stop();
  // As long as it would take if nobody were waited for.
  await new Promise((next) => setTimeout(next, 300));
  const events: EngineEvent[] = [];
  for await (const event of reader) events.push(event);
  expect(events).toHaveLength(181);
  expect(events.at(-1)).toMatchObject({ kind: 'end', tokens: 180 });
  await stopped;
});

test('a slower reader holds up a stop no longer than its time, and has what came', async () => {
  const stopping = await start();
  const reader = stopping.generate({ ...request, maxTokens: 180 });
  await reader.next();
  await until(async () => (await stopping.stats()).requests.completed === 1);
  await stopping.stop({ graceMilliseconds: 100 });
  let tokens = 0;
  const reading = async (): Promise<void> => {
    for await (const { kind } of reader) if (kind === 'token') tokens++;
  };
  await expect(reading()).rejects.toThrow("the engine's process ended");
  expect(tokens).toBe(127);
});

test('what came before the process died is read, and then the error', async () => {
  const killed = await start();
  const reader = killed.generate(endless);
  await reader.next();
  // The engine goes on until its own queue is full behind what it may send.
  await until(async () => (await killed.stats()).generatedTokens >= 127 + 64);
  process.kill(killed.pid!, 'SIGKILL');
  await until(() => killed.state === 'restarting');
  let tokens = 0;
  const reading = async (): Promise<void> => {
    for await (const { kind } of reader) if (kind === 'token') tokens++;
  };
  await expect(reading()).rejects.toThrow('was ended by SIGKILL');
  expect(tokens).toBe(127);
  await killed.stop();
});

test('stop without time fails what runs, and leaves no process', async () => {
  const stopping = await start();
  const pid = stopping.pid!;
  const running = all(stopping, endless);
  running.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await stopping.stop({ graceMilliseconds: 0 });
  await expect(running).rejects.toThrow(EngineUnavailableError);
  expect(lives(pid)).toBe(false);
});

test('numbers that are none fail their request, and the process lives', async () => {
  const untied = { tieEmbeddings: false };
  await saveSmallModel(join(folder, 'withoutX'), 'languageModel', untied, withoutX);
  await saveSmallModel(join(folder, 'classifierWithoutX'), 'classifier', {}, withoutX);
  const [writes, tells] = [await start({}, 'withoutX'), await start({}, 'classifierWithoutX')];
  const pids = [writes.pid, tells.pid];
  const bad = { prompt: { text: 'an x' }, maxTokens: 0, echo: true, topLogProbabilities: 1 };
  await expect(all(writes, bad)).rejects.toThrow('the model gave no numbers for the prompt');
  await expect(all(writes, { ...bad, maxTokens: 2, echo: false })).rejects.toThrow(
    'the model gave no numbers for text 0',
  );
  await expect(tells.classify({ inputs: ['x'] })).rejects.toThrow('the model gave no numbers for inputs.0');
  await expect(tells.embed({ inputs: ['1', 'x'] })).rejects.toThrow('for inputs.1');
  expect(await tells.classify({ inputs: ['one'] })).toHaveLength(1);
  expect([writes.pid, tells.pid]).toEqual(pids);
  expect((await tells.stats()).restarts).toBe(0);
  await Promise.all([writes.stop(), tells.stop()]);
});

test('a folder that cannot be opened says why', async () => {
  await expect(ChildEngine.start({ path: join(folder, 'nothing') }, { program })).rejects.toThrow('nothing');
});

describe('with a predictor', () => {
  const texts = { inputs: ['one', 'two and three', 'a third text'], routing: true };
  const open = (source: Partial<EngineSource>, kind = 'classifier'): Promise<ChildEngine> =>
    ChildEngine.start(
      { path: join(folder, kind), predictor: join(folder, 'predictor'), ...source },
      { program },
    );

  beforeAll(async () => {
    const { model, weights } = smallModel('classifier');
    const layers = [0, 1].map((layerIndex) => ({
      ...{ name: `encoder.${layerIndex}`, layerIndex, numExperts: 8, topK: 1 },
    }));
    const options = predictorSchema.parse({ embeddingSize: 16, hiddenSize: 8, layers });
    const parameters = nameParameters(new RoutingPredictor(options));
    await savePredictor(join(folder, 'predictor'), {
      options,
      trainedFor: await routingFingerprint(model, fromWeights(weights)),
      weights: ParameterArena.allocate(parameters).initialize(parameters, 3).views,
    });
  });

  test('prefetch changes nothing, sida routes as predicted', async () => {
    const plain = await start({}, 'classifier');
    const expected = await plain.classify(texts);
    const [ahead, sida] = [await open({ mode: 'prefetch' }), await open({ mode: 'sida' })];
    expect(await ahead.classify(texts)).toEqual(expected);
    const predicted = await sida.classify(texts);
    expect(predicted.map(({ routing }) => routing)).not.toEqual(expected.map(({ routing }) => routing));
    for (const { probabilities } of predicted)
      expect(probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
    expect(sida.model.settings).toMatchObject({ mode: 'sida' });
    await Promise.all([plain.stop(), ahead.stop(), sida.stop()]);
  });

  test('what cannot be predicted is refused when it is opened', async () => {
    await expect(open({ mode: 'sida' }, 'languageModel')).rejects.toThrow('was made for another model');
    await expect(open({ mode: 'none' })).rejects.toThrow('mode none needs no predictor');
  });
});
