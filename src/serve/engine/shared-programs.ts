/**
 * Programs that differ only in the names of what they are fed, over one session.
 * @module
 */
import { createHash } from 'node:crypto';
import { input, inputName, rewrite, type Tensor } from '../../graph/index.js';
import { compile, encodeModel, lower, type Program, type RuntimeOptions } from '../../runtime/index.js';

/**
 * Compiles graphs; those that are equal but for the names of feeds and outputs share a session. The layers of a model are:
 * a pass over sixteen of them needs few sessions instead of seventeen, each with its threads.
 */
export class SharedPrograms {
  private readonly compiled = new Map<string, Promise<Program>>();

  constructor(private readonly runtime: RuntimeOptions = {}) {}

  /** Compiles a graph unless one like it is there. */
  async open(outputs: Readonly<Record<string, Tensor>>): Promise<Program> {
    const feeds: Record<string, string> = {};
    const renamed = rewrite(outputs, ({ outputs: [tensor] }) => {
      const name = inputName(tensor);
      if (name === undefined) return undefined;
      const feed = `feed${Object.keys(feeds).length}`;
      feeds[feed] = name;
      return [input(feed, tensor.dtype, tensor.shape)];
    });
    const named = Object.entries(renamed).map(([name, tensor], index) => ({
      name,
      tensor,
      output: `output${index}`,
    }));
    const graph = Object.fromEntries(named.map(({ output, tensor }) => [output, tensor]));
    const key = createHash('sha256')
      .update(encodeModel(lower(graph).graph))
      .digest('base64');
    const made = this.compiled.get(key) ?? compile(graph, this.runtime);
    this.compiled.set(key, made);
    made.catch(() => this.compiled.delete(key));
    return (await made).share(feeds, Object.fromEntries(named.map(({ output, name }) => [output, name])));
  }

  /** Sessions that are open. */
  get size(): number {
    return this.compiled.size;
  }

  /** Frees all sessions whose programs are released. */
  async release(): Promise<void> {
    const programs = await Promise.all(this.compiled.values());
    this.compiled.clear();
    for (const program of programs) await program.release();
  }
}
