/**
 * A request to write, with the texts that it has under way.
 * @module
 */
import type { Tokenizer } from '../../data/index.js';
import { TextStream } from '../../decode/index.js';
import type {
  EngineEvent,
  PromptToken,
  TextEnded,
  TokenProbabilities,
  TokenRouting,
} from '../engine-client.js';
import type { CheckedRequest } from './check-request.js';
import { EventQueue } from './event-queue.js';
import { Job, type JobOptions } from './job.js';
import { noNumbers } from './no-numbers.js';
import { spelling, tokenProbabilities } from './probabilities.js';
import type { ServedText, TextBatch, TextWishes } from './text-batch.js';
import { TokenChooser } from './token-chooser.js';

/** What texts are made with. */
export interface Writing {
  readonly batch: TextBatch;
  readonly tokenizer: Tokenizer;
  /** Ids that end a text, unless a request ignores them. */
  readonly endTokens: readonly number[];
  /** Called when a token was added to a text. */
  readonly onToken: (text: RunningText) => void;
  /** Called when the reader of a full queue has made room. */
  readonly onDrained: () => void;
}

/** Takes a text's next token from its scores, and tells what comes of it. */
export class GenerationJob extends Job {
  readonly events: EventQueue<EngineEvent>;
  /** Texts that have something to be written, or to be read. */
  readonly running = new Set<RunningText>();
  private readonly promptRouting: TokenRouting[] = [];
  /** Of the prompt's second token and those after it. */
  private readonly probabilities: TokenProbabilities[] = [];
  private promptRead = false;

  /** @param prompt its ids */
  constructor(
    readonly request: CheckedRequest,
    readonly prompt: readonly number[],
    readonly maxTokens: number,
    private readonly writing: Writing,
    options: JobOptions,
  ) {
    super(options);
    this.events = new EventQueue(writing.onDrained);
  }

  /** Leaves the queue: its prompt will be read. */
  begin(): void {
    this.started = performance.now();
    const first = this.createText(0, (wishes) => this.writing.batch.add(this.prompt, wishes));
    this.running.add(first);
  }

  /** The prompt has been read: as many texts as were asked for go on from it. */
  begun(text: ServedText): void {
    const [first] = this.running;
    this.promptRead = true;
    const { echo, routing, seed, n } = this.request;
    this.events.push({
      kind: 'prompt',
      tokens: this.prompt.length,
      ...(echo && { text: this.writing.tokenizer.decode(this.prompt), detail: this.detail() }),
      ...(routing && { routing: this.promptRouting.slice(0, this.prompt.length) }),
      seed,
    });
    for (let index = 1; index < n; index++) {
      const copy = this.createText(index, (wishes) => this.writing.batch.fork(text, wishes));
      copy.routing = first.routing;
      this.running.add(copy);
    }
    for (const running of [...this.running]) {
      if (this.maxTokens === 0) this.endText(running, 'length');
      else this.choose(running);
    }
  }

  /** Takes the next token of a text. */
  choose(running: RunningText): void {
    const { tokenizer, endTokens } = this.writing;
    const { request, maxTokens } = this;
    const scores = running.text.scores.subarray(0, tokenizer.vocabSize);
    const id = this.draw(running, scores);
    if (request.stopTokens.includes(id) || (!request.ignoreEnd && endTokens.includes(id)))
      return this.endText(running, 'stop', id);
    running.count++;
    const { before } = running;
    running.before = id;
    const piece = running.stream.push(id);
    const { topLogProbabilities: top } = request;
    this.events.push({
      kind: 'token',
      index: running.index,
      id,
      text: piece,
      ...(top !== undefined && { probabilities: tokenProbabilities(tokenizer, scores, id, top, before) }),
      ...(request.routing && { routing: running.routing }),
    });
    this.writing.onToken(running);
    if (running.stream.stopped) return this.endText(running, 'stop', running.stream.stoppedBy);
    if (running.count >= maxTokens) return this.endText(running, 'length');
    running.pending = id;
  }

  /** Takes its texts out of the engine; between two passes. */
  clear(): void {
    for (const { text } of this.running) this.writing.batch.remove(text);
    this.running.clear();
  }

  protected reject(error: Error): void {
    this.events.fail(error);
  }

  protected resolve(): void {
    this.events.end();
  }

  /** @throws EngineUnavailableError if the scores tell nothing. */
  private draw({ chooser, index }: RunningText, scores: Float32Array): number {
    try {
      return chooser.choose(scores);
    } catch (error) {
      throw noNumbers(`text ${index}`, (error as Error).message);
    }
  }

  private endText(running: RunningText, reason: TextEnded['reason'], stop?: string | number): void {
    this.running.delete(running);
    this.writing.batch.remove(running.text);
    const { index, count } = running;
    const text = running.stream.end();
    this.events.push({
      kind: 'end',
      index,
      reason,
      ...(stop !== undefined && { stop }),
      text,
      tokens: count,
    });
    if (this.running.size === 0) this.complete();
  }

  private createText(index: number, seat: (wishes: TextWishes) => ServedText): RunningText {
    const { request, prompt } = this;
    const { batch, tokenizer } = this.writing;
    const before = batch.before(prompt);
    const running = new RunningText(
      index,
      new TokenChooser(request, index, before),
      new TextStream(tokenizer, before, request.stop),
      before.at(-1),
    );
    running.text = seat({
      onRouting: request.routing ? (routing) => this.routed(running, routing) : undefined,
      onScores:
        request.echo && request.topLogProbabilities !== undefined
          ? (position, scores) => this.read(position, scores)
          : undefined,
    });
    return running;
  }

  private routed(running: RunningText, routing: TokenRouting): void {
    running.routing = routing;
    if (!this.promptRead) this.promptRouting.push(routing);
  }

  /** The model has said what may follow a token of the prompt. */
  private read(position: number, scores: Float32Array): void {
    const { tokenizer } = this.writing;
    if (this.over || position + 1 === this.prompt.length) return;
    const next = this.prompt[position + 1];
    const known = scores.subarray(0, tokenizer.vocabSize);
    const top = this.request.topLogProbabilities!;
    try {
      this.probabilities.push(tokenProbabilities(tokenizer, known, next, top, this.prompt[position]));
    } catch (error) {
      // In the middle of a pass, whose other texts have nothing to do with it.
      this.fail(noNumbers('the prompt', (error as Error).message), 'failed');
    }
  }

  /** The tokens of the prompt. */
  private detail(): PromptToken[] {
    return this.prompt.map((id, position) => {
      const probabilities = this.probabilities[position - 1] as TokenProbabilities | undefined;
      const text = spelling(this.writing.tokenizer, id, this.prompt[position - 1]);
      return { id, text, ...(probabilities && { probabilities }) };
    });
  }
}

/** One text of a request while it is written. */
export class RunningText {
  /** Its place in the engine. */
  text!: ServedText;
  /** Tokens that were added. */
  count = 0;
  /** The token that was chosen last, which the model has not seen. */
  pending: number | undefined;
  /** Experts of the last token that was computed. */
  routing: TokenRouting = [];

  constructor(
    readonly index: number,
    readonly chooser: TokenChooser,
    readonly stream: TextStream,
    /** The token before the next one. */
    public before: number | undefined,
  ) {}
}
