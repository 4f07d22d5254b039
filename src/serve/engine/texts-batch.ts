/**
 * Passes over whole texts of many requests: classes and vectors.
 * @module
 */
import { bucket, type Pass, type Passes } from '../../decode/index.js';
import { cast, divide, input, maximum, multiply, reshape, sum, type Tensor } from '../../graph/index.js';
import { Classifier, type EncoderDecoder, type SourceInputs } from '../../models/index.js';
import type { RoutingRecord } from '../../moe/index.js';
import type { TraceContext } from '../../nn/index.js';
import { doubled } from './growing-lanes.js';
import { computeFor } from './pass-error.js';
import type { TextListener } from './hooks.js';
import type { RoutingTap } from './routing-tap.js';
import type { TextsJob, TextsTask } from './texts-job.js';

/** Tokens of the shortest pass; others double. */
const LEAST_TIME = 16;
/** Texts that are computed together at most. */
const MOST_TEXTS = 16;

interface WaitingText {
  readonly job: TextsJob;
  readonly index: number;
  readonly ids: readonly number[];
}

/** Texts of equal length class share passes, whichever request they are from; the one that has waited longest is next. */
export class TextsBatch {
  private waiting: WaitingText[] = [];

  constructor(
    private readonly model: Classifier | EncoderDecoder,
    private readonly passes: Passes,
    private readonly tap: RoutingTap,
    private readonly listener?: TextListener,
  ) {}

  /** Compiles the pass that one short text needs. */
  async open(): Promise<this> {
    await this.pass(this.model instanceof Classifier ? 'classify' : 'embed', 1, this.time(1));
    return this;
  }

  /** Says that the texts of a request, which waits for its turn, will come. */
  announce(job: TextsJob): void {
    this.listener?.expect(job.texts, job);
  }

  /** Takes in the texts of a request. */
  add(job: TextsJob): void {
    this.waiting.push(...job.texts.map((ids, index) => ({ job, index, ids })));
  }

  /**
   * Computes some texts, in one pass.
   * @param budget tokens, roughly
   * @returns tokens that were read
   * @throws PassError of the requests whose texts were in the pass
   */
  async readOn(budget: number): Promise<number> {
    this.waiting = this.waiting.filter(({ job }) => !job.over);
    if (this.waiting.length === 0) return 0;
    const [{ job, ids }] = this.waiting;
    const time = this.time(ids.length);
    const most = Math.max(1, Math.min(MOST_TEXTS, Math.floor(budget / time)));
    const texts = this.waiting
      .filter((text) => text.job.task === job.task && this.time(text.ids.length) === time)
      .slice(0, most);
    this.waiting = this.waiting.filter((text) => !texts.includes(text));
    const batch = doubled(texts.length);
    const [source, sourceMask] = [new Int32Array(batch * time), new Uint8Array(batch * time)];
    texts.forEach((text, row) => {
      source.set(text.ids, row * time);
      sourceMask.fill(1, row * time, row * time + text.ids.length);
    });
    const jobs = texts.map((text) => text.job);
    const results = await computeFor(jobs, async () => {
      const pass = await this.pass(job.task, batch, time);
      return pass.run({ source, sourceMask });
    });
    const numbers = results['numbers'] as Float32Array;
    const width = numbers.length / batch;
    texts.forEach((text, row) =>
      text.job.add(text.index, {
        numbers: numbers.slice(row * width, (row + 1) * width),
        tokens: text.ids.length,
        routing: text.job.routing
          ? text.ids.map((_, position) => this.tap.read(results, row * time + position))
          : undefined,
      }),
    );
    return texts.reduce((total, text) => total + text.ids.length, 0);
  }

  /** The mean over all positions depends on how far a text is padded: as far as in training. */
  private time(length: number): number {
    const { options } = this.model;
    const whole = options.kind === 'classifier' && options.mean === 'released';
    return bucket(length, whole ? options.contextLength : LEAST_TIME, options.contextLength);
  }

  private pass(task: TextsTask, batch: number, time: number): Promise<Pass> {
    return this.passes.get(`${task} ${batch} × ${time} with experts`, (context) => {
      const source = input('source', 'int32', [batch, time]);
      const sourceMask = cast(input('sourceMask', 'bool', [batch, time]), 'float32');
      const { numbers, records } =
        task === 'classify'
          ? this.classify({ source, sourceMask }, context)
          : this.embed({ source, sourceMask }, context);
      return { numbers, ...this.tap.outputs(records) };
    });
  }

  private classify(inputs: SourceInputs, context: TraceContext): Computed {
    if (!(this.model instanceof Classifier)) throw new TypeError('only classifiers tell classes');
    const { logits: numbers, records } = this.model.forward(inputs, context);
    return { numbers, records };
  }

  /** The mean of the encoder's states over a text's own tokens. */
  private embed(inputs: SourceInputs, context: TraceContext): Computed {
    const { model } = this;
    const { source, sourceMask } = inputs;
    const { states, records } =
      model instanceof Classifier
        ? model.encoder.forward(
            { embedded: model.embedding.forward(source), tokens: source, mask: sourceMask },
            context,
          )
        : model.encode(inputs, context);
    const [batch, time] = source.shape as [number, number];
    const mask = sourceMask!;
    const total = sum(multiply(states, reshape(mask, [batch, time, 1])), 1);
    return { numbers: divide(total, maximum(sum(mask, 1, true), 1)), records };
  }
}

interface Computed {
  readonly numbers: Tensor;
  readonly records: readonly RoutingRecord[];
}
