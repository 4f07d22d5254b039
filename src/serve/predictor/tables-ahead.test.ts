import { describe, expect, test } from 'vitest';
import { BoundedQueue } from './bounded-queue.js';
import type { TablePredictor } from './hash-table.js';
import { TablesAhead } from './tables-ahead.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a bounded queue', () => {
  test('keeps the order, and lets the fast side wait', async () => {
    const queue = new BoundedQueue<number>(2);
    const put: number[] = [];
    const producer = (async () => {
      for (let i = 0; i < 7; i++) {
        await queue.put(i);
        put.push(i);
      }
      queue.end();
    })();
    await turn();
    expect(put).toEqual([0, 1]);
    expect(await queue.take()).toBe(0);
    await turn();
    expect(put).toEqual([0, 1, 2]);
    const taken: number[] = [];
    for (let entry = await queue.take(); entry !== undefined; entry = await queue.take()) {
      expect(queue.length).toBeLessThanOrEqual(2);
      taken.push(entry);
    }
    await producer;
    expect(taken).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('wakes all who wait when it ends', async () => {
    const empty = new BoundedQueue<number>(1);
    const takers = [empty.take(), empty.take()];
    empty.end();
    expect(await Promise.all(takers)).toEqual([undefined, undefined]);
    const full = new BoundedQueue<number>(1);
    await full.put(1);
    const putting = full.put(2);
    full.end();
    await expect(putting).rejects.toThrow('the queue has ended');
    expect(await full.take()).toBe(1);
    expect(await full.take()).toBeUndefined();
  });

  test.each([0, -1, 1.5, NaN])('refuses room for %d', (capacity) => {
    expect(() => new BoundedQueue(capacity)).toThrow(RangeError);
  });
});

/** Answers in order when told to; each table says which texts it is of. */
class SlowPredictor implements TablePredictor {
  begun = 0;
  readonly waiting: (() => void)[] = [];

  async predict(rows: readonly Int32Array[]): ReturnType<TablePredictor['predict']> {
    this.begun++;
    await new Promise<void>((resolve) => this.waiting.push(resolve));
    const layer = { name: 'encoder.1', layerIndex: 1, numExperts: 100, topK: 1 };
    const experts = Int32Array.from(rows.flatMap((row) => [...row]));
    return [{ layer, topK: 1, experts, probabilities: new Float32Array(experts.length).fill(0.5) }];
  }
}

const textsOf = (batch: number): Int32Array[] => [Int32Array.of(batch, batch), Int32Array.of(batch + 50)];

test('tables run ahead of the passes, no further than the queue has room', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor, 3);
  let announced = 0;
  const announcing = (async () => {
    for (let batch = 0; batch < 8; batch++) {
      await tables.announce(textsOf(batch));
      announced++;
    }
    tables.end();
  })();
  await turn();
  expect([announced, predictor.begun, tables.waiting]).toEqual([3, 3, 3]);
  const release = (): void => predictor.waiting.splice(0).forEach((resolve) => resolve());
  for (let batch = 0; batch < 8; batch++) {
    const taking = tables.tableFor(textsOf(batch));
    await turn();
    release();
    const { layers } = await taking;
    expect(layers.get('encoder.1')?.distinct).toEqual([batch, batch + 50]);
    expect(tables.waiting).toBeLessThanOrEqual(3);
    await turn();
    release();
    await turn();
  }
  await announcing;
  const { tables: taken, waits } = tables.stats;
  expect(taken).toBe(8);
  expect(waits).toBe(0);
  await expect(tables.tableFor(textsOf(8))).rejects.toThrow('no table is ahead');
});

test('counts the tables that were not there in time, and refuses another order', async () => {
  const predictor = new SlowPredictor();
  const tables = new TablesAhead(predictor);
  for (const batch of [0, 1, 2]) await tables.announce(textsOf(batch));
  const first = tables.tableFor(textsOf(0));
  await turn();
  predictor.waiting.shift()!();
  await first;
  const second = tables.tableFor(textsOf(1));
  await turn();
  predictor.waiting.shift()!();
  await second;
  expect(tables.stats.waits).toBe(1);
  await expect(tables.tableFor(textsOf(7))).rejects.toThrow('of other texts');
});

test('a prediction that fails is the error of the pass that wanted it', async () => {
  const tables = new TablesAhead({ predict: () => Promise.reject(new Error('its process has ended')) });
  await tables.announce(textsOf(0));
  await turn();
  await expect(tables.tableFor(textsOf(0))).rejects.toThrow('its process has ended');
});
