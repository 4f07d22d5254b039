import { describe, expect, test } from 'vitest';
import { referenceKept } from '../../../test/support/reference-moe.js';
import { dispatchConformance, expectScene, type DispatchSubject } from '../dispatch.case.js';
import { CapacityDispatch, expertCapacity, type CapacityOptions } from './capacity.js';

/** The dispatch with its places counted by hand: `places` in training and in evaluation. */
function subject(
  name: string,
  options: CapacityOptions,
  places?: (sizes: { tokens: number; topK: number; numExperts: number; training: boolean }) => number,
): DispatchSubject {
  const { group, capacityFactor, evalCapacityFactor = capacityFactor, minimumCapacity = 4 } = options;
  return {
    name,
    create: () => new CapacityDispatch(options),
    kept: ({ experts, numExperts, batchSize = 1, training = false, mask }) => {
      const groups = group === 'sequence' ? batchSize : 1;
      const sizes = { tokens: experts.length / groups, topK: experts[0].length, numExperts, training };
      const factor = training ? capacityFactor : evalCapacityFactor;
      const share = Math.floor((sizes.tokens * sizes.topK * factor) / numExperts);
      const capacity = places?.(sizes) ?? Math.max(minimumCapacity, share);
      return referenceKept(experts, { capacity, groups, mask });
    },
  };
}

dispatchConformance(subject('capacity, Switch settings', { capacityFactor: 1.25, evalCapacityFactor: 2 }));
dispatchConformance(subject('capacity, tight', { capacityFactor: 1, minimumCapacity: 1 }));
dispatchConformance(
  subject('capacity, tight, per sequence', { capacityFactor: 1, minimumCapacity: 1, group: 'sequence' }),
);
dispatchConformance(subject('capacity, starving', { capacityFactor: 0.5, minimumCapacity: 1 }));
dispatchConformance(
  subject('capacity, 2 places a sequence', { capacityFactor: 1, capacity: 2, group: 'sequence' }, () => 2),
);

