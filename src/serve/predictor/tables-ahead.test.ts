import { expect, test } from 'vitest';
import type { HashTable, TablePredictor } from './hash-table.js';
import { TablesAhead } from './tables-ahead.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Answers in order when told to. The expert of a token is its id. */
class SlowPredictor implements TablePredictor {
  readonly asked: number[][][] = [];
  readonly waiting: ((refused: boolean) => void)[] = [];

  async predict(rows: readonly Int32Array[]): ReturnType<TablePredictor['predict']> {
    this.asked.push(rows.map((row) => [...row]));
    if (await new Promise<boolean>((resolve) => this.waiting.push(resolve)))
      throw new Error('its process has ended');
    const layer = { name: 'encoder.1', layerIndex: 1, numExperts: 100, topK: 1 };
    const experts = Int32Array.from(rows.flatMap((row) => [...row]));
    return [{ layer, topK: 1, experts, probabilities: new Float32Array(experts.length).fill(0.5) }];
  }

  /** Answers the question that has waited longest. */
  async answer(refused = false): Promise<void> {
    this.waiting.shift()!(refused);
    await turn();
  }
}

const request = { over: false };
/** Different texts of one to three tokens. */
const texts = Array.from({ length: 40 }, (_, i) => Array.from({ length: 1 + (i % 3) }, (_t, t) => i + t));
const rowsOf = (...numbers: number[]): Int32Array[] => numbers.map((i) => Int32Array.from(texts[i]));
const experts = ({ layers }: HashTable): number[] => [...layers.get('encoder.1')!.experts];

test('what is expected is foretold before a pass wants it, in whatever order passes read', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor);
  tables.expect(texts.slice(0, 20), request);
  expect(predictor.asked).toEqual([texts.slice(0, 16), texts.slice(16, 20)]);
  const first = tables.tableFor(rowsOf(0));
  await predictor.answer();
  await predictor.answer();
  expect(experts(await first)).toEqual(texts[0]);
  for (const batch of [[5, 19, 2], [1], [18, 3]])
    expect(experts(await tables.tableFor(rowsOf(...batch)))).toEqual(batch.flatMap((i) => texts[i]));
  expect(predictor.asked).toHaveLength(2);
  expect(tables.stats).toMatchObject({ tables: 4, tableWaits: 1 });
  expect(tables.ahead).toBe(20 - 7);
});

test('it runs ahead no further than there is room', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor, 20);
  tables.expect(texts, request);
  expect(predictor.asked.map(({ length }) => length)).toEqual([16, 4]);
  await predictor.answer();
  await predictor.answer();
  expect(predictor.asked).toHaveLength(2);
  await tables.tableFor(rowsOf(0, 1, 2));
  expect(predictor.asked.slice(2)).toEqual([texts.slice(20, 23)]);
  expect(tables.ahead).toBe(20);
});

test('a predictor that is slower has two questions, and takes later texts together', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor);
  for (const text of texts.slice(0, 6)) tables.expect([text], request);
  expect(predictor.asked).toEqual([[texts[0]], [texts[1]]]);
  await predictor.answer();
  expect(predictor.asked[2]).toEqual(texts.slice(2, 6));
});

test('texts of requests that are over are forgotten', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor);
  const [first, second] = [{ over: false }, { over: false }];
  tables.expect(texts.slice(0, 33), first);
  tables.expect(texts.slice(32, 36), second);
  first.over = true;
  await predictor.answer();
  expect(predictor.asked[2]).toEqual(texts.slice(32, 36));
  expect(tables.ahead).toBe(4);
  second.over = true;
  await predictor.answer();
  expect(tables.ahead).toBe(0);
});

test('a text that several requests have is foretold once, and one that none had when it is wanted', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor);
  tables.expect([texts[0], texts[0]], request);
  tables.expect([texts[0]], request);
  expect(predictor.asked).toEqual([[texts[0]]]);
  await predictor.answer();
  await tables.tableFor(rowsOf(0, 0));
  const mixed = tables.tableFor(rowsOf(7, 0, 8));
  expect(predictor.asked[1]).toEqual([texts[7], texts[8]]);
  await predictor.answer();
  expect(experts(await mixed)).toEqual([7, 0, 8].flatMap((i) => texts[i]));
  expect(tables.ahead).toBe(0);
});

test('a prediction that fails is the error of the pass that waits for it; later passes ask once more', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor);
  tables.expect(texts.slice(0, 2), request);
  const waiting = tables.tableFor(rowsOf(0));
  const refused = expect(waiting).rejects.toThrow('its process has ended');
  await predictor.answer(true);
  await refused;
  const again = tables.tableFor(rowsOf(1));
  await predictor.answer();
  expect(experts(await again)).toEqual(texts[1]);
});
