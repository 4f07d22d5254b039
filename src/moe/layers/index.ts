/**
 * What can stand where the dense feed-forward network stood, by the `kind` under which recipes name it.
 * @module
 */
import { kindUnion } from '../kind.js';
import { experts } from './experts.js';

/** All kinds of sparse layers. */
export const layerKinds = [experts] as const;

/** Options of sparse layers by `kind`. */
export const layerSchema = kindUnion(layerKinds);
