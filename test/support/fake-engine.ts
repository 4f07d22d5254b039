/**
 * An engine without a model: deterministic texts, a queue and slots as real ones have them, and switches for whatever may
 * go wrong.
 * @module
 */
import { setTimeout as delay } from 'node:timers/promises';
import {
  EngineUnavailableError,
  QueueFullError,
  RequestError,
  TimeLimitError,
  type Classification,
  type EngineClient,
  type EngineEvent,
  type EngineState,
  type EngineStats,
  type GenerationRequest,
  type Histogram,
  type ModelInfo,
  type RequestOptions,
  type TextsRequest,
  type TextVector,
  type TokenProbabilities,
  type TokenRouting,
} from '../../src/serve/index.js';
import { checkTotals } from '../../src/serve/engine/check-request.js';

/** Settings of {@link FakeEngine}. */
export interface FakeOptions {
  readonly slots?: number;
  readonly queueLimit?: number;
  /** Between two tokens; 0 does not wait at all. */
  readonly tokenMilliseconds?: number;
  readonly model?: Partial<ModelInfo>;
  /** Sparse layers and experts of each; 2 and 8. */
  readonly layers?: number;
  readonly numExperts?: number;
  /** Experts of a layer that are in memory: those used last. All are, and nothing is told of them, when absent. */
  readonly resident?: number;
}

const topK = 2;

/** Texts of letters: token `k` after a prompt spells a letter that depends on prompt, seed, text and `k` alone. */
export class FakeEngine implements EngineClient {
  state: EngineState = 'ready';
  /** Requests that are being written, the most there ever were, and those that wait. */
  running = 0;
  mostRunning = 0;
  queued = 0;
  /** Tokens that were made, also those that nobody read. */
  tokens = 0;
  completed = 0;
  cancelled = 0;
  /** Thrown by the next token of any request. */
  failure: Error | undefined;
  readonly requests: (GenerationRequest | TextsRequest)[] = [];
  private readonly info: ModelInfo;
  private readonly waiting: (() => void)[] = [];
  private readonly stopping = new AbortController();
  /** By layer: how often each expert was used, and those in memory, the last used first. */
  private readonly uses: number[][];
  private readonly held: number[][];
  private hits = 0;
  private accesses = 0;

  constructor(private readonly options: FakeOptions = {}) {
    const { layers = 2, numExperts = 8 } = options;
    this.uses = Array.from({ length: layers }, () => new Array<number>(numExperts).fill(0));
    this.held = this.uses.map(() => []);
    this.info = {
      name: 'fake',
      kind: 'languageModel',
      contextLength: 256,
      vocabSize: 128,
      hiddenSize: 4,
      hasChatTemplate: true,
      tasks: ['generate', 'classify', 'embed'],
      routedLayers: Array.from({ length: layers }, (_, index) => ({
        name: String(2 * index + 1),
        layerIndex: 2 * index + 1,
        ...{ numExperts, topK },
      })),
      placement: [{ what: 'experts', where: 'memory', bytes: 4096 }],
      settings: { policy: 'lru', mode: 'none' },
      ...options.model,
    };
  }

  get model(): ModelInfo {
    if (this.state === 'starting') throw new EngineUnavailableError('the engine is starting');
    return this.info;
  }

