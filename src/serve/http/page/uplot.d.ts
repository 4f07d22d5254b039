/** The server gives uPlot's own file by this name: a browser knows no packages. */
export { default } from 'uplot';
