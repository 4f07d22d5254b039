import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MadeExperts } from '../../../test/support/made-experts.js';
import { routedPasses } from './cache-policy.case.js';
import type { ExpertLease, ExpertStoreEvent } from './expert-store.js';
import { PagedExpertStore, type PagedStoreOptions } from './paged-store.js';
import { createPolicy, policyNames } from './policies/index.js';
import { simulateCache } from './simulate-cache.js';

const lruOf = (cold: MadeExperts): PagedStoreOptions['policy'] =>
  createPolicy('lru', { numExperts: cold.layers.map(({ numExperts }) => numExperts) });

function held(numExperts: readonly number[], slots: number, options: Partial<PagedStoreOptions> = {}) {
  const cold = new MadeExperts(numExperts, 6, true);
  return { cold, store: new PagedExpertStore(cold, { slots, policy: lruOf(cold), ...options }) };
}

function free(numExperts: readonly number[], slots: number, options: Partial<PagedStoreOptions> = {}) {
  const cold = new MadeExperts(numExperts);
  return { cold, store: new PagedExpertStore(cold, { slots, policy: lruOf(cold), ...options }) };
}

/** Lets everything that can happen by itself happen. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
};

function check(lease: ExpertLease): void {
  const value = 1000 * lease.layer + lease.expert;
  expect([...lease.weights['up'], ...lease.weights['down']]).toEqual(Array(6).fill(value));
}

test('weights are what was asked for, in that order, and stay until they are released', async () => {
  const { store } = free([4, 3], 2);
  const leases = await store.acquire(1, [2, 0]);
  expect(leases.map(({ expert }) => expert)).toEqual([2, 0]);
  leases.forEach(check);
  for (const { release } of leases) release();
  const [other] = await store.acquire(0, [3]);
  check(other);
  check(leases[1]);
  other.release();
  await store.close();
});

test('two acquires of one expert share a read', async () => {
  const { store, cold } = held([4], 4);
  const both = [store.acquire(0, [1]), store.acquire(0, [1, 1])];
  await settle();
  expect(cold.begun).toHaveLength(1);
  cold.begun[0].finish();
  const leases = (await Promise.all(both)).flat();
  expect(leases).toHaveLength(3);
  leases.forEach(check);
  expect(store.stats).toMatchObject({ accesses: 2, hits: 0, reads: 1, pinned: 1, resident: 1 });
  for (const { release } of leases) {
    release();
    release();
  }
  expect(store.stats.pinned).toBe(0);
});

test('tells where experts are and how often each was needed', async () => {
  const { store, cold } = held([3, 2], 2);
  const acquired = store.acquire(0, [1]);
  await settle();
  expect(store.experts[0].places).toEqual(['cold', 'reading', 'cold']);
  cold.begun[0].finish();
  const [lease] = await acquired;
  expect(store.experts[0]).toEqual({ places: ['cold', 'pinned', 'cold'], accesses: [0, 1, 0] });
  lease.release();
  expect(store.experts[0].places).toEqual(['cold', 'ready', 'cold']);
  expect(store.experts[1]).toEqual({ places: ['cold', 'cold'], accesses: [0, 0] });
});

describe('what is refused', () => {
  test('more than fits, unknown experts, a store without room', async () => {
    const { store, cold } = free([4], 2);
    await expect(store.acquire(0, [0, 1, 2])).rejects.toThrow(
      '3 experts are asked for at once, but memory holds 2',
    );
    await expect(store.acquire(0, [4])).rejects.toThrow('sparse layer 0 has no expert 4; it has 4');
    await expect(store.acquire(1, [0])).rejects.toThrow('there is no sparse layer 1');
    expect(() => new PagedExpertStore(cold, { slots: 0, policy: lruOf(cold) })).toThrow(
      'at least one expert',
    );
    (await store.acquire(0, [0, 1, 1])).forEach(({ release }) => release());
  });

  test('whatever waits when the store is closed, and all that comes later', async () => {
    const { store, cold } = held([4], 1, { readsAtOnce: 1 });
    const first = store.acquire(0, [0]);
    const second = store.acquire(0, [1]);
    const refused = expect(second).rejects.toThrow('the expert store is closed');
    const closing = store.close();
    await refused;
    expect(cold.closed).toBe(false);
    cold.begun[0].finish();
    await first;
    await closing;
    expect(cold.closed).toBe(true);
    await expect(store.acquire(0, [0])).rejects.toThrow('closed');
    expect(() => store.announce(0, [0])).toThrow('closed');
    store.prefetch(0, [0]);
    expect(store.close()).toBe(store.close());
  });
});

test('a read that fails refuses those who wait for it alone, and leaves its place', async () => {
  const { store, cold } = held([4], 2);
  const bad = store.acquire(0, [0, 1]);
  await settle();
  cold.begun[1].fail('bad sector');
  cold.begun[0].finish();
  await expect(bad).rejects.toThrow('blocks.0.feedForward.experts: expert 1 cannot be read: bad sector');
  expect(store.stats).toMatchObject({ failedReads: 1, resident: 1, pinned: 0 });
  const good = store.acquire(0, [2, 1]);
  await settle();
  for (const read of cold.begun.slice(2)) read.finish();
  (await good).forEach(check);
});

test('a failed read ahead is read again for who needs it by now', async () => {
  const { store, cold } = held([4], 2);
  store.prefetch(0, [3]);
  await settle();
  const need = store.acquire(0, [3]);
  cold.begun[0].fail('gone for a moment');
  await settle();
  cold.begun[1].finish();
  (await need).forEach(check);
  expect(store.stats).toMatchObject({ failedReads: 1, latePrefetches: 1, reads: 1, prefetchReads: 0 });
});

describe('announced', () => {
  test('experts are counted once, however they are acquired', async () => {
    const { store } = free([6], 2, { warmUp: 0 });
    expect(store.announce(0, [0, 1, 2])).toEqual([false, false, false]);
    for (const part of [[0, 1], [2]]) for (const { release } of await store.acquire(0, part)) release();
    expect(store.stats).toMatchObject({ accesses: 3, hits: 0, reads: 3, evictions: 1 });
    // 2 came last; of 0 and 1, the older gave way.
    expect(store.announce(0, [0, 1, 2])).toEqual([false, true, true]);
    expect(store.stats.hitRate).toBeCloseTo(2 / 6);
  });

  test('reads begin at once, and nothing announced gives way', async () => {
    const { store, cold } = held([6], 3);
    store.announce(0, [4, 5]);
    expect(cold.begun.map(({ expert }) => expert)).toEqual([4, 5]);
    cold.begun.forEach(({ finish }) => finish());
    await settle();
    store.prefetch(0, [0, 1]);
    await settle();
    expect(cold.begun.map(({ expert }) => expert)).toEqual([4, 5, 0]);
    (await store.acquire(0, [4, 5])).forEach(check);
  });
});

test('what is withdrawn is read no more, and gives way', async () => {
  const { store, cold } = held([6], 2);
  store.announce(0, [0, 1, 2]);
  store.announce(0, [1]);
  store.prefetch(0, [4, 5]);
  cold.begun.forEach(({ finish }) => finish());
  await settle();
  expect(cold.begun.map(({ expert }) => expert)).toEqual([0, 1]);
  store.withdraw(0, [0, 1, 2]);
  await settle();
  // 1 is still announced by another.
  expect(cold.begun.map(({ expert }) => expert)).toEqual([0, 1, 4]);
  expect(store.experts[0].places).toEqual(['cold', 'ready', 'cold', 'cold', 'reading', 'cold']);
});

test('what was announced and had no place is read as soon as there is one, before it is asked for', async () => {
  const { store, cold } = held([6], 2);
  store.announce(0, [0, 1, 2, 3]);
  store.prefetch(0, [5]);
  expect(cold.begun.map(({ expert }) => expert)).toEqual([0, 1]);
  const finish = async (): Promise<void> => {
    for (const read of cold.begun) read.finish();
    await settle();
  };
  await finish();
  for (const expected of [
    [0, 1, 2],
    [0, 1, 2, 3],
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ].entries()) {
    const [expert, begun] = expected;
    const [lease] = await store.acquire(0, [expert]);
    check(lease);
    lease.release();
    await settle();
    expect(cold.begun.slice(0, 4).map((read) => read.expert)).toEqual(begun);
    await finish();
  }
  // Only then what is merely expected.
  expect(cold.begun.at(-1)!.expert).toBe(5);
});

describe('prefetch', () => {
  test('is a hit only when wholly read, and a late one otherwise', async () => {
    const { store, cold } = held([6], 4, { warmUp: 0 });
    store.prefetch(0, [1, 2]);
    cold.begun[0].finish();
    await settle();
    expect(store.announce(0, [1, 2, 3])).toEqual([true, false, false]);
    expect(store.stats).toMatchObject({ hits: 1, prefetchedHits: 1, latePrefetches: 1, accesses: 3 });
    cold.begun[1].finish();
    cold.begun[2].finish();
    (await store.acquire(0, [1, 2, 3])).forEach(({ release }) => release());
    expect(store.announce(0, [1])).toEqual([true]);
    expect(store.stats).toMatchObject({ prefetchedHits: 1, prefetchReads: 2, reads: 3 });
  });

  test('the soonest first; needed ones before all; a few at a time', async () => {
    const { store, cold } = held([6, 6], 8, { readsAtOnce: 2 });
    store.prefetch(1, [0, 1], -2);
    store.prefetch(0, [2, 3], -1);
    const need = store.acquire(1, [5]);
    const order: string[] = [];
    for (let at = 0; at < 4; at++) {
      await settle();
      order.push(`${cold.begun[at].layer}.${cold.begun[at].expert}`);
      expect(cold.begun.length).toBeLessThanOrEqual(at + 2);
      cold.begun[at].finish();
    }
    // Two were under way when the others came. Layer 1 decided: what was expected of it is not read any more.
    expect(order).toEqual(['1.0', '1.1', '1.5', '0.2']);
    (await need).forEach(check);
  });

  test('evicts neither what is pinned nor what is due as soon', async () => {
    const { store, cold } = free([6, 6, 6], 3);
    const [pinned] = await store.acquire(0, [0]);
    store.prefetch(1, [1], -1);
    store.prefetch(2, [2], -2);
    await settle();
    store.prefetch(1, [3, 4], -1);
    await settle();
    // One of them took the place of layer 2's, which is due later; the other waits.
    expect(cold.begun.map(({ layer, expert }) => `${layer}.${expert}`)).toEqual(['0.0', '1.1', '2.2', '1.3']);
    check(pinned);
    expect(store.stats).toMatchObject({ evictions: 1, unusedPrefetches: 1 });
    pinned.release();
    await settle();
    expect(cold.begun.at(-1)).toMatchObject({ layer: 1, expert: 4 });
  });
});

test('who asks first is served first, and waits for no longer than it takes', async () => {
  const { store } = free([6], 2);
  const first = await store.acquire(0, [0, 1]);
  const done: string[] = [];
  const second = store.acquire(0, [2, 3]).then((leases) => (done.push('second'), leases));
  const third = store.acquire(0, [4]).then((leases) => (done.push('third'), leases));
  first[0].release();
  await settle();
  // One place would do for the third, but the second was there before.
  expect(done).toEqual([]);
  first[1].release();
  for (const { release } of await second) release();
  (await third).forEach(check);
  expect(done).toEqual(['second', 'third']);
  expect(store.stats.stallMilliseconds).toBeGreaterThan(0);
});

test('events tell what the counters count', async () => {
  const { store } = free([3], 1);
  const events: ExpertStoreEvent[] = [];
  const stop = store.observe((event) => events.push(event));
  for (const expert of [0, 0, 1]) (await store.acquire(0, [expert]))[0].release();
  stop();
  (await store.acquire(0, [2]))[0].release();
  expect(events.map(({ kind, expert }) => `${kind} ${expert}`)).toEqual([
    ...['access 0', 'read 0', 'access 0', 'access 1', 'evicted 0', 'read 1'],
  ]);
});

test('all in memory: everything is a hit', async () => {
  const { store } = free([3, 3], 6, { warmUp: 0 });
  await store.preload();
  expect(store.stats).toMatchObject({ resident: 6, reads: 6 });
  for (const layer of [0, 1]) (await store.acquire(layer, [0, 1, 2])).forEach(check);
  expect(store.stats).toMatchObject({ hitRate: 1, reads: 6, stallMilliseconds: 0 });
});

describe.each(policyNames)('with policy %s', (name) => {
  test('counts what the simulation says, from one place to all', async () => {
    await fc.assert(
      fc.asyncProperty(
        routedPasses,
        fc.integer({ min: 1, max: 18 }),
        async ({ numExperts, trace }, slots) => {
          const cold = new MadeExperts(numExperts);
          const create = () => createPolicy(name, { numExperts, trace });
          const store = new PagedExpertStore(cold, { slots, policy: create(), warmUp: 0 });
          for (const { layer, experts } of trace) {
            store.announce(layer, experts);
            // What is there is used first, as in the simulation.
            for (let at = 0; at < experts.length; at += store.maxPinned) {
              const leases = await store.acquire(layer, experts.slice(at, at + store.maxPinned));
              for (const lease of leases) {
                check(lease);
                lease.release();
              }
            }
            expect(store.stats.resident).toBeLessThanOrEqual(store.maxPinned);
          }
          const largest = Math.max(...trace.map(({ experts }) => experts.length));
          if (largest <= slots) {
            const said = simulateCache({ numExperts, trace, capacity: slots, policy: create(), warmUp: 0 });
            const { accesses, hits, reads, evictions } = store.stats;
            expect({ accesses, hits, loads: reads, evictions }).toEqual({
              accesses: said.accesses,
              hits: said.hits,
              loads: said.loads,
              evictions: said.evictions,
            });
          }
          await store.close();
        },
      ),
      { numRuns: 25 },
    );
  });
});

test('any interleaving of callers: right weights, bounded memory, nobody left waiting', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.record({ layer: fc.nat(1), experts: fc.uniqueArray(fc.nat(3), { minLength: 1 }) }), {
        minLength: 1,
        maxLength: 8,
      }),
      fc.array(fc.nat(7), { maxLength: 6 }),
      async (scheduler, slots, calls, ahead) => {
        const cold = new MadeExperts([4, 4], 6, true);
        const policy = createPolicy('predicted', { numExperts: [4, 4] });
        const store = new PagedExpertStore(cold, { slots, policy, readsAtOnce: 2 });
        let running = true;
        const reader = (async () => {
          for (let at = 0; running || at < cold.begun.length;) {
            if (at < cold.begun.length) {
              const read = cold.begun[at++];
              if ((read.layer + read.expert + at) % 7 === 0) read.fail('now and then');
              else read.finish();
            }
            await scheduler.schedule(Promise.resolve());
          }
        })();
        const clients = calls.map(async ({ layer, experts }) => {
          await scheduler.schedule(Promise.resolve());
          const some = experts.slice(0, store.maxPinned);
          const leases = await store.acquire(layer, some).catch((error: Error) => {
            expect(error.message).toContain('now and then');
            return [];
          });
          expect(store.stats.pinned).toBeLessThanOrEqual(slots);
          await scheduler.schedule(Promise.resolve());
          for (const lease of leases) {
            check(lease);
            lease.release();
          }
        });
        const prefetches = ahead.map(async (expert) => {
          await scheduler.schedule(Promise.resolve());
          store.prefetch(expert >> 2, [expert & 3], -(expert % 3));
        });
        await scheduler.waitFor(Promise.all([...clients, ...prefetches]));
        const closing = store.close();
        running = false;
        await scheduler.waitFor(Promise.all([reader, closing]));
        expect(store.stats.pinned).toBe(0);
      },
    ),
    { numRuns: 100 },
  );
});
