/** Lines at the bottom of a terminal, redrawn in place. Draws nothing if there is no terminal. */
import type { Output } from './command.js';
import { cut } from './terminal.js';

const CLEAR_LINE = '\x1b[2K';
const CLEAR_BELOW = '\x1b[J';
const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';

export class LiveFrame {
  /** There is a terminal: draw if this is true, otherwise print lines now and then. */
  readonly live: boolean;
  private drawn = 0;
  private hidden = false;
  private readonly showCursor = (): void => void process.stdout.write(SHOW_CURSOR);

  constructor(output: Pick<Output, 'terminal' | 'quiet' | 'json'>) {
    this.live = output.terminal && !output.quiet && !output.json;
  }

  draw(lines: readonly string[]): void {
    if (!this.live) return;
    if (!this.hidden) {
      this.hidden = true;
      process.stdout.write(HIDE_CURSOR);
      process.once('exit', this.showCursor);
    }
    const columns = process.stdout.columns || 80; // a pseudo-terminal may say 0
    const up = this.drawn > 0 ? `\x1b[${this.drawn}A` : '';
    process.stdout.write(up + lines.map((line) => `${CLEAR_LINE}${cut(line, columns - 1)}\n`).join('') + CLEAR_BELOW);
    this.drawn = lines.length;
  }

  /** Leaves the last drawing on the screen and restores the cursor. */
  end(): void {
    if (!this.hidden) return;
    this.hidden = false;
    this.drawn = 0;
    process.removeListener('exit', this.showCursor);
    process.stdout.write(`${SHOW_CURSOR}\n`);
  }
}
