/**
 * Asks the model, and shows which experts read each token.
 * @module
 */
import { byId, make, percent } from './elements.js';
import type { ExpertGrid } from './expert-grid.js';
import { ask, eventsOf } from './server.js';
import type { ClassifyAnswer, CompletionChunk, ModelInfo, Routing } from './wire.js';

/** A token on the page. */
interface ShownToken {
  readonly text: string;
  readonly isPrompt: boolean;
  readonly probability: number | undefined;
  /** Experts of the pass that read it; absent for the last one, which no pass has read. */
  routing?: Routing;
  readonly element: HTMLElement;
}

/** The form and its answer. */
export class PromptPanel {
  private readonly form = byId<HTMLFormElement>('ask');
  private readonly button = byId<HTMLButtonElement>('ask-button');
  private readonly output = byId('answer');
  private readonly told = byId('answer-told');
  private readonly note = byId('answer-note');
  private model: ModelInfo | undefined;
  private tokens: ShownToken[] = [];
  private running: AbortController | undefined;

  /** @param failed told what went wrong */
  constructor(
    private readonly grid: ExpertGrid,
    private readonly failed: (error: unknown) => void,
  ) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.running) this.running.abort();
      else void this.perform();
    });
    for (const name of ['pointerover', 'focusin'] as const)
      this.output.addEventListener(name, (event) =>
        this.show(this.tokens.find(({ element }) => element === event.target)),
      );
    for (const name of ['pointerleave', 'focusout'] as const)
      this.output.addEventListener(name, () => this.show(undefined));
    this.output.addEventListener('keydown', (event) => this.move(event));
  }

  /** The model that is asked. */
  setModel(model: ModelInfo): void {
    this.model = model;
    const writes = model.tasks.includes('generate');
    byId('ask-options').hidden = !writes;
    this.button.textContent = writes ? 'Write' : 'Classify';
    byId('ask-section').hidden = !writes && !model.tasks.includes('classify');
  }

  private async perform(): Promise<void> {
    this.running = new AbortController();
    const label = this.button.textContent;
    this.button.textContent = 'Stop';
    this.output.replaceChildren();
    this.tokens = [];
    this.show(undefined);
    try {
      if (this.model?.tasks.includes('generate')) await this.write(this.running.signal);
      else await this.classify(this.running.signal);
    } catch (error) {
      if (!this.running.signal.aborted) this.failed(error);
    } finally {
      this.running = undefined;
      this.button.textContent = label;
    }
  }

  private async write(signal: AbortSignal): Promise<void> {
    const form = new FormData(this.form);
    const echo = this.model?.kind !== 'encoderDecoder';
    const started = performance.now();
    const answer = await ask(
      '/v1/completions',
      {
        prompt: form.get('prompt'),
        max_tokens: Number(form.get('tokens')),
        temperature: Number(form.get('temperature')),
        ...{ stream: true, logprobs: 0, echo },
        switchyard: { routed_experts: true },
      },
      signal,
    );
    let count = 0;
    for await (const { data } of eventsOf(answer)) {
      if (data === '[DONE]') break;
      const { error, choices, switchyard } = JSON.parse(data) as CompletionChunk;
      if (error) throw new Error(error.message);
      for (const { logprobs, switchyard: told, finish_reason: reason } of choices) {
        const isPrompt = echo && this.tokens.length === 0;
        const routings = told?.routed_experts ?? [];
        for (const [i, text] of (logprobs?.tokens ?? []).entries()) {
          // What is told with a token is the pass that chose it, which read the token before it.
          const before = this.tokens.at(-1);
          if (!isPrompt && before) before.routing = routings[i];
          this.add(text, isPrompt, logprobs!.token_logprobs[i]);
          if (!isPrompt) count++;
        }
        const seconds = (performance.now() - started) / 1000;
        this.note.textContent = `${count} tokens in ${seconds.toFixed(1)} s${reason === null ? '' : `, ended by ${reason}`}`;
      }
      const prompt = switchyard?.prompts?.[0]?.routed_experts ?? [];
      if (echo) for (const [i, routing] of prompt.entries()) this.tokens[i].routing = routing;
    }
  }

  private async classify(signal: AbortSignal): Promise<void> {
    const input = new FormData(this.form).get('prompt');
    const body = { input, switchyard: { routed_experts: true } };
    const answer = (await (await ask('/classify', body, signal)).json()) as ClassifyAnswer;
    const [{ label, probs, switchyard }] = answer.data;
    this.note.textContent = `${label}: ${probs.map((share) => percent(share)).join(', ')}`;
    for (const [i, routing] of (switchyard?.routed_experts ?? []).entries()) {
      this.add(`${i} `, true, null);
      this.tokens[i].routing = routing;
    }
  }

  private add(text: string, isPrompt: boolean, logProbability: number | null): void {
    const element = make('span', visible(text), isPrompt ? 'token prompt' : 'token');
    element.tabIndex = this.tokens.length === 0 ? 0 : -1;
    const probability = logProbability === null ? undefined : Math.exp(logProbability);
    this.tokens.push({ text, isPrompt, probability, element });
    this.output.append(element);
  }

  private show(token: ShownToken | undefined): void {
    this.grid.highlight(token?.routing);
    for (const { element } of this.tokens) element.classList.toggle('shown', element === token?.element);
    if (!token) return void (this.told.textContent = '');
    const { routing, probability, text } = token;
    const chance = probability === undefined ? '' : ` (probability ${percent(probability)})`;
    const layers = this.model?.routedLayers ?? [];
    const experts = routing
      ? layers
          .map(({ name }, i) => `layer ${name}: ${routing[i].filter((id) => id >= 0).join(', ')}`)
          .join(' · ')
      : 'no pass has read it';
    this.told.textContent = `${JSON.stringify(text)}${chance} — ${experts}`;
  }

  private move(event: KeyboardEvent): void {
    const at = this.tokens.findIndex(({ element }) => element === document.activeElement);
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const next = this.tokens[Math.max(0, Math.min(this.tokens.length - 1, at + step))].element;
    this.tokens[at].element.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

/** A token's text; ends of lines stay and can be seen. */
function visible(text: string): string {
  return text.replaceAll('\n', '⏎\n');
}