  async *generate(request: GenerationRequest, { signal }: RequestOptions = {}): AsyncGenerator<EngineEvent> {
    this.requests.push(request);
    const { n = 1, seed = 7, topLogProbabilities: top, echo, routing, temperature } = request;
    const prompt = promptIds(request);
    const { contextLength, vocabSize } = this.info;
    if (prompt.length >= contextLength)
      throw new RequestError(
        'prompt',
        `${prompt.length} tokens are more than the model reads, ${contextLength - 1}`,
      );
    const wrong = prompt.findIndex((id) => id >= vocabSize);
    if (wrong >= 0) throw new RequestError(`prompt.ids.${wrong}`, `is no id below ${vocabSize}`);
    if (temperature === 99) throw new TypeError('a fault of the engine');
    const leave = await this.enter(signal);
    try {
      const count = Math.min(request.maxTokens ?? contextLength, contextLength - prompt.length);
      const read = prompt.map((id) => this.use(id));
      yield {
        kind: 'prompt',
        ...{ tokens: prompt.length, seed },
        ...(echo && { text: String.fromCharCode(...prompt) }),
        ...(echo && {
          detail: prompt.map((id, i) => ({
            id,
            text: String.fromCharCode(id),
            ...(i > 0 && top !== undefined && { probabilities: probabilities(id, top) }),
          })),
        }),
        ...(routing && { routing: read }),
      };
      const last = Array.from({ length: n }, () => prompt.at(-1)!);
      const texts = last.map(() => '');
      const ended = new Set<number>();
      for (let k = 0; k < count && ended.size < n; k++) {
        await this.pass(signal, request.timeLimitMilliseconds);
        for (let index = 0; index < n; index++) {
          if (ended.has(index)) continue;
          const id = 97 + ((last[index] * 5 + seed + index + k) % 26);
          this.tokens++;
          const used = this.use(last[index]);
          texts[index] += String.fromCharCode(id);
          const stop = request.stop?.find((text) => texts[index].endsWith(text));
          yield {
            kind: 'token',
            ...{ index, id },
            text: stop === undefined ? String.fromCharCode(id) : '',
            ...(top !== undefined && { probabilities: probabilities(id, top) }),
            ...(routing && { routing: used }),
          };
          last[index] = id;
          if (stop !== undefined || k === count - 1) {
            ended.add(index);
            yield {
              kind: 'end',
              index,
              reason: stop === undefined ? 'length' : 'stop',
              ...(stop !== undefined && { stop }),
              text: '',
              tokens: k + 1,
            };
          }
        }
      }
      this.completed++;
    } finally {
      leave();
    }
  }

  async classify(request: TextsRequest, { signal }: RequestOptions = {}): Promise<readonly Classification[]> {
    return this.read(request, signal, () => ({ label: 1, probabilities: [0.25, 0.75] }));
  }

  async embed(request: TextsRequest, { signal }: RequestOptions = {}): Promise<readonly TextVector[]> {
    return this.read(request, signal, (ids) => ({ vector: [0.5, -0.5, 0.5, ids.length > 3 ? 0.5 : -0.5] }));
  }

  async stats(): Promise<EngineStats> {
    const requests = {
      completed: this.completed,
      cancelled: this.cancelled,
      timedOut: 0,
      refused: 0,
      failed: 0,
    };
    return {
      ...{ queued: this.queued, running: this.running, requests },
      slots: this.options.slots ?? 4,
      queueLimit: this.options.queueLimit ?? 64,
      ...{
        promptTokens: 0,
        generatedTokens: this.tokens,
        passes: this.tokens,
        restarts: 0,
        residentBytes: 1,
      },
      ...{ queueSeconds: histogram(), firstTokenSeconds: histogram() },
      ...{ tokenSeconds: histogram(), requestSeconds: histogram() },
      store: this.store,
      ...(this.options.resident !== undefined && {
        experts: this.uses.map((accesses, layer) => ({
          accesses: [...accesses],
          places: accesses.map((_, expert) => (this.held[layer].includes(expert) ? 'ready' : 'cold')),
        })),
      }),
    };
  }

  async stop({ graceMilliseconds = 1000 }: { readonly graceMilliseconds?: number } = {}): Promise<void> {
    this.state = 'stopping';
    const latest = performance.now() + graceMilliseconds;
    while (this.running + this.queued > 0 && performance.now() < latest) await delay(2);
    this.stopping.abort();
    while (this.running + this.queued > 0) await delay(2);
    this.state = 'stopped';
  }

  /** What a killed process looks like to its clients. */
  kill(): void {
    this.state = 'restarting';
    this.failure = new EngineUnavailableError('the engine was lost: it is started again');
  }

  /** What it looks like once it is back. */
  revive(): void {
    this.state = 'ready';
    this.failure = undefined;
  }

