import { expect, test } from 'vitest';
import { formatBytes, parseBytes } from './memory-size.js';

test.each([
  ['2GB', 2e9],
  ['1.5 GiB', 1.5 * 2 ** 30],
  ['800m', 8e8],
  ['512KiB', 2 ** 19],
  ['.5k', 500],
  ['4096', 4096],
  [' 7 b ', 7],
])('%s', (text, bytes) => expect(parseBytes(text)).toBe(bytes));

test.each(['', 'GB', '-1GB', '0', '2 GBit', '1e9', '2GB3', '9999TB', 'NaN', '0.1b'])(
  'no amount: %j',
  (text) =>
    expect(() => parseBytes(text)).toThrow('is no amount of memory; write it as 800MB, 2GB or 1.5GiB'),
);

test.each([
  [999, '999 bytes'],
  [2.147e9, '2.15 GB'],
  [13.6e9, '13.6 GB'],
  [512e6, '512 MB'],
  [1e15, '1000 TB'],
])('%d bytes for people', (bytes, text) => expect(formatBytes(bytes)).toBe(text));
