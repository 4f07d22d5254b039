/**
 * The routers by the `kind` under which recipes name them. A new router is one file and one line here.
 * @module
 */
import { kindUnion } from '../kind.js';
import { softmaxTopK } from './softmax-top-k.js';

/** All routers. */
export const routerKinds = [softmaxTopK] as const;

/** Router options by `kind`. */
export const routerSchema = kindUnion(routerKinds);
