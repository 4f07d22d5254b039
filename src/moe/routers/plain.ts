/**
 * Routers that look at the hidden state alone, so that another router can stand in front of them and change what they
 * see. A new router of this sort is one file and one line here.
 * @module
 */
import { kindUnion } from '../kind.js';
import { biasBalanced } from './bias-balanced.js';
import { noisyTopK } from './noisy-top-k.js';
import { sigmoidTopK } from './sigmoid.js';
import { sBase } from './sinkhorn.js';
import { softmaxTopK } from './softmax-top-k.js';

/** Routers that others may wrap. */
export const plainRouterKinds = [softmaxTopK, sigmoidTopK, noisyTopK, sBase, biasBalanced] as const;

/** Options of plain routers by `kind`. */
export const plainRouterSchema = kindUnion(plainRouterKinds);
