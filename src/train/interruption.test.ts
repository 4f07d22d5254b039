import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Interruption } from './interruption.js';

function listen(): { source: EventEmitter; codes: number[]; told: string[]; interruption: Interruption } {
  const source = new EventEmitter();
  const codes: number[] = [];
  const told: string[] = [];
  const interruption = new Interruption({
    source,
    exit: (code) => codes.push(code),
    onRequest: (signal) => told.push(signal),
  });
  return { source, codes, told, interruption };
}
const send = (source: EventEmitter, signal: NodeJS.Signals): boolean => source.emit(signal, signal);

it('the first signal asks, the second exits with its code', async () => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const { source, codes, told, interruption } = listen();
    expect(interruption.requested).toBe(false);
    send(source, signal);
    expect(interruption.requested).toBe(true);
    expect(interruption.signal).toBe(signal);
    expect(codes).toEqual([]);
    await delay(120);
    send(source, signal);
    expect(codes).toEqual([code]);
    expect(told).toEqual([signal]);
  }
});

it('two signals of two kinds exit at once, the echo of Ctrl-C does not', () => {
  const mixed = listen();
  send(mixed.source, 'SIGINT');
  send(mixed.source, 'SIGTERM');
  expect(mixed.codes).toEqual([143]);
  const terminated = listen();
  send(terminated.source, 'SIGTERM');
  send(terminated.source, 'SIGTERM');
  expect(terminated.codes).toEqual([143]);
  const echo = listen();
  send(echo.source, 'SIGINT');
  send(echo.source, 'SIGINT');
  expect(echo.codes).toEqual([]);
});

it('listens no longer once disposed', () => {
  const { source, interruption } = listen();
  interruption.dispose();
  expect(source.eventNames()).toEqual([]);
});
