/**
 * What routers and experts do.
 * @module
 */
export { SpecializationTable } from './specialization.js';
