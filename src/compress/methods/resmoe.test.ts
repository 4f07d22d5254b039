import { expect, test } from 'vitest';
import { makeExperts } from '../../../test/support/experts.js';
import { restoreExpert } from '../../checkpoints/index.js';
import { createMethod, methodSchema } from './index.js';

test.each(['concat', 'sep'] as const)('%s: the whole budget restores every expert', async (scope) => {
  const layer = makeExperts({
    numExperts: 3,
    hiddenSize: 5,
    intermediateSize: 7,
    roles: ['gate', 'gateBias', 'up', 'upBias', 'down'],
  });
  const method = createMethod(methodSchema.parse({ kind: 'resmoe', scope }));
  const { layer: small, report } = await method.compress(layer, { budget: { perExpert: 1 } });
  expect(report.error).toBe(0);
  layer.designs.forEach((design, expert) => {
    restoreExpert(small, expert).forEach((value, i) => expect(value).toBeCloseTo(design[i], 5));
  });
});
