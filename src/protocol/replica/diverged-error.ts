import { JitPaxosError } from '../../errors.js';

export type DivergenceCode = 'log-diverged' | 'state-diverged' | 'limits-differ';

/** This replica is in the wrong, according to f + 1 others. Its host stops it. */
export class DivergedError extends JitPaxosError {
  override readonly name = 'DivergedError';
  declare readonly code: DivergenceCode;
  constructor(code: DivergenceCode, message: string) {
    super(code, message);
  }
}

/** The end of such a message: what happens now. */
export const OTHERS_GO_ON =
  'the others go on; docs/operate/operations.md, "A replica that diverged", says how to bring it back';
