/**
 * What every cold tier must do.
 * @module
 */
import { describe, expect, test } from 'vitest';
import type { ColdExperts } from './cold-experts.js';
import { SlotMemory } from './slot-memory.js';

/** A tier, and what its experts are. */
export interface ColdCase {
  open(): Promise<ColdExperts>;
  /** The weights of an expert as they should lie, by name. */
  expected(layer: number, expert: number): Promise<Readonly<Record<string, Float32Array>>>;
  /** How far a weight may be from what it should be; 0 when absent. */
  readonly tolerance?: number;
}

/** Runs the suite over a tier. */
export function coldExpertsConformance(name: string, { open, expected, tolerance = 0 }: ColdCase): void {
  describe(`cold tier: ${name}`, () => {
    test('every expert lies in its place as the model has it, whatever was there before', async () => {
      const cold = await open();
      const [slot] = new SlotMemory(1, cold.slotBytes).slots;
      for (const [layer, { numExperts, placed, parameters, expertBytes }] of cold.layers.entries()) {
        expect(expertBytes).toBe(4 * placed.reduce((sum, { length }) => sum + length, 0));
        for (let expert = 0; expert < numExperts; expert++) {
          slot.data.fill(NaN);
          const bytes = await cold.read(layer, expert, slot);
          expect(bytes).toBeGreaterThan(0);
          const wanted = await expected(layer, expert);
          expect(Object.keys(wanted).sort()).toEqual(Object.keys(parameters).sort());
          for (const { name: parameter, offset, length } of placed) {
            const found = slot.data.subarray(offset, offset + length);
            expect(length).toBe(parameters[parameter].reduce((a, b) => a * b, 1));
            if (tolerance === 0) expect(found).toEqual(wanted[parameter]);
            else {
              const far = found.reduce((most, x, i) => Math.max(most, Math.abs(x - wanted[parameter][i])), 0);
              expect(far).toBeLessThan(tolerance);
            }
          }
        }
      }
      await cold.close();
    });

    test('many reads at once, each into its place', async () => {
      const cold = await open();
      const all = cold.layers.flatMap(({ numExperts }, layer) =>
        Array.from({ length: numExperts }, (_, expert) => ({ layer, expert })),
      );
      const { slots } = new SlotMemory(all.length, cold.slotBytes);
      await Promise.all(all.map(({ layer, expert }, i) => cold.read(layer, expert, slots[i])));
      for (const [i, { layer, expert }] of all.entries()) {
        const [{ name: parameter, offset }] = cold.layers[layer].placed;
        const wanted = (await expected(layer, expert))[parameter];
        expect(Math.abs(slots[i].data[offset] - wanted[0])).toBeLessThanOrEqual(tolerance);
      }
      await cold.close();
    });
  });
}
