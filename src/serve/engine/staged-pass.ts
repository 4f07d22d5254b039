/**
 * One pass as a row of programs with experts between them.
 * @module
 */
import type { Pass } from '../../decode/index.js';
import { inputName, splitStages, topologicalOrder, type Cut, type Tensor } from '../../graph/index.js';
import type { Buffers, Program, Results, TensorData } from '../../runtime/index.js';
import type { RoundedProducts } from '../quantised/rounded-products.js';
import type { ExpertRunner } from './expert-runner.js';
import type { PassStart, Prefetcher, RoutingDecision, RoutingObserver, RoutingSource } from './hooks.js';
import { JointBuffers } from './joint-buffers.js';
import type { SharedPrograms } from './shared-programs.js';
import { weightsFirst } from './weights-first.js';

/** A cut at a router. */
export interface RoutedCut extends Cut {
  /** Index of the layer in the store. */
  readonly layer: number;
  readonly tokens: number;
  readonly topK: number;
  readonly site: string;
  /** Whether the decision is fed, as `routing.<site>.experts` and `.gates`. */
  readonly supplied: boolean;
}

/** What {@link StagedPass.open} needs. */
export interface StagedPassParts {
  readonly name: string;
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly cuts: readonly RoutedCut[];
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly runner: ExpertRunner;
  /** Weights that products take in blocks of 4 or 8 bits. */
  readonly rounded?: RoundedProducts | undefined;
  /** Where stages are compiled. */
  readonly programs: SharedPrograms;
  readonly observer?: RoutingObserver | undefined;
  readonly prefetcher?: Prefetcher | undefined;
  readonly routing?: RoutingSource | undefined;
  /** Number of the next pass. */
  readonly count: () => number;
  /** Runs when the passes before have ended. */
  readonly inTurn: <T>(run: () => Promise<T>) => Promise<T>;
}

/** A program between two routers. */
interface CompiledStage {
  readonly program: Program;
  /** Those of the pass's feeds that it reads. */
  readonly feeds: readonly string[];
  /** Names of the pass's outputs that it makes. */
  readonly outputs: readonly string[];
}

/** Where a router's decision and what its experts make of it are found. */
interface Junction {
  readonly cut: RoutedCut;
  readonly rows: Float32Array;
  readonly experts: Int32Array;
  readonly gates: Float32Array;
  readonly ahead: Int32Array | undefined;
  readonly combined: Float32Array;
}

/** A stage before it is joined to the others. */
interface Draft {
  readonly program: Program;
  /** What the cut after it and later stages read, by name. */
  readonly joints: ReadonlyMap<string, Tensor>;
  readonly outputs: readonly string[];
}

/** See `StagedPasses`. */
export class StagedPass implements Pass {
  private running = false;

  private constructor(
    private readonly parts: StagedPassParts,
    private readonly stages: readonly CompiledStage[],
    private readonly junctions: readonly Junction[],
    private readonly feedNames: ReadonlySet<string>,
    private readonly shapes: PassStart['shapes'],
  ) {}

  /** Compiles the stages and joins them by their buffers. */
  static async open(parts: StagedPassParts): Promise<StagedPass> {
    const { outputs, cuts, weights, programs, rounded } = parts;
    const isWeight = (feed: string): boolean => weights.has(feed);
    const stages = splitStages(outputs, cuts, isWeight);
    const drafts: Draft[] = [];
    for (const [index, stage] of stages.entries()) {
      const needs = Object.entries(stage.needs).map(
        ([name, tensor]) => [`${index}.${name}`, tensor] as const,
      );
      const joints = new Map([...needs, ...Object.entries(stage.crossing)]);
      const made = { ...stage.outputs, ...Object.fromEntries(joints) };
      const products = rounded ? rounded.replace(made) : made;
      const program = await programs.open(weightsFirst(products, isWeight));
      drafts.push({ program: program.bindKnown(weights), joints, outputs: Object.keys(stage.outputs) });
    }
    const { compiled, junctions } = join(drafts, cuts, isWeight);
    const given = new Set(
      cuts.flatMap(({ site, supplied }) =>
        supplied ? [`routing.${site}.experts`, `routing.${site}.gates`] : [],
      ),
    );
    const feedNames = new Set(compiled.flatMap(({ feeds }) => feeds.filter((feed) => !given.has(feed))));
    const shapes = shapesOf([
      ...Object.values(outputs),
      ...cuts.flatMap(({ needs }) => Object.values(needs)),
    ]);
    const fed = Object.fromEntries([...shapes].filter(([name]) => feedNames.has(name)));
    return new StagedPass(parts, compiled, junctions, feedNames, fed);
  }

