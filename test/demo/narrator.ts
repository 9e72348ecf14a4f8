/** Writes the demo's story: numbered steps, explanations, commands and their output. */
export class Narrator {
  readonly #out: NodeJS.WriteStream;
  readonly #startedAt = performance.now();
  #step = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  step(title: string): void {
    this.#step += 1;
    this.#line('');
    this.#line(this.#style('1', `${this.#step}. ${title}`));
  }

  say(text: string): void {
    for (const line of text.split('\n')) this.#line(`   ${line}`);
  }

  command(text: string): void {
    this.#line(`   ${this.#style('36', `$ ${text}`)}`);
  }

  /** A program's output, as it came. */
  output(text: string): void {
    for (const line of text.replace(/\n$/, '').split('\n')) {
      this.#line(`   ${this.#style('2', '|')} ${line}`);
    }
  }

  check(text: string): void {
    this.#line(`   ${this.#style('32', '✔')} ${text}`);
  }

  blank(): void {
    this.#line('');
  }

  get seconds(): string {
    return ((performance.now() - this.#startedAt) / 1_000).toFixed(1);
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }

  #style(code: string, text: string): string {
    const hasColours = this.#out.isTTY && process.env['NO_COLOR'] === undefined;
    return hasColours ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}
