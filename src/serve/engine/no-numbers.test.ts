import { expect, test } from 'vitest';
import { smallPrepared, withoutX } from '../../../test/support/served-models.js';
import type { EngineEvent, GenerationRequest } from '../engine-client.js';
import { EngineUnavailableError } from '../engine-errors.js';
import { Engine } from './engine.js';
import { servedParts } from './served-parts.js';

const open = async (kind: Parameters<typeof smallPrepared>[0], change: object = {}): Promise<Engine> =>
  new Engine(await servedParts(smallPrepared(kind, change, withoutX)));

async function all(engine: Engine, request: GenerationRequest): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  for await (const event of engine.generate(request)) events.push(event);
  return events;
}

test('classes and vectors that are no numbers fail their request alone', async () => {
  const engine = await open('classifier');
  for (const task of ['classify', 'embed'] as const) {
    const one = { inputs: ['one'] };
    const alone = await engine[task](one);
    const [good, bad] = await Promise.allSettled([engine[task](one), engine[task]({ inputs: ['1', 'x'] })]);
    expect(good.status).toBe('fulfilled');
    const { reason } = bad as PromiseRejectedResult;
    expect(reason).toBeInstanceOf(EngineUnavailableError);
    expect((reason as Error).message).toMatch(
      /^the model gave no numbers for inputs\.1: .* (class|number) 0 is NaN$/,
    );
    expect(await engine[task](one)).toEqual(alone);
  }
  expect((await engine.stats()).requests).toMatchObject({ completed: 6, failed: 2 });
  await engine.stop();
});

test.each(['languageModel', 'encoderDecoder'] as const)(
  '%s: scores that are no numbers fail their request alone, and nothing of it reaches the next ones',
  async (kind) => {
    const engine = await open(kind, { tieEmbeddings: false });
    const request = (text: string): GenerationRequest => ({
      prompt: { text },
      ...{ maxTokens: 8, temperature: 0, logitBias: { 120: -100 }, ignoreEnd: true },
    });
    const refused = 'the model gave no numbers for text 0: the score of token 0 is not a number';
    const expected = await all(engine, request('one'));
    await expect(all(engine, request('x and'))).rejects.toThrow(refused);
    expect((await all(engine, request('one'))).slice(1)).toEqual(expected.slice(1));
    const bad = [all(engine, request('x')), all(engine, { ...request('two x'), temperature: 1, n: 2 })];
    const together = [all(engine, request('one')), ...bad, all(engine, request('one'))];
    const [first, ...ended] = await Promise.allSettled(together);
    for (const good of [first, ended.pop()!])
      expect((good as PromiseFulfilledResult<EngineEvent[]>).value.slice(1)).toEqual(expected.slice(1));
    for (const failed of ended) expect(failed).toMatchObject({ reason: { message: refused } });
    for (let i = 0; i < 4; i++)
      expect((await all(engine, request('one'))).slice(1)).toEqual(expected.slice(1));
    expect((await engine.stats()).requests).toMatchObject({ failed: 3 });
    await engine.stop();
  },
);

test('a prompt whose probabilities are no numbers fails alone', async () => {
  const engine = await open('languageModel', { tieEmbeddings: false });
  const request = { maxTokens: 0, echo: true, topLogProbabilities: 2 };
  const [good, bad] = await Promise.allSettled([
    all(engine, { ...request, prompt: { text: 'one' } }),
    all(engine, { ...request, prompt: { text: 'axe' } }),
  ]);
  expect(good.status).toBe('fulfilled');
  expect(bad).toMatchObject({
    reason: {
      message:
        'the model gave no numbers for the prompt: a score is not a number, or the highest is infinite',
    },
  });
  await engine.stop();
});
