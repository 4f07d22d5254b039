/**
 * The engine's process: opens one model, and answers what its server asks.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { env } from 'onnxruntime-node';
import type { Engine } from '../engine/engine.js';
import { openEngine } from '../engine/open-engine.js';
import type { GenerationRequest, TextsRequest } from '../engine-client.js';
import { packError, toEngineSchema, type FromEngine, type ToEngine } from './messages.js';

/** Events of one text that may be on their way without having been read. */
const WINDOW = 128;
/** Milliseconds between two signs of life. */
const BEAT = 1000;
/** Milliseconds between two looks whether all readers have what they asked for. */
const LOOK = 10;

/** Answers messages until it is told to stop. */
class EngineProcess {
  private engine: Engine | undefined;
  private readonly requests = new Map<number, { readonly abort: AbortController; room: Room }>();
  private turn: FromEngine[] = [];

  /** @param deliver resolves when the messages are on their way */
  constructor(private readonly deliver: (turn: readonly FromEngine[]) => Promise<void>) {}

  handle(message: ToEngine): void {
    switch (message.kind) {
      case 'open':
        return void this.open(message);
      case 'generate':
        return void this.answer(message.id, (signal, room) =>
          this.generate(message.id, message.request, signal, room),
        );
      case 'classify':
      case 'embed':
        return void this.answer(message.id, (signal) => this.tell(message, signal));
      case 'read':
        return this.requests.get(message.id)?.room.add(message.count);
      case 'cancel':
        return this.cancel(message.id);
      case 'stats':
        return void this.engine?.stats().then((stats) => this.send({ kind: 'stats', id: message.id, stats }));
      case 'stop':
        return void this.stop(message.graceMilliseconds);
    }
  }

  /** Tells that the process is alive. */
  async beat(): Promise<void> {
    const stats = await this.engine?.stats();
    this.send({ kind: 'beat', ...(stats && { stats }) });
  }

  private async open({ source, limits }: Extract<ToEngine, { kind: 'open' }>): Promise<void> {
    try {
      this.engine = await openEngine(source, limits);
      this.send({ kind: 'ready', model: this.engine.model });
    } catch (error) {
      this.send({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
    }
  }

  private async answer(id: number, act: (signal: AbortSignal, room: Room) => Promise<void>): Promise<void> {
    const [abort, room] = [new AbortController(), new Room(WINDOW)];
    this.requests.set(id, { abort, room });
    try {
      await act(abort.signal, room);
      this.send({ kind: 'end', id });
    } catch (error) {
      // Who cancels has stopped listening.
      if (!abort.signal.aborted) this.send({ kind: 'error', id, error: packError(error) });
    } finally {
      this.requests.delete(id);
    }
  }

  private async tell(
    { kind, id, request }: Extract<ToEngine, { request?: unknown }>,
    signal: AbortSignal,
  ): Promise<void> {
    const [engine, texts] = [this.engine!, request as TextsRequest];
    const results =
      kind === 'classify' ? await engine.classify(texts, { signal }) : await engine.embed(texts, { signal });
    this.send({ kind: 'results', id, results: results as never });
  }

  private async generate(id: number, request: unknown, signal: AbortSignal, room: Room): Promise<void> {
    for await (const event of this.engine!.generate(request as GenerationRequest, { signal })) {
      await room.take(signal);
      this.send({ kind: 'event', id, event: event as never });
    }
  }

  private cancel(id: number): void {
    const request = this.requests.get(id);
    request?.abort.abort();
    request?.room.add(0);
  }

  private async stop(graceMilliseconds: number): Promise<void> {
    const latest = performance.now() + graceMilliseconds;
    await this.engine?.stop({ graceMilliseconds });
    // Texts are finished before slower readers have them.
    while (this.requests.size > 0 && performance.now() < latest) await sleep(LOOK);
    await this.beat();
    // Answers to the last requests are told in this turn at the latest.
    await new Promise((resolve) => setImmediate(resolve));
    await this.flush();
    if (process.connected) process.disconnect();
  }

  /** Messages of one turn travel together. */
  private send(message: FromEngine): void {
    this.turn.push(message);
    if (this.turn.length === 1) setImmediate(() => void this.flush());
  }

  private async flush(): Promise<void> {
    const { turn } = this;
    this.turn = [];
    await this.deliver(turn);
  }
}

/** How many events may still be sent. */
class Room {
  private wake: (() => void) | undefined;

  constructor(private left: number) {}

  add(count: number): void {
    this.left += count;
    this.wake?.();
  }

  async take(signal: AbortSignal): Promise<void> {
    while (this.left === 0) {
      await new Promise<void>((resolve) => (this.wake = resolve));
      signal.throwIfAborted();
    }
    this.left--;
  }
}

if (process.send) {
  env.logLevel = 'fatal';
  const engine = new EngineProcess(
    (turn) => new Promise((resolve) => process.send!(turn, undefined, undefined, () => resolve())),
  );
  process.on('message', (message) => engine.handle(toEngineSchema.parse(message)));
  // Signals are for the server, which finishes requests first; without it there is nothing to do.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
  process.on('disconnect', () => process.exit(0));
  // The server may have gone before this was listening.
  if (!process.connected) process.exit(0);
  setInterval(() => void engine.beat(), BEAT);
}