  async run(feeds: Buffers): Promise<Results> {
    if (this.running) throw new Error('the pass is already running: await its run before the next');
    for (const name of Object.keys(feeds)) {
      if (!this.feedNames.has(name))
        throw new Error(`the pass has no feed '${name}'; its feeds are: ${[...this.feedNames].join(', ')}`);
    }
    this.running = true;
    try {
      return await this.parts.inTurn(() => this.runStages(feeds));
    } finally {
      this.running = false;
    }
  }

  async release(): Promise<void> {
    for (const { program } of this.stages) await program.release();
  }

  private async runStages(feeds: Buffers): Promise<Results> {
    const { name, count, prefetcher } = this.parts;
    const start: PassStart = { pass: count(), name, feeds, shapes: this.shapes };
    const all = { ...feeds, ...(await this.suppliedFeeds(start)) };
    await prefetcher?.begin?.(start);
    const results: Record<string, TensorData> = {};
    for (const [index, { program, feeds: read, outputs }] of this.stages.entries()) {
      const own = read.flatMap((feed) => (feed in all ? [[feed, all[feed]] as const] : []));
      const made = await program.run(Object.fromEntries(own));
      for (const output of outputs) results[output] = made[output];
      const junction = this.junctions.at(index);
      if (junction) await this.runExperts(start.pass, junction);
    }
    return results;
  }

  private async runExperts(pass: number, junction: Junction): Promise<void> {
    const { runner, observer, prefetcher } = this.parts;
    const { cut, rows, experts, gates, ahead, combined } = junction;
    const { layer, tokens, topK } = cut;
    await runner.run({ layer, topK, rows, experts, gates }, combined, (distinct) => {
      const decision: RoutingDecision = {
        ...{ pass, layer, tokens, topK, experts, gates, distinct },
        ...(ahead && { ahead }),
      };
      observer?.observe(decision);
      prefetcher?.decided?.(decision);
    });
  }

  /** Decisions in place of the routers' own. */
  private async suppliedFeeds(start: PassStart): Promise<Buffers> {
    const { routing } = this.parts;
    if (!routing) return {};
    const cuts = this.junctions.map(({ cut }) => cut);
    const decisions = await routing.decide(
      start,
      cuts.map(({ layer }) => layer),
    );
    if (decisions.length !== cuts.length)
      throw new Error(`${decisions.length} decisions were supplied for ${cuts.length} layers`);
    const supplied: Record<string, TensorData> = {};
    cuts.forEach(({ site }, index) => {
      supplied[`routing.${site}.experts`] = decisions[index].experts;
      supplied[`routing.${site}.gates`] = decisions[index].gates;
    });
    return supplied;
  }
}

/** Joins stages by buffers. What a stage makes is kept until the last stage that reads it has run. */
function join(
  drafts: readonly Draft[],
  cuts: readonly RoutedCut[],
  isWeight: (feed: string) => boolean,
): { compiled: CompiledStage[]; junctions: Junction[] } {
  const lastReader = new Map<string, number>();
  drafts.forEach(({ program }, index) => {
    for (const feed of program.feedNames) lastReader.set(feed, index);
  });
  const buffers = new JointBuffers();
  const tensors = new Map<string, Tensor>();
  const compiled: CompiledStage[] = [];
  const junctions: Junction[] = [];
  for (const [index, { program, joints, outputs }] of drafts.entries()) {
    const read = program.feedNames.filter((feed) => buffers.get(feed));
    for (const feed of read) program.bind({ [feed]: buffers.get(feed)! });
    for (const [name, tensor] of joints) {
      tensors.set(name, tensor);
      program.bindOutput(name, buffers.take(name, tensor));
    }
    const feeds = program.feedNames.filter((feed) => !isWeight(feed) && !read.includes(feed));
    compiled.push({ program, feeds, outputs });
    for (const feed of read) if (lastReader.get(feed) === index) buffers.giveBack(feed, tensors.get(feed)!);
    const cut = cuts.at(index);
    if (!cut) continue;
    const placeholder = `experts.${cut.site}`;
    tensors.set(placeholder, cut.placeholder);
    const need = (name: string): TensorData | undefined => buffers.get(`${index}.${name}`);
    junctions.push({
      cut,
      rows: need('rows') as Float32Array,
      experts: need('experts') as Int32Array,
      gates: need('gates') as Float32Array,
      ahead: need('ahead') as Int32Array | undefined,
      combined: buffers.take(placeholder, cut.placeholder) as Float32Array,
    });
    // Decisions stay: who observes them may keep them until the pass is over.
    buffers.giveBack(`${index}.rows`, joints.get(`${index}.rows`)!);
  }
  return { compiled, junctions };
}

/** Shapes of all inputs that tensors depend on, by name. */
function shapesOf(tensors: readonly Tensor[]): Map<string, readonly number[]> {
  const leaves = topologicalOrder(tensors).flatMap(({ outputs }) => outputs);
  return new Map(
    leaves.flatMap((leaf) => {
      const name = inputName(leaf);
      return name === undefined ? [] : [[name, leaf.shape as number[]] as const];
    }),
  );
}
