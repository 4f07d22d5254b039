/**
 * Answers many requests at once, one pass after another.
 * @module
 */
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
import { EngineError, EngineUnavailableError, QueueFullError } from '../engine-errors.js';
import type { EngineStats } from '../engine-stats.js';
import { acceptGeneration, acceptTexts, footprint } from './accept-request.js';
import { Counters } from './counters.js';
import { defaultLimits, type EngineLimits } from './engine-limits.js';
import { GenerationJob, type RunningText } from './generation-job.js';
import type { Job, JobOptions } from './job.js';
import { PassError } from './pass-error.js';
import type { ServedParts } from './served-parts.js';
import type { ServedText } from './text-batch.js';
import { classificationOf, vectorOf } from './text-results.js';
import { TextsJob, type TextResult, type TextsTask } from './texts-job.js';

/** A served model in this process. A pass blocks the thread, so servers keep the engine in a process of its own. */
export class Engine implements EngineClient {
  private current: EngineState = 'ready';
  private readonly limits: EngineLimits;
  private readonly queue: Job[] = [];
  private readonly writing = new Set<GenerationJob>();
  private readonly telling = new Set<TextsJob>();
  private readonly counters = new Counters();
  /** When each text's last token came. */
  private readonly lastToken = new WeakMap<RunningText, number>();
  private loop: Promise<void> | undefined;
  /** Whether something has happened since the last look. */
  private awake = false;
  private wakeSleeper: (() => void) | undefined;
  private closed: Promise<void> | undefined;

  constructor(
    private readonly parts: ServedParts,
    limits: Partial<EngineLimits> = {},
  ) {
    this.limits = { ...defaultLimits, ...limits };
  }

  get state(): EngineState {
    return this.current;
  }

  get model(): ModelInfo {
    return this.parts.info;
  }

  async *generate(request: GenerationRequest, { signal }: RequestOptions = {}): AsyncGenerator<EngineEvent> {
    const job = this.submitGeneration(request, signal);
    try {
      yield* job.events;
    } finally {
      job.fail(new EngineUnavailableError('the request was left by its reader'), 'cancelled');
    }
  }

  async classify(request: TextsRequest, { signal }: RequestOptions = {}): Promise<readonly Classification[]> {
    return (await this.tell('classify', request, signal)).map(classificationOf);
  }

  async embed(request: TextsRequest, { signal }: RequestOptions = {}): Promise<readonly TextVector[]> {
    return (await this.tell('embed', request, signal)).map(vectorOf);
  }

  stats(): Promise<EngineStats> {
    const experts = this.parts.storeExperts();
    const running = [...this.writing].reduce((sum, job) => sum + job.running.size, this.telling.size);
    const { slots, queueLimit } = this.limits;
    return Promise.resolve({
      queued: this.queue.filter(({ over }) => !over).length,
      running,
      slots,
      queueLimit,
      ...this.counters.snapshot(),
      restarts: 0,
      residentBytes: process.memoryUsage.rss(),
      store: this.parts.storeStats(),
      ...(experts && { experts }),
    });
  }

  async stop({ graceMilliseconds = 30_000 }: { readonly graceMilliseconds?: number } = {}): Promise<void> {
    if (this.current === 'ready') this.current = 'stopping';
    this.wake();
    const timer = setTimeout(() => {
      const error = new EngineUnavailableError('the server stops, and the request was not finished in time');
      for (const job of this.jobs()) job.fail(error, 'failed');
      this.wake();
    }, graceMilliseconds);
    await this.loop;
    clearTimeout(timer);
    this.current = 'stopped';
    await (this.closed ??= this.parts.close());
  }

  private submitGeneration(request: GenerationRequest, signal: AbortSignal | undefined): GenerationJob {
    const { reader, endTokens } = this.parts;
    const { checked, batch, prompt, maxTokens } = acceptGeneration(this.parts, this.limits, request);
    const writing = {
      ...{ batch, tokenizer: reader.tokenizer, endTokens },
      onToken: (text: RunningText) => this.counted(text),
      onDrained: () => this.wake(),
    };
    return this.submit(
      (options) => new GenerationJob(checked, prompt, maxTokens, writing, options),
      checked.timeLimitMilliseconds,
      signal,
    );
  }

  private async tell(
    task: TextsTask,
    request: TextsRequest,
    signal: AbortSignal | undefined,
  ): Promise<readonly TextResult[]> {
    const { checked, texts } = acceptTexts(this.parts, task, request);
    const job = this.submit(
      (options) => new TextsJob(task, texts, checked.routing, options),
      checked.timeLimitMilliseconds,
      signal,
    );
    this.parts.texts!.announce(job);
    return job.results;
  }

  /** Queues a job, if there is room and time. */
  private submit<Made extends Job>(
    make: (options: JobOptions) => Made,
    timeLimitMilliseconds: number | undefined,
    signal: AbortSignal | undefined,
  ): Made {
    if (this.current !== 'ready')
      throw new EngineUnavailableError(`the engine is ${this.current} and takes no requests`);
    signal?.throwIfAborted();
    const { queueLimit, timeLimitMilliseconds: most } = this.limits;
    const waiting = this.queue.filter(({ over }) => !over).length;
    if (waiting >= queueLimit) {
      this.counters.requests.refused++;
      throw new QueueFullError(queueLimit, this.retryAfter(waiting));
    }
    const job = make({
      timeLimitMilliseconds: Math.min(timeLimitMilliseconds ?? most, most),
      signal,
      onEnd: (ended, how) => {
        this.counters.ended(ended, how);
        this.wake();
      },
    });
    this.queue.push(job);
    this.wake();
    this.loop ??= this.run();
    return job;
  }

