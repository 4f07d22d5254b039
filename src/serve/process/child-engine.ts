/**
 * An engine in a process of its own: passes block that one, and its death is survived.
 * @module
 */
import { fork, type ChildProcess } from 'node:child_process';
import type {
  Classification,
  EngineClient,
  EngineEvent,
  EngineState,
  GenerationRequest,
  ModelInfo,
  RequestOptions,
  TextsRequest,
  TextVector,
} from '../engine-client.js';
import { EngineUnavailableError } from '../engine-errors.js';
import type { EngineStats } from '../engine-stats.js';
import { defaultLimits, type EngineLimits } from '../engine/engine-limits.js';
import { Counters } from '../engine/counters.js';
import type { EngineSource } from '../engine/engine-source.js';
import { abortError } from '../engine/job.js';
import { turnSchema, unpackError, type FromEngine, type ToEngine } from './messages.js';
import { RemoteRequest } from './remote-request.js';
import { sumStats } from './sum-stats.js';

/** Settings of {@link ChildEngine.start}. */
export interface ChildEngineOptions {
  readonly limits?: Partial<EngineLimits>;
  /** A process that has not been heard of for so long is ended and started again: more than the longest pass takes. */
  readonly silenceMilliseconds?: number;
  /** Before the first start after a death; doubles with every further one, up to 30 s, until one has lasted for a minute. */
  readonly backOffMilliseconds?: number;
  /** The program of the process; the package's own when absent. */
  readonly program?: URL;
  /** Told what happens to the process, one line each. */
  readonly onLog?: (line: string) => void;
}

/** Milliseconds: the longest pause between two starts, and how long a process lasts that is not counted as failing. */
const [LONGEST_PAUSE, LASTING] = [30_000, 60_000];
/** Milliseconds to wait for counters. */
const ANSWERING = 1_000;
/** Milliseconds for a process to end after its requests have. */
const CLOSING = 5_000;

/** The engine of a server. Requests that run when its process dies fail at once; later ones are answered by the next. */
export class ChildEngine implements EngineClient {
  private current: EngineState = 'starting';
  private info: ModelInfo | undefined;
  private child: ChildProcess | undefined;
  private readonly requests = new Map<number, RemoteRequest>();
  private readonly asked = new Map<number, (stats: EngineStats | undefined) => void>();
  private nextId = 0;
  private readonly before = { restarts: 0, stats: undefined as EngineStats | undefined };
  private latest: EngineStats | undefined;
  private lastHeard = 0;
  private deaths = 0;
  private pause: NodeJS.Timeout | undefined;
  private watch: NodeJS.Timeout | undefined;
  private ended: Promise<void> = Promise.resolve();

  private constructor(
    private readonly source: EngineSource,
    private readonly options: ChildEngineOptions,
  ) {}

  /**
   * Starts the process and waits until it has opened the model.
   * @throws Error with the message of why it could not be opened.
   */
  static async start(source: EngineSource, options: ChildEngineOptions = {}): Promise<ChildEngine> {
    const engine = new ChildEngine(source, options);
    try {
      await engine.launch();
    } catch (error) {
      await engine.stop({ graceMilliseconds: 0 });
      throw error;
    }
    return engine;
  }

  get state(): EngineState {
    return this.current;
  }

  /** Of the process that computes; undefined while there is none. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  get model(): ModelInfo {
    if (!this.info) throw new EngineUnavailableError('the engine is starting');
    return this.info;
  }

  async *generate(request: GenerationRequest, { signal }: RequestOptions = {}): AsyncGenerator<EngineEvent> {
    const remote = this.ask('generate', request, signal);
    try {
      yield* remote.events();
    } finally {
      this.leave(remote);
    }
  }

  classify(request: TextsRequest, options?: RequestOptions): Promise<readonly Classification[]> {
    return this.tell('classify', request, options);
  }

  embed(request: TextsRequest, options?: RequestOptions): Promise<readonly TextVector[]> {
    return this.tell('embed', request, options);
  }

  async stats(): Promise<EngineStats> {
    if (this.child?.connected && this.current !== 'starting' && this.current !== 'restarting') {
      const id = this.nextId++;
      const fresh = await new Promise<EngineStats | undefined>((resolve) => {
        this.asked.set(id, resolve);
        this.send({ kind: 'stats', id });
        // A pass may take longer; what was told last is no older than it.
        setTimeout(() => {
          this.asked.delete(id);
          resolve(undefined);
        }, ANSWERING).unref();
      });
      this.latest = fresh ?? this.latest;
    }
    const { stats: before, restarts } = this.before;
    const now = this.latest ?? idleStats(this.options.limits);
    return { ...(before ? sumStats(before, now) : now), restarts };
  }

  async stop({ graceMilliseconds = 30_000 }: { readonly graceMilliseconds?: number } = {}): Promise<void> {
    const { child } = this;
    if (this.current !== 'stopped') this.current = 'stopping';
    clearTimeout(this.pause);
    if (child) {
      this.send({ kind: 'stop', graceMilliseconds });
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMilliseconds + CLOSING);
      await this.ended;
      clearTimeout(timer);
    }
    clearInterval(this.watch);
    this.current = 'stopped';
  }

  private async tell<Result>(
    task: 'classify' | 'embed',
    request: TextsRequest,
    { signal }: RequestOptions = {},
  ): Promise<readonly Result[]> {
    const remote = this.ask(task, request, signal);
    try {
      return (await remote.results()) as readonly Result[];
    } finally {
      this.leave(remote);
    }
  }

  private ask(
    kind: 'generate' | 'classify' | 'embed',
    request: object,
    signal: AbortSignal | undefined,
  ): RemoteRequest {
    if (this.current !== 'ready')
      throw new EngineUnavailableError(`the engine is ${this.current} and takes no requests`);
    signal?.throwIfAborted();
    const id = this.nextId++;
    const remote = new RemoteRequest(id, (count) => this.send({ kind: 'read', id, count }));
    const onAbort = (): void => remote.fail(abortError(signal!));
    signal?.addEventListener('abort', onAbort);
    remote.onLeave = () => signal?.removeEventListener('abort', onAbort);
    this.requests.set(id, remote);
    this.send({ kind, id, request });
    return remote;
  }

  /** Nobody reads a request any more. */
  private leave(remote: RemoteRequest): void {
    remote.onLeave();
    if (!this.requests.delete(remote.id) || remote.over) return;
    this.send({ kind: 'cancel', id: remote.id });
  }

