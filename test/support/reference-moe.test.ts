import { expect, test } from 'vitest';
import { distance } from './numbers.js';
import { randomNumbers } from './gradient-check.js';
import { matrix, type ReferenceInputs, type ReferenceOptions } from './reference-moe.js';
import { referenceGradients, referenceLossValue } from './reference-moe-gradients.js';

const sizes = { numExperts: 3, hiddenSize: 4, intermediateSize: 5 };
const area = 3 * 4 * 5;

function parameters(gated: boolean): Map<string, Float64Array> {
  return new Map([
    ['router.classifier.weight', randomNumbers(1, 12)],
    ...(gated ? ([['experts.gate', randomNumbers(2, area)]] as const) : []),
    ['experts.up', randomNumbers(3, area)],
    ['experts.down', randomNumbers(4, area)],
    ['experts.upBias', randomNumbers(5, 15)],
    ['experts.downBias', randomNumbers(6, 12)],
  ]);
}

const cases: { name: string; options: Partial<ReferenceOptions>; mask?: number[]; jitter?: boolean }[] = [
  { name: 'relu, top-1', options: {} },
  {
    name: 'swiglu, top-2, normalised gates',
    options: { activation: 'swiglu', topK: 2, normalizeGates: true },
  },
  { name: 'gelu, drops per group', options: { activation: 'gelu', topK: 2, capacity: 2, dispatchGroups: 2 } },
  {
    name: 'geglu, padding, balance per group',
    options: { activation: 'geglu', balanceGroups: 2 },
    mask: [1, 1, 0, 1, 0, 0, 0, 0],
  },
  { name: 'geluTanh with jitter', options: { activation: 'geluTanh' }, jitter: true },
];

test.each(cases)(
  'the hand-derived gradients are those of the loops: $name',
  ({ options: some, mask, jitter }) => {
    const options: ReferenceOptions = { ...sizes, topK: 1, activation: 'relu', ...some };
    const flat = randomNumbers(7, 8 * 4);
    const weights = parameters(options.activation === 'swiglu' || options.activation === 'geglu');
    const noise = jitter ? matrix(randomNumbers(8, 8 * 4, 0.9, 1.1), 4) : undefined;
    const inputs = (): ReferenceInputs => ({
      hidden: matrix(flat, 4),
      parameters: weights,
      mask,
      jitter: noise,
    });
    const loss = { outputWeights: matrix(randomNumbers(9, 8 * 4), 4), balance: 0.7, z: 0.3 };

    const derived = referenceGradients(options, inputs(), loss);
    for (const [name, data] of [['hidden', flat] as const, ...weights]) {
      const numeric = data.map((original, i) => {
        data[i] = original + 1e-5;
        const above = referenceLossValue(options, inputs(), loss);
        data[i] = original - 1e-5;
        const below = referenceLossValue(options, inputs(), loss);
        data[i] = original;
        return (above - below) / 2e-5;
      });
      expect(distance(derived.get(name)!, numeric), name).toBeLessThan(1e-8);
    }
  },
);
