import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { merge } from './merge.js';

const unhandled: unknown[] = [];
const note = (reason: unknown): void => void unhandled.push(reason);
beforeEach(() => void process.on('unhandledRejection', note));
afterEach(() => {
  process.off('unhandledRejection', note);
  unhandled.length = 0;
});

/** Events until the source fails, with a turn of the event loop before each. */
async function* failing(events: readonly string[], ended: () => void): AsyncGenerator<string> {
  try {
    for (const event of events) {
      yield event;
      await turn();
    }
    throw new Error('the engine was lost');
  } finally {
    ended();
  }
}

async function* endless(ended: () => void): AsyncGenerator<string> {
  try {
    for (;;) {
      yield 'on';
      await turn();
    }
  } finally {
    ended();
  }
}

test('a source that fails while its reader takes its time is no unhandled rejection; the reader is told later', async () => {
  let ended = 0;
  const both = merge([failing(['first'], () => ended++), endless(() => ended++)]);
  expect((await both.next()).value).toEqual({ source: 0, event: 'first' });
  // The reader is stalled: the source fails, and Node would end the process.
  for (let i = 0; i < 5; i++) await turn();
  expect(unhandled).toEqual([]);
  const rest = (async () => {
    const events: string[] = [];
    for await (const { event } of both) events.push(event);
    return events;
  })();
  await expect(rest).rejects.toThrow('the engine was lost');
  await turn();
  expect(ended).toBe(2);
  expect(unhandled).toEqual([]);
});

test('a source that fails after its reader has left is of no interest', async () => {
  let ended = 0;
  const both = merge([failing(['first'], () => ended++), endless(() => ended++)]);
  for await (const { event } of both) {
    expect(event).toBe('first');
    break;
  }
  for (let i = 0; i < 5; i++) await turn();
  expect(ended).toBe(2);
  expect(unhandled).toEqual([]);
});