  private send(message: ToEngine): void {
    if (this.child?.connected) this.child.send(message, () => undefined);
  }

  /** Starts a process; resolves when it has opened the model. */
  private async launch(): Promise<void> {
    const child = this.fork();
    this.child = child;
    this.lastHeard = performance.now();
    const started = performance.now();
    return new Promise((resolve, reject) => {
      child.on('message', (turn) => {
        const parsed = turnSchema.safeParse(turn);
        if (!parsed.success) {
          this.log(`the engine sent what is no message (${parsed.error.issues[0].message}); it is ended`);
          child.kill('SIGKILL');
          return;
        }
        this.lastHeard = performance.now();
        for (const message of parsed.data) {
          if (message.kind === 'ready') {
            this.info = message.model;
            if (this.current !== 'stopping') this.current = 'ready';
            resolve();
          } else if (message.kind === 'failed') {
            reject(new Error(message.message));
          } else this.handle(message);
        }
      });
      child.on('error', reject);
      this.ended = new Promise((done) =>
        // Not `exit`: its last messages come before.
        child.once('close', (code, signal) => {
          const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
          reject(new Error(`the engine's process ${how} before it had opened the model`));
          this.died(how, performance.now() - started > LASTING);
          done();
        }),
      );
      this.watch ??= setInterval(() => this.listen(), 1000).unref();
      this.send({ kind: 'open', source: this.source, limits: this.options.limits ?? {} });
    });
  }

  private fork(): ChildProcess {
    const program = this.options.program ?? new URL('./engine-process.js', import.meta.url);
    try {
      return fork(program, [], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: [] });
    } catch (error) {
      // Without memory for a process there is none to end.
      this.died('could not be started', false);
      throw error;
    }
  }

  private handle(message: Exclude<FromEngine, { kind: 'ready' | 'failed' }>): void {
    switch (message.kind) {
      case 'beat':
        this.latest = message.stats ?? this.latest;
        return;
      case 'stats':
        this.asked.get(message.id)?.(message.stats);
        this.asked.delete(message.id);
        return;
      case 'event':
        return this.requests.get(message.id)?.push(message.event);
      case 'results':
        return this.requests.get(message.id)?.answer(message.results);
      case 'end':
        return this.requests.get(message.id)?.end();
      case 'error':
        return this.requests.get(message.id)?.fail(unpackError(message.error), true);
    }
  }

  /** Ends a process that hangs. */
  private listen(): void {
    const { silenceMilliseconds = 600_000 } = this.options;
    const silence = performance.now() - this.lastHeard;
    if (!this.child || silence < silenceMilliseconds) return;
    this.log(`the engine has been silent for ${Math.round(silence / 1000)} s; it is ended`);
    this.child.kill('SIGKILL');
  }

  private died(how: string, lasted: boolean): void {
    this.child = undefined;
    const error = new EngineUnavailableError(`the engine's process ${how}`);
    const failed = [...this.requests.values()].filter(({ over }) => !over);
    for (const remote of failed) remote.lose(error);
    this.requests.clear();
    for (const answer of this.asked.values()) answer(undefined);
    this.asked.clear();
    this.remember(failed.length);
    if (this.current !== 'ready' && this.current !== 'restarting') return;
    this.current = 'restarting';
    this.deaths = lasted ? 1 : this.deaths + 1;
    const { backOffMilliseconds = 500 } = this.options;
    const pause = Math.min(LONGEST_PAUSE, backOffMilliseconds * 2 ** (this.deaths - 1));
    this.log(`the engine's process ${how}; it is started again in ${pause / 1000} s`);
    this.pause = setTimeout(() => {
      this.before.restarts++;
      this.launch().catch((reason: unknown) => {
        this.log(`the engine did not start: ${(reason as Error).message}`);
        this.child?.kill('SIGKILL');
      });
    }, pause);
  }

  /** Adds what the last process had counted to that of those before. */
  private remember(failed: number): void {
    const { stats } = this.before;
    const last = this.latest ?? idleStats(this.options.limits);
    const { requests } = last;
    const known = { ...last, requests: { ...requests, failed: requests.failed + failed } };
    this.before.stats = stats ? sumStats(stats, known) : known;
    this.latest = undefined;
  }

  private log(line: string): void {
    this.options.onLog?.(line);
  }
}

/** Stats of an engine that has done nothing. */
function idleStats(limits: Partial<EngineLimits> = {}): EngineStats {
  const { slots, queueLimit } = { ...defaultLimits, ...limits };
  const zero = { queued: 0, running: 0, restarts: 0, residentBytes: 0, store: {} };
  return { ...zero, slots, queueLimit, ...new Counters().snapshot() };
}
