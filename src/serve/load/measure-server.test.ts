import { expect, test } from 'vitest';
import { startServer } from '../../../test/support/http.js';
import { measureServer, percentiles } from './measure-server.js';

const load = { concurrency: 3, requests: 10, warmUp: 2, promptTokens: 5, tokens: 4, seed: 1 };

test('counts what clients see, and not what comes before', async () => {
  const { url, engine } = await startServer({}, { slots: 8, tokenMilliseconds: 5 });
  const report = await measureServer({ ...load, url });
  expect(report).toMatchObject({ model: 'fake', completed: 10, failed: 0, failures: {} });
  expect(report.tokensPerSecond * report.seconds).toBeCloseTo(40);
  expect(report.promptTokensPerSecond * report.seconds).toBeCloseTo(50);
  expect(report.interTokenMilliseconds!.p50).toBeGreaterThan(2);
  expect(report.firstTokenMilliseconds!.max).toBeLessThan(report.requestMilliseconds!.max);
  expect(engine.mostRunning).toBe(3);
  expect(engine.completed).toBe(12);
});

test('the same seed asks the same', async () => {
  const asked = async (): Promise<unknown> => {
    const { url, engine } = await startServer();
    await measureServer({ ...load, url, concurrency: 1 });
    return engine.requests;
  };
  expect(await asked()).toEqual(await asked());
});

test('failures are counted by their reason', async () => {
  const { url } = await startServer({}, { slots: 1, queueLimit: 0, tokenMilliseconds: 20 });
  const report = await measureServer({ ...load, url, warmUp: 0 });
  expect(report.completed + report.failed).toBe(10);
  expect(Object.keys(report.failures)).toEqual([
    expect.stringMatching(/^status 429: 0 requests are waiting/),
  ]);
});

test('a server that is not there, or wants a key, is told of', async () => {
  const { url, server } = await startServer({ apiKeys: ['sk-0123456789abcdef'] });
  await expect(measureServer({ ...load, url })).rejects.toThrow('/v1/models answered 401');
  expect((await measureServer({ ...load, url, apiKey: 'sk-0123456789abcdef' })).completed).toBe(10);
  await server.close();
  await expect(measureServer({ ...load, url })).rejects.toThrow('cannot be reached');
});

test('percentiles are values that came', () => {
  expect(percentiles([])).toBeNull();
  expect(percentiles([3, 1, 2])).toEqual({ p50: 2, p90: 3, p99: 3, mean: 2, max: 3 });
  expect(percentiles(Array.from({ length: 100 }, (_, i) => i + 1))).toMatchObject({
    p50: 50,
    p90: 90,
    p99: 99,
  });
});
