/**
 * What can stand where the dense feed-forward network stood, by the `kind` under which recipes name it.
 * @module
 */
import { kindUnion } from '../kind.js';
import { experts } from './experts.js';
import { productKey } from './product-key-memory.js';
import { stratified } from './stratified.js';
import { topKActivation } from './top-k-activation.js';

/** All kinds of sparse layers. */
export const layerKinds = [experts, stratified, topKActivation, productKey] as const;

/** Options of sparse layers by `kind`. */
export const layerSchema = kindUnion(layerKinds);
