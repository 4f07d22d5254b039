/**
 * Routes texts through a model of any kind.
 * @module
 */
import { displayToken, tokenTexts } from '../analyze/index.js';
import type { Tensor } from '../graph/index.js';
import { EncoderDecoder, LanguageModel } from '../models/index.js';
import type { RoutingRecord } from '../moe/index.js';
import { evaluationContext } from '../nn/index.js';
import { compile, type Program } from '../runtime/index.js';
import { objectiveOf, type LoadedTextModel, type SegmentBuffers } from '../train/index.js';
import { pathsOf, type RoutingPaths } from './inspect-routing.js';

interface Compiled {
  readonly program: Program;
  readonly records: readonly RoutingRecord[];
  readonly memory: SegmentBuffers | undefined;
}

/**
 * Paths of the tokens of one text after the other; of an encoder–decoder through its encoder. Programs are compiled for
 * lengths that double.
 */
export class TextRouter {
  private readonly compiled = new Map<number, Compiled>();

  constructor(private readonly loaded: LoadedTextModel) {}

  /** @throws RangeError for a text without tokens or longer than the model's context, and for a model without records. */
  async route(text: string): Promise<RoutingPaths> {
    const { model, tokenizer } = this.loaded;
    const { contextLength } = model.options;
    const encoded = tokenizer.encode(text);
    // Texts that are read whole are followed by their end token, as in training.
    const end =
      model instanceof LanguageModel ? undefined : (model.options.eosTokenId ?? tokenizer.special.eos);
    const ids = Int32Array.from(end === undefined ? encoded : [...encoded, end]);
    if (encoded.length === 0) throw new RangeError('the text has no token');
    if (ids.length > contextLength)
      throw new RangeError(
        `a text has ${ids.length} tokens, and the model looks at ${contextLength} at once: give a shorter one`,
      );
    const length = Math.min(contextLength, 2 ** Math.ceil(Math.log2(Math.max(ids.length, 8))));
    const { program, records, memory } = await this.compile(length);
    const tokens = new Int32Array(length);
    tokens.set(ids);
    const mask = new Uint8Array(length).fill(1, 0, ids.length);
    const languages = new Int32Array(length);
    const feeds = { tokens, mask, languages, source: tokens, sourceMask: mask };
    program.bindKnown(Object.entries(feeds));
    memory?.reset();
    memory?.bind(program);
    const results = await program.run();
    const layers = records.map(({ name, numExperts, topK }) => ({
      ...{ name, numExperts, topK },
      experts: (results[`experts.${name}`] as Int32Array).subarray(0, ids.length * topK),
      gates: (results[`gates.${name}`] as Float32Array).subarray(0, ids.length * topK),
    }));
    return pathsOf({ tokens: ids, layers }, tokenTexts(tokenizer, ids).map(displayToken));
  }

  /** Frees all sessions. */
  async release(): Promise<void> {
    for (const { program } of this.compiled.values()) await program.release();
    this.compiled.clear();
  }

  private async compile(length: number): Promise<Compiled> {
    const known = this.compiled.get(length);
    if (known) return known;
    const { model, weights, source } = this.loaded;
    const objective = objectiveOf(model);
    const shape = { batchSize: 1, contextLength: length, targetLength: 1 };
    const traced = objective.trace(evaluationContext(), { shape, padded: true });
    const records =
      model instanceof EncoderDecoder
        ? traced.records.filter(({ name }) => name.startsWith('encoder.'))
        : traced.records;
    if (records.length === 0)
      throw new RangeError(
        `${source}: no layer of this model records where its tokens go (${model.options.sparse?.kind ?? 'it is dense'})`,
      );
    const outputs: Record<string, Tensor> = {};
    for (const { name, experts, gates } of records) {
      outputs[`experts.${name}`] = experts;
      outputs[`gates.${name}`] = gates;
    }
    const program = (await compile(outputs)).bindKnown(weights);
    const made = { program, records, memory: objective.memory(1, false) };
    this.compiled.set(length, made);
    return made;
  }
}
