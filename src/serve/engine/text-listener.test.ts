import { expect, test } from 'vitest';
import { smallPrepared } from '../../../test/support/served-models.js';
import { Engine } from './engine.js';
import type { TextListener } from './hooks.js';
import { servedParts } from './served-parts.js';

test('texts are announced when their request arrives, while others still have the slots', async () => {
  const heard: { texts: readonly (readonly number[])[]; request: { readonly over: boolean } }[] = [];
  const listener: TextListener = { expect: (texts, request) => void heard.push({ texts, request }) };
  const engine = new Engine(await servedParts({ ...smallPrepared('classifier'), listener }), { slots: 1 });
  const leaving = new AbortController();
  const first = engine.classify({ inputs: [[1, 2, 3], [4]] });
  const second = engine.embed({ inputs: [[5, 6]] }, { signal: leaving.signal });
  second.catch(() => undefined);
  await Promise.resolve();
  expect(heard.map(({ texts }) => texts)).toEqual([[[1, 2, 3], [4]], [[5, 6]]]);
  leaving.abort();
  await expect(second).rejects.toThrow();
  expect(heard.map(({ request }) => request.over)).toEqual([false, true]);
  await first;
  expect(heard[0].request.over).toBe(true);
  await engine.stop();
});
