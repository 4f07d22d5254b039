/**
 * The routers by the `kind` under which recipes name them. A new router is one file and one line here, or in
 * `plain.ts` where it looks at the hidden state alone.
 * @module
 */
import { kindUnion } from '../kind.js';
import { adaptiveClustering } from './adaptive-clustering.js';
import { expertChoice } from './expert-choice.js';
import { hash } from './hash.js';
import { plainRouterKinds } from './plain.js';
import { random } from './random.js';

/** All routers. */
export const routerKinds = [...plainRouterKinds, expertChoice, hash, random, adaptiveClustering] as const;

/** Router options by `kind`. */
export const routerSchema = kindUnion(routerKinds);
