import { expect, test } from 'vitest';
import { input } from '../../graph/index.js';
import { JointBuffers } from './joint-buffers.js';

test('a buffer that is over serves the next tensor of its size, and no other', () => {
  const buffers = new JointBuffers();
  const [wide, tall] = [input('wide', 'float32', [2, 6]), input('tall', 'float32', [12])];
  const first = buffers.take('first', wide);
  const second = buffers.take('second', wide);
  expect(second).not.toBe(first);
  buffers.giveBack('first', wide);
  expect(buffers.get('first')).toBeUndefined();
  expect(buffers.take('other', input('other', 'int32', [12]))).not.toBe(first);
  expect(buffers.take('third', tall)).toBe(first);
  expect(buffers.get('third')).toBe(first);
  expect(buffers.bytes).toBe(3 * 48);
});
