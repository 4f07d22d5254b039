/**
 * A conversation with a chat model, by its own template.
 * @module
 */
import { createInterface } from 'node:readline/promises';
import { ChatTemplate, type ChatMessage } from '../data/index.js';
import type { FinishReason, GenerationOptions } from '../decode/index.js';
import type { OpenWriter } from './open-writer.js';

/** One answer. */
export interface Answer {
  readonly text: string;
  readonly tokens: number;
  readonly reason: FinishReason;
}

/** A conversation that grows by what is said and answered. */
export class Conversation {
  private readonly template: ChatTemplate;
  private readonly messages: ChatMessage[];

  /** @throws Error if the model has no chat template. */
  constructor(
    private readonly writer: OpenWriter,
    private readonly options: GenerationOptions,
    system?: string,
  ) {
    this.template = ChatTemplate.open(writer.folder);
    this.messages = system === undefined ? [] : [{ role: 'system', content: system }];
  }

  /** Says something and waits for the answer, whose pieces are told as they come. */
  async say(content: string, onText: (piece: string) => void): Promise<Answer> {
    const asked: ChatMessage[] = [...this.messages, { role: 'user', content }];
    // The template writes the tokens that begin a text itself.
    const prompt = this.writer.tokenizer.encode(this.template.render(asked));
    let text = '';
    let tokens = 0;
    let reason: FinishReason = 'length';
    for await (const event of this.writer.generator.stream([prompt], this.options)) {
      text += event.text ?? '';
      onText(event.text ?? '');
      if (event.kind === 'end') reason = event.reason;
      else tokens++;
    }
    this.messages.push(...asked.slice(this.messages.length), { role: 'assistant', content: text });
    return { text, tokens, reason };
  }
}

/** Answers every line of stdin until it ends. Empty lines are passed over. */
export async function converse(conversation: Conversation): Promise<void> {
  const terminal = process.stdin.isTTY;
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
  const ask = (): void => void (terminal && process.stderr.write('> '));
  ask();
  for await (const line of lines) {
    if (line.trim() !== '') {
      await conversation.say(line, (piece) => process.stdout.write(piece));
      process.stdout.write('\n');
    }
    ask();
  }
}