  private get store(): Record<string, number> {
    if (this.options.resident === undefined)
      return { accesses: 100, hits: 90, bytesRead: 40960, stallMilliseconds: 12.5, resident: 5 };
    const { accesses, hits } = this;
    const misses = accesses - hits;
    return {
      accesses,
      hits,
      hitRate: hits / accesses,
      bytesRead: 4e6 * misses,
      stallMilliseconds: 2 * misses,
    };
  }

  private route(id: number): number[][] {
    return route(id, this.uses.length, this.uses[0].length);
  }

  /** Routes a token and remembers it. */
  private use(id: number): number[][] {
    const routing = this.route(id);
    for (const [layer, experts] of routing.entries()) {
      for (const expert of experts) {
        this.accesses++;
        if (this.held[layer].includes(expert)) this.hits++;
        this.uses[layer][expert]++;
        const others = this.held[layer].filter((held) => held !== expert);
        this.held[layer] = [expert, ...others].slice(0, this.options.resident ?? Infinity);
      }
    }
    return routing;
  }

  private async enter(signal: AbortSignal | undefined): Promise<() => void> {
    if (this.state !== 'ready') throw new EngineUnavailableError(`the engine is ${this.state}`);
    const { slots = 4, queueLimit = 64 } = this.options;
    if (this.running >= slots) {
      if (this.queued >= queueLimit) throw new QueueFullError(queueLimit, 3);
      this.queued++;
      await new Promise<void>((free) => {
        this.waiting.push(free);
        signal?.addEventListener('abort', () => free(), { once: true });
      });
      this.queued--;
    }
    this.running++;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    return () => {
      this.running--;
      this.waiting.shift()?.();
    };
  }

  private async pass(signal: AbortSignal | undefined, limit = Infinity): Promise<void> {
    const { tokenMilliseconds = 0 } = this.options;
    if (tokenMilliseconds > 0) await delay(tokenMilliseconds);
    if (tokenMilliseconds > limit) throw new TimeLimitError(limit);
    if (this.failure) throw this.failure;
    if (this.stopping.signal.aborted) throw new EngineUnavailableError('the engine has stopped');
    if (signal?.aborted) {
      this.cancelled++;
      throw signal.reason;
    }
  }

  private async read<Result extends object>(
    request: TextsRequest,
    signal: AbortSignal | undefined,
    tell: (ids: readonly number[]) => Result,
  ): Promise<(Result & { tokens: number; routing?: TokenRouting[] })[]> {
    this.requests.push(request);
    const texts = request.inputs.map((input) => (typeof input === 'string' ? idsOf(input) : input));
    checkTotals(request, texts, this.info.routedLayers);
    const leave = await this.enter(signal);
    try {
      await this.pass(signal);
      return texts.map((ids) => {
        const routing = request.routing && { routing: ids.map((id) => this.route(id)) };
        return { ...tell(ids), tokens: ids.length, ...routing };
      });
    } finally {
      leave();
    }
  }
}

/** Experts of a token: near by for tokens near by, as far as ids go. */
export function route(id: number, layers = 2, numExperts = 8): number[][] {
  return Array.from({ length: layers }, (_, layer) =>
    Array.from({ length: topK }, (_, rank) => (id * (1 + (layer % 3)) + layer + 3 * rank) % numExperts),
  );
}

function idsOf(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0)! % 128);
}

function promptIds({ prompt }: GenerationRequest): readonly number[] {
  if ('ids' in prompt) return prompt.ids;
  if ('text' in prompt) return idsOf(prompt.text);
  return idsOf(prompt.messages.map(({ role, content }) => `${role}:${content}\n`).join(''));
}

function probabilities(id: number, top: number): TokenProbabilities {
  const scored = (id: number, rank: number) => ({
    id,
    text: String.fromCharCode(id),
    bytes: [id],
    logProbability: -0.5 - rank,
  });
  return {
    ...scored(id, 0),
    top: Array.from({ length: top }, (_, rank) => scored(97 + ((id + rank) % 26), rank)),
  };
}

function histogram(): Histogram {
  return { bounds: [0.1, 1], counts: [1, 2, 3], sum: 4, count: 6 };
}
