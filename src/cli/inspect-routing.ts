/**
 * `switchyard inspect RUN --routing "text"`: the path of every token through the experts.
 * @module
 */
import { batchesOfRows, displayToken, RoutingTracer, tokenTexts, type LayerTrace } from '../analyze/index.js';
import { loadLanguageModel } from '../train/index.js';

/** Paths of the tokens of one text, as serving stacks record them. */
export interface RoutingPaths {
  readonly tokens: readonly string[];
  readonly ids: readonly number[];
  /** The last three axes of the arrays below: one entry a layer, or a stratum where a layer has several. */
  readonly layers: readonly { readonly name: string; readonly numExperts: number; readonly topK: number }[];
  /** `[tokens, layers, topK]` */
  readonly shape: readonly [number, number, number];
  /** Chosen experts, best first; −1 is no choice, and fills layers that choose fewer than others. */
  readonly experts: readonly (readonly (readonly number[])[])[];
  /** Weights of the choices; 0 where there is none. */
  readonly gates: readonly (readonly (readonly number[])[])[];
}

/**
 * Routes a text through a model.
 * @throws RangeError for a text without tokens or longer than the model's context, and for a model without records.
 */
export async function routingPaths(path: string, text: string): Promise<RoutingPaths> {
  const { model, weights, tokenizer, warnings } = await loadLanguageModel(path);
  for (const line of warnings) process.stderr.write(`warning: ${line}\n`);
  const ids = tokenizer.encode(text);
  const { contextLength } = model.options;
  if (ids.length === 0) throw new RangeError('--routing: the text has no token');
  if (ids.length > contextLength) {
    throw new RangeError(
      `--routing: the text has ${ids.length} tokens, and the model looks at ${contextLength} at once: give a shorter one`,
    );
  }
  const shape = { batchSize: 1, contextLength: ids.length };
  const tracer = await RoutingTracer.create(model, weights, shape);
  try {
    if (tracer.layers.length === 0) {
      throw new RangeError(
        `${path}: no layer of this model records where its tokens go (${model.options.sparse?.kind ?? 'it is dense'})`,
      );
    }
    const trace = await tracer.trace(batchesOfRows([ids], shape));
    return pathsOf(trace, tokenTexts(tokenizer, ids).map(displayToken));
  } finally {
    await tracer.release();
  }
}

/** What {@link pathsOf} reads of a trace. */
interface RoutedTokens {
  readonly tokens: Int32Array;
  readonly layers: readonly Pick<LayerTrace, 'name' | 'numExperts' | 'topK' | 'experts' | 'gates'>[];
}

/** Decisions about one text as they are printed. */
export function pathsOf({ tokens: ids, layers }: RoutedTokens, tokens: readonly string[]): RoutingPaths {
  const most = Math.max(...layers.map(({ topK }) => topK));
  const of = (
    value: (layer: (typeof layers)[number], choice: number) => number,
    absent: number,
  ): number[][][] =>
    tokens.map((_, token) =>
      layers.map((layer) =>
        Array.from({ length: most }, (_k, k) => {
          const choice = token * layer.topK + k;
          return k < layer.topK && layer.experts[choice] >= 0 ? value(layer, choice) : absent;
        }),
      ),
    );
  return {
    tokens,
    ids: [...ids],
    layers: layers.map(({ name, numExperts, topK }) => ({ name, numExperts, topK })),
    shape: [tokens.length, layers.length, most],
    experts: of(({ experts }, choice) => experts[choice], -1),
    gates: of(({ gates }, choice) => gates[choice], 0),
  };
}

/** Columns that a text takes in a terminal: wide and emoji characters two, combining marks none. */
function columnsOf(text: string): number {
  return Array.from(text).reduce((sum, character) => {
    if (/\p{M}/u.test(character)) return sum;
    return (
      sum +
      (/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]|\p{Emoji_Presentation}/u.test(
        character,
      )
        ? 2
        : 1)
    );
  }, 0);
}

/** The paths as a table: a row a token, a column a layer, and in each cell its experts with their weights. */
export function drawPaths({ tokens, layers, experts, gates }: RoutingPaths): string {
  const cells = tokens.map((token, t) => [
    token,
    ...layers.map((_, l) => {
      const chosen = experts[t][l].flatMap((expert, k) =>
        expert < 0 ? [] : [`${expert} (${gates[t][l][k].toFixed(2)})`],
      );
      return chosen.length === 0 ? '·' : chosen.join('  ');
    }),
  ]);
  const head = ['token', ...layers.map(({ name }) => `layer ${name}`)];
  const widths = head.map((title, column) =>
    Math.max(...[title, ...cells.map((row) => row[column])].map(columnsOf)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((text, column) => text + ' '.repeat(widths[column] - columnsOf(text)))
      .join('   ')
      .trimEnd();
  return [line(head), ...cells.map(line)].join('\n');
}

/** Prints the paths of a text as a table, or as one JSON object. */
export async function inspectRouting(
  path: string,
  text: string,
  { json, set = [] }: { readonly json?: boolean; readonly set?: readonly string[] },
): Promise<void> {
  if (set.length > 0) throw new Error(`--set changes recipes; --routing needs a trained run or model`);
  const paths = await routingPaths(path, text);
  process.stdout.write(`${json ? JSON.stringify(paths) : drawPaths(paths)}\n`);
}
