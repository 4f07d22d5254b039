/**
 * Load for servers.
 * @module
 */
export { measureServer, type LoadOptions, type LoadReport, type Percentiles } from './measure-server.js';
