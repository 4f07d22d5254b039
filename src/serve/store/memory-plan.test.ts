import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseBytes } from './memory-size.js';
import { MemoryBudgetError, planMemory, type MemoryNeeds } from './memory-plan.js';

const needs: MemoryNeeds = {
  residentBytes: 500e6,
  keyValueBytes: 100e6,
  scratchBytes: 50e6,
  numExperts: 768,
  slotBytes: 18e6,
  cold: { description: 'packed folder, float32', pageCache: 'bypassed', residentBytes: 0 },
};

test('what is left goes to experts', () => {
  const plan = planMemory(needs, 2e9);
  expect(plan).toMatchObject({ slots: 75, isAllInMemory: false, least: 668e6, bytes: 2e9 });
  expect(plan.placement).toEqual([
    { what: 'weights outside of experts', where: 'memory', bytes: 500e6 },
    { what: 'keys and values', where: 'memory', bytes: 100e6 },
    { what: 'buffers of passes', where: 'memory', bytes: 50e6 },
    { what: 'places for 75 of 768 experts', where: 'memory', bytes: 1350e6 },
    { what: '693 experts at a time', where: 'disk (packed folder, float32)', bytes: 12_474e6 },
  ]);
  expect(plan.reads).toBe('page cache: bypassed');
});

describe('at the edge', () => {
  test('one byte less than one expert needs is refused with what would do', () => {
    expect(planMemory(needs, 668e6).slots).toBe(1);
    const error = ((): unknown => {
      try {
        return planMemory(needs, 668e6 - 1);
      } catch (reason) {
        return reason;
      }
    })();
    expect(error).toBeInstanceOf(MemoryBudgetError);
    expect(error).toMatchObject({ least: 668e6, budget: 668e6 - 1 });
    expect((error as Error).message).toContain('give at least 668 MB');
  });

  test('the budget that is told would do', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e10 }), (residentBytes) => {
        const all = { ...needs, residentBytes, slotBytes: 1 };
        let told = '';
        try {
          planMemory(all, 1);
        } catch (error) {
          told = /give at least (.*)$/.exec((error as Error).message)![1];
        }
        expect(planMemory(all, parseBytes(told)).slots).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  test('one byte less than all is not all', () => {
    const all = 650e6 + 768 * 18e6;
    expect(planMemory(needs, all)).toMatchObject({ slots: 768, isAllInMemory: true });
    expect(planMemory(needs, all - 1)).toMatchObject({ slots: 767, isAllInMemory: false });
    expect(planMemory(needs, 10 * all)).toMatchObject({ slots: 768, bytes: all });
    expect(planMemory(needs)).toMatchObject({ slots: 768, budget: all });
  });

  test('a model without experts', () => {
    const dense = { ...needs, numExperts: 0, slotBytes: 0 };
    expect(planMemory(dense, 650e6)).toMatchObject({ slots: 0, isAllInMemory: true, least: 650e6 });
    expect(() => planMemory(dense, 650e6 - 1)).toThrow('too small');
  });
});

test('never more than the budget, never one expert less than fits', () => {
  fc.assert(
    fc.property(
      fc.nat(20e9),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1, max: 1e8 }),
      (budget, numExperts, slotBytes) => {
        const all = { ...needs, numExperts, slotBytes };
        try {
          const { bytes, slots } = planMemory(all, budget);
          expect(bytes).toBeLessThanOrEqual(budget);
          expect(slots === numExperts || bytes + slotBytes > budget).toBe(true);
          expect(slots).toBeGreaterThanOrEqual(1);
        } catch (error) {
          expect(error).toBeInstanceOf(MemoryBudgetError);
          expect(planMemory(all, (error as MemoryBudgetError).least).slots).toBe(1);
        }
      },
    ),
  );
});
