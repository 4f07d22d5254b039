import { expect, test } from 'vitest';
import { referenceKept } from '../../../test/support/reference-moe.js';
import { dispatchConformance, expectScene, type DispatchSubject } from '../dispatch.case.js';
import { DroplessDispatch } from './dropless.js';

const subject: DispatchSubject = {
  name: 'dropless',
  create: () => new DroplessDispatch(),
  kept: ({ experts, mask }) => referenceKept(experts, { mask }),
};

dispatchConformance(subject);

test('rows keep the order of their tokens within an expert', async () => {
  const experts = [[1], [0], [1], [1], [0], [1]];
  const pieces = await expectScene(subject, { experts, numExperts: 2 });
  const tokens = await expectScene(subject, { experts: experts.map(() => [0]), numExperts: 1 });
  const rows = tokens[0];
  expect(pieces[0]).toEqual([rows[1], rows[4]]);
  expect(pieces[1]).toEqual([rows[0], rows[2], rows[3], rows[5]]);
});
