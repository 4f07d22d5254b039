import { expect, test } from 'vitest';
import { numbersOf } from '../../../test/support/compressed-layer.js';
import { packLayer, restoreExpert, roundFloats } from '../../checkpoints/index.js';
import { createMethod, methodSchema } from '../methods/index.js';
import type { LayerExperts } from '../method.js';

test('the rounding of a centre in a narrow type is not lost: it is in what is left beside it', async () => {
  const random = numbersOf(3);
  const base = Float32Array.from({ length: 6 * 8 }, random);
  // Experts that differ by much less than a step of the centre's type.
  const designs = [0, 1, 2].map(() => base.map((value) => value + 1e-4 * random()));
  const experts = (dtype?: 'BF16'): LayerExperts => ({
    name: 'blocks.0',
    numExperts: 3,
    hiddenSize: 4,
    intermediateSize: 6,
    blocks: [
      { role: 'up', width: 4 },
      { role: 'down', width: 4 },
    ],
    readDesign: async (expert, into = new Float32Array(48)) => {
      into.set(designs[expert]);
      return into;
    },
    ...(dtype ? { dtype } : {}),
  });
  const method = createMethod(methodSchema.parse({ kind: 'resmoe', centre: { kind: 'mean' } }));
  const worst = async (dtype?: 'BF16'): Promise<number> => {
    const { layer } = await method.compress(experts(dtype), { budget: { perExpert: 1 } });
    const { tensors } = packLayer(layer, 'BF16', []);
    expect(tensors[0].dtype).toBe('BF16');
    const centre = roundFloats('BF16', layer.centre!);
    return Math.max(
      ...designs.map((design, expert) => {
        const restored = restoreExpert({ ...layer, centre }, expert);
        return Math.max(...design.map((value, i) => Math.abs(value - restored[i])));
      }),
    );
  };
  expect(await worst('BF16')).toBeLessThan(1e-6);
  expect(await worst()).toBeGreaterThan(1e-4);
});
