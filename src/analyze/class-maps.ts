/**
 * Token class × expert maps of every layer: by language, script and kind of character.
 * @module
 */
import type { RoutingTrace } from './routing-trace.js';
import { SpecializationTable } from './specialization.js';
import { characterClasses, characterClassOf, scriptClasses, scriptOf } from './token-classes.js';

/** Maps of one way to class tokens. */
export interface ClassMaps {
  readonly kind: 'language' | 'script' | 'character';
  /** Classes that occur. */
  readonly classes: readonly string[];
  readonly layers: readonly {
    readonly layer: string;
    /** Choices `[classes][numExperts]`. */
    readonly counts: readonly (readonly number[])[];
    /** 0: experts ignore the class; 1: one tells the other. */
    readonly mutualInformation: number;
  }[];
}

/**
 * By language where the data knows it, by script, and by kind of character.
 * @param texts what each token of the trace says
 * @param languageNames names of the language ids in the trace
 */
export function classMaps(
  trace: RoutingTrace,
  texts: readonly string[],
  languageNames: readonly string[] = [],
): ClassMaps[] {
  const byText = (names: readonly string[], classOf: (text: string) => string): number[] =>
    texts.map((text) => names.indexOf(classOf(text)));
  return [
    ...(trace.languages && languageNames.length > 0
      ? [mapsOf('language', languageNames, trace.languages, trace)]
      : []),
    mapsOf('script', scriptClasses, byText(scriptClasses, scriptOf), trace),
    mapsOf('character', characterClasses, byText(characterClasses, characterClassOf), trace),
  ];
}

function mapsOf(
  kind: ClassMaps['kind'],
  names: readonly string[],
  classOf: ArrayLike<number>,
  { layers }: RoutingTrace,
): ClassMaps {
  const present = names.map((_, i) => i).filter((i) => Array.prototype.includes.call(classOf, i));
  const index = new Map(present.map((original, i) => [original, i]));
  const compact = Array.from(classOf, (original) => index.get(original)!);
  const classes = present.map((i) => names[i]);
  return {
    kind,
    classes,
    layers: layers.map(({ name, numExperts, experts }) => {
      const table = new SpecializationTable(name, classes, numExperts);
      table.add(compact, experts);
      return { layer: name, counts: table.counts, mutualInformation: table.mutualInformation() };
    }),
  };
}