  /** Seconds until a place may be free, from how long requests took so far. */
  private retryAfter(waiting: number): number {
    const { sum, count } = this.counters.requestSeconds;
    const each = count === 0 ? 1 : sum / count;
    return Math.min(60, Math.max(1, Math.ceil((each * waiting) / this.limits.slots)));
  }

  private *jobs(): Iterable<Job> {
    yield* [...this.queue, ...this.writing, ...this.telling];
  }

  /** Passes, while there is something to do. */
  private async run(): Promise<void> {
    // The caller first.
    await nextTurn();
    for (;;) {
      this.awake = false;
      this.sweep();
      this.admit();
      if (this.queue.length + this.writing.size + this.telling.size === 0) break;
      const worked = await this.step();
      // Aborts, new requests and timers have their turn between two passes.
      if (worked) await nextTurn();
      else if (!this.awake) await new Promise<void>((resolve) => (this.wakeSleeper = resolve));
    }
    this.loop = undefined;
  }

  /** One pass of each kind. Returns whether there was anything to compute. */
  private async step(): Promise<boolean> {
    let worked = false;
    for (const part of [() => this.read(), () => this.write(), () => this.tellOn()]) {
      try {
        worked = (await part()) || worked;
      } catch (error) {
        this.failRunning(error);
        worked = true;
      }
      this.sweep();
    }
    return worked;
  }

  private async read(): Promise<boolean> {
    const { batch } = this.parts;
    const texts = await batch?.readOn(this.limits.readTokens);
    if (!texts) return false;
    this.counters.passes++;
    for (const text of texts) {
      const job = this.owner(text);
      if (!job || job.over) continue;
      this.counters.promptTokens += job.prompt.length;
      this.counters.firstTokenSeconds.add(performance.now() - job.arrived);
      this.guard(job, () => job.begun(text));
    }
    return true;
  }

  private async write(): Promise<boolean> {
    const { batch } = this.parts;
    const tokens = new Map<ServedText, number>();
    const texts: (readonly [GenerationJob, RunningText])[] = [];
    for (const job of this.writing) {
      if (job.over || job.events.full) continue;
      for (const running of job.running) {
        if (running.pending === undefined) continue;
        tokens.set(running.text, running.pending);
        texts.push([job, running]);
      }
    }
    if (!batch || texts.length === 0) return false;
    try {
      await batch.write(tokens);
    } catch (error) {
      this.failRunning(error);
    }
    this.counters.passes++;
    for (const [job, running] of texts) {
      if (job.over) continue;
      this.guard(job, () => job.choose(running));
    }
    return true;
  }

  private async tellOn(): Promise<boolean> {
    const tokens = (await this.parts.texts?.readOn(this.limits.readTokens)) ?? 0;
    if (tokens === 0) return false;
    this.counters.passes++;
    this.counters.promptTokens += tokens;
    return true;
  }

  private counted(running: RunningText): void {
    const now = performance.now();
    const last = this.lastToken.get(running);
    if (last !== undefined) this.counters.tokenSeconds.add(now - last);
    this.lastToken.set(running, now);
    this.counters.generatedTokens++;
  }

  /** A fault that concerns one request alone. */
  private guard(job: GenerationJob, act: () => void): void {
    try {
      act();
    } catch (error) {
      job.fail(asEngineError(error), 'failed');
    }
  }

  private owner(text: ServedText): GenerationJob | undefined {
    return [...this.writing].find(({ running }) => [...running].some((one) => one.text === text));
  }

  /** A pass failed, and with it those who were in it; all that run, if that is not known. */
  private failRunning(error: unknown): void {
    const concerns = error instanceof PassError ? error.concerns : undefined;
    const told = asEngineError(error instanceof PassError ? error.cause : error);
    for (const job of this.writing)
      if (!concerns || [...job.running].some(({ text }) => concerns.has(text))) job.fail(told, 'failed');
    for (const job of this.telling) if (!concerns || concerns.has(job)) job.fail(told, 'failed');
  }

  /** Takes away what has ended. */
  private sweep(): void {
    for (const job of this.writing) {
      if (!job.over) continue;
      job.clear();
      this.writing.delete(job);
    }
    for (const job of this.telling) if (job.over) this.telling.delete(job);
    for (let at = this.queue.length - 1; at >= 0; at--) if (this.queue[at].over) this.queue.splice(at, 1);
  }

  /** Lets requests in, in the order in which they came. */
  private admit(): void {
    const { batch, texts } = this.parts;
    const { slots, cacheBytes } = this.limits;
    while (this.queue.length > 0) {
      const [job] = this.queue;
      if (job instanceof GenerationJob) {
        const under = [...this.writing];
        const used = under.reduce((sum, { request }) => sum + request.n, 0);
        const bytes = (one: GenerationJob): number =>
          footprint(batch!, one.prompt.length, one.maxTokens, one.request.n);
        const held = under.reduce((sum, one) => sum + bytes(one), 0);
        if (used + job.request.n > slots || held + bytes(job) > cacheBytes) return;
        this.writing.add(job);
        job.begin();
      } else if (job instanceof TextsJob) {
        if (this.telling.size >= slots) return;
        this.telling.add(job);
        job.begin();
        texts!.add(job);
      }
      this.queue.shift();
      this.counters.queueSeconds.add(job.started! - job.arrived);
    }
  }

  private wake(): void {
    this.awake = true;
    this.wakeSleeper?.();
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Faults of ours, of the disk or the model's numbers: the next request may be served. */
function asEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new EngineUnavailableError(`the engine failed: ${message}`, { cause: error });
}