describe('who is dropped, counted by hand', () => {
  const to = (...experts: number[]): number[][] => experts.map((expert) => [expert]);
  const options: CapacityOptions = { capacityFactor: 1, minimumCapacity: 1 };

  test('the last comers, in token order', async () => {
    // 8 tokens, 4 experts: 2 places each. Expert 1 is chosen by tokens 0, 2, 3, 6: the last two go without.
    const experts = to(1, 0, 1, 1, 2, 3, 1, 0);
    const dispatch = subject('', options);
    expect(dispatch.kept({ experts, numExperts: 4 }).flat()).toEqual([
      true,
      true,
      true,
      false,
      true,
      true,
      false,
      true,
    ]);
    await expectScene(dispatch, { experts, numExperts: 4 });
  });

  test('second choices after all first choices, even those of later tokens', async () => {
    // 4 tokens, top-2 of 4: 2 places each. Token 0's second choice, expert 1, loses to the first choices of 2 and 3.
    const experts = [
      [0, 1],
      [0, 2],
      [1, 2],
      [1, 3],
    ];
    const dispatch = subject('', options);
    expect(dispatch.kept({ experts, numExperts: 4 })).toEqual([
      [true, false],
      [true, true],
      [true, true],
      [true, true],
    ]);
    await expectScene(dispatch, { experts, numExperts: 4 });
  });

  test('padding takes no place', async () => {
    const experts = to(1, 1, 1, 1, 0, 0, 2, 3);
    const mask = [0, 0, 1, 1, 1, 1, 1, 1];
    await expectScene(subject('', options), { experts, numExperts: 4, mask });
    expect(subject('', options).kept({ experts, numExperts: 4, mask }).flat()).toEqual(
      mask.map((m) => m === 1),
    );
  });

  test('a sequence by itself has places of its own', async () => {
    // Two sequences of 4 tokens, 2 experts. Alone each has 2 places per expert; together they share 4.
    const experts = to(0, 0, 0, 1, 1, 1, 1, 0);
    const alone = subject('', { ...options, group: 'sequence' });
    const together = subject('', options);
    expect(alone.kept({ experts, numExperts: 2, batchSize: 2 }).filter(([kept]) => !kept)).toHaveLength(2);
    expect(together.kept({ experts, numExperts: 2, batchSize: 2 }).filter(([kept]) => !kept)).toHaveLength(0);
    await expectScene(alone, { experts, numExperts: 2, batchSize: 2 });
    await expectScene(together, { experts, numExperts: 2, batchSize: 2 });
  });

  test('evaluation has its own factor', async () => {
    // 8 tokens, 4 experts, all to expert 2: 2 places in training, 6 in evaluation.
    const experts = to(2, 2, 2, 2, 2, 2, 2, 2);
    const dispatch = subject('', { ...options, evalCapacityFactor: 3 }, ({ training }) => (training ? 2 : 6));
    await expectScene(dispatch, { experts, numExperts: 4, training: true });
    await expectScene(dispatch, { experts, numExperts: 4, training: false });
  });

  test('a fixed number of places, in training and evaluation, whatever the size of a sequence', async () => {
    // Hugging Face's expert_capacity 3: token priority by sequence, no minimum of 4.
    const experts = to(0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0);
    const fixed = subject('', { capacityFactor: 9, capacity: 3, group: 'sequence' }, () => 3);
    const dropped = fixed
      .kept({ experts, numExperts: 2, batchSize: 2 })
      .flatMap(([kept], i) => (kept ? [] : [i]));
    expect(dropped).toEqual([3, 5, 9, 10]);
    await expectScene(fixed, { experts, numExperts: 2, batchSize: 2, training: true });
    await expectScene(fixed, { experts, numExperts: 2, batchSize: 2, training: false });
    // One token a sequence, as in decoding: nobody overflows.
    await expectScene(fixed, { experts: to(1, 1, 1, 1, 1), numExperts: 2, batchSize: 5 });
  });

  test('four places at least, unless told otherwise', async () => {
    // 6 tokens, 6 experts: a share is one place.
    const experts = to(5, 5, 5, 5, 5, 5);
    await expectScene(
      subject('', { capacityFactor: 1 }, () => 4),
      { experts, numExperts: 6 },
    );
    await expectScene(
      subject('', options, () => 1),
      { experts, numExperts: 6 },
    );
  });
});

test('a fixed number of places can run out whatever the factor: second choices may depend on later tokens', () => {
  const options: CapacityOptions = { capacityFactor: 4, capacity: 64 };
  expect(new CapacityDispatch(options).leak(2, 4)).toContain('without capacity 64, evalCapacityFactor 2');
  expect(new CapacityDispatch(options).leak(1, 4)).toBeUndefined();
  expect(new CapacityDispatch({ capacityFactor: 4 }).leak(2, 4)).toBeUndefined();
});

test.each([
  // T·k·factor/N, cut down; not below the minimum; not above the tokens of the group.
  { tokens: 64, topK: 1, numExperts: 8, factor: 1.25, minimum: 4, places: 10 },
  { tokens: 64, topK: 1, numExperts: 7, factor: 1, minimum: 4, places: 9 },
  { tokens: 64, topK: 2, numExperts: 8, factor: 1, minimum: 4, places: 16 },
  { tokens: 8, topK: 1, numExperts: 64, factor: 1, minimum: 4, places: 4 },
  { tokens: 8, topK: 1, numExperts: 64, factor: 1, minimum: 1, places: 1 },
  { tokens: 64, topK: 1, numExperts: 2, factor: 4, minimum: 4, places: 64 },
  { tokens: 64, topK: 2, numExperts: 2, factor: 4, minimum: 4, places: 64 },
  { tokens: 1, topK: 1, numExperts: 1, factor: 1, minimum: 1, places: 1 },
  // 9 · 5 · (7 / 5) is 62.99999999999999 in double precision.
  { tokens: 9, topK: 5, numExperts: 7, factor: 7 / 5, minimum: 4, places: 9 },
])('$tokens tokens, top-$topK of $numExperts, factor $factor, minimum $minimum: $places places', (given) => {
  const { tokens, topK, numExperts, factor, minimum, places } = given;
  expect(expertCapacity(tokens, topK, numExperts, factor, minimum)).toBe(places);
});
