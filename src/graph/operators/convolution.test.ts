import fc from 'fast-check';
import { expect, test } from 'vitest';
import { at, tabulate } from '../../../test/support/nd.js';
import { floats, operatorTest, seeds, type Sample } from '../../../test/support/operator-check.js';
import { conv1d, conv2d, input } from '../index.js';

const small = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });

/** Settings of one spatial axis, with an input long enough to leave an output. */
const axis = fc
  .record({
    kernel: small(1, 3),
    stride: small(1, 3),
    padding: small(0, 2),
    dilation: small(1, 2),
    extra: small(0, 3),
  })
  .map(({ extra, ...rest }) => {
    const reach = rest.dilation * (rest.kernel - 1) + 1;
    const size = Math.max(1, reach - 2 * rest.padding) + extra;
    return { ...rest, size, out: Math.floor((size + 2 * rest.padding - reach) / rest.stride) + 1 };
  });

const channels = fc.record({
  batch: small(1, 2),
  groups: small(1, 2),
  inGroup: small(1, 2),
  outGroup: small(1, 2),
});

operatorTest(
  'conv2d: stride, padding, dilation, groups',
  fc
    .tuple(axis, axis, channels, seeds)
    .map(([high, wide, { batch, groups, inGroup, outGroup }, seed]): Sample => ({
      operands: [
        floats(seed, [batch, groups * inGroup, high.size, wide.size]),
        floats(seed + 1, [groups * outGroup, inGroup, high.kernel, wide.kernel]),
      ],
      build: ([x, weight]) =>
        conv2d(x, weight, {
          stride: [high.stride, wide.stride],
          padding: [high.padding, wide.padding],
          dilation: [high.dilation, wide.dilation],
          groups,
        }),
      reference: ([x, weight]) =>
        tabulate([batch, groups * outGroup, high.out, wide.out], ([n, o, y, z]) => {
          let sum = 0;
          for (let c = 0; c < inGroup; c++) {
            for (let i = 0; i < high.kernel; i++) {
              for (let j = 0; j < wide.kernel; j++) {
                const row = y * high.stride + i * high.dilation - high.padding;
                const column = z * wide.stride + j * wide.dilation - wide.padding;
                if (row < 0 || column < 0 || row >= high.size || column >= wide.size) continue;
                const channel = Math.floor(o / outGroup) * inGroup + c;
                sum += at(weight, [o, c, i, j]) * at(x, [n, channel, row, column]);
              }
            }
          }
          return sum;
        }),
    })),
  15,
);

operatorTest(
  'conv1d: stride, padding, dilation, groups',
  fc.tuple(axis, channels, seeds).map(([time, { batch, groups, inGroup, outGroup }, seed]): Sample => ({
    operands: [
      floats(seed, [batch, groups * inGroup, time.size]),
      floats(seed + 1, [groups * outGroup, inGroup, time.kernel]),
    ],
    build: ([x, weight]) => conv1d(x, weight, { ...time, groups }),
    reference: ([x, weight]) =>
      tabulate([batch, groups * outGroup, time.out], ([n, o, t]) => {
        let sum = 0;
        for (let c = 0; c < inGroup; c++) {
          for (let i = 0; i < time.kernel; i++) {
            const position = t * time.stride + i * time.dilation - time.padding;
            if (position < 0 || position >= time.size) continue;
            const channel = Math.floor(o / outGroup) * inGroup + c;
            sum += at(weight, [o, c, i]) * at(x, [n, channel, position]);
          }
        }
        return sum;
      }),
  })),
  10,
);

test('settings that make no sense are refused', () => {
  const x = input('x', 'float32', [1, 4, 5, 5]);
  const weight = input('w', 'float32', [4, 2, 3, 3]);
  expect(() => conv2d(x, weight)).toThrow(/do not fit 1 group/);
  expect(() => conv2d(x, weight, { groups: 2, stride: [0, 1] })).toThrow(/strides, dilations and groups ≥ 1/);
  expect(() => conv2d(x, weight, { groups: 2, padding: [-1, 0] })).toThrow(/padding ≥ 0/);
  expect(() => conv2d(x, weight, { groups: 2, dilation: [3, 1] })).toThrow(/leave no output/);
  expect(() => conv2d(input('n', 'float32', ['batch', 4, 5, 5]), weight, { groups: 2 })).toThrow(
    /static sizes/,
  );
  expect(() => conv1d(x, weight)).toThrow(/must be 3-D/);
});
