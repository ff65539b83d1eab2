/**
 * Checks logins. A password's hash is dear to compute, and whoever reaches the port may ask for it.
 *
 * The rule: guessing is slow and cheap for the server. Few hashes are computed at once, few logins wait, and an address
 * that failed often has to wait. A password that was right before is recognized by a digest under a key that only this
 * process has, so that thousands of connections that come back cost nothing.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { isPassword, PASSWORD_BYTES_MAX, type User, type Users } from './users.js';

/** Hashes at once: two of the four threads that Node has for such work. */
const CHECKS_MAX = 2;
/** Logins that wait for that. */
const WAITING_MAX = 1000;
/** Failures that an address has at once, and after how long it has one more. */
const FAILURES_MAX = 10;
const FAILURE_MS = 1000;
/** Addresses with failures that are remembered, and passwords that were right. */
const REMEMBERED_MAX = 10_000;

/** `busy`, `too-often`: nothing was checked. */
export type Login = User | 'wrong' | 'busy' | 'too-often';

export class Logins {
  private readonly key = randomBytes(32);
  /** By name: the digest of the password that was right. */
  private readonly right = new Map<string, string>();
  /** By address: how many failures it has left, and when that was. */
  private readonly failures = new Map<string, { left: number; atMs: number }>();
  private checking = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private users: Users,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** The file was read again. */
  replace(users: Users): void {
    this.users = users;
    this.right.clear();
  }

  /** The user as the file has it now; undefined: it was removed. */
  find(name: string): User | undefined {
    return this.users.get(name);
  }

  /**
   * @param password a byte a character
   * @param address the client's, without its port
   */
  async check(name: string, password: string, address: string): Promise<Login> {
    const user = this.users.get(name);
    if (password.length > PASSWORD_BYTES_MAX) return this.failed(address);
    const digest = createHmac('sha256', this.key)
      .update(`${name.length} ${name}${password}`, 'latin1')
      .digest('base64');
    if (user !== undefined && this.right.get(name) === digest) return user;
    if (!this.mayFail(address)) return 'too-often';
    if (this.checking >= CHECKS_MAX) {
      if (this.waiting.length >= WAITING_MAX) return 'busy';
      await new Promise<void>((resolve) => this.waiting.push(resolve));
      // Others from there may have failed meanwhile.
      if (!this.mayFail(address)) {
        this.waiting.shift()?.();
        return 'too-often';
      }
    }
    this.checking++;
    let isRight: boolean;
    try {
      isRight = await isPassword(user, password);
    } finally {
      this.checking--;
      this.waiting.shift()?.();
    }
    if (!isRight) return this.failed(address);
    // It may have been changed or removed while the hash was computed.
    if (this.users.get(name) !== user) return 'busy';
    if (this.right.size >= REMEMBERED_MAX) this.right.clear();
    this.right.set(name, digest);
    return user!;
  }

  private mayFail(address: string): boolean {
    const known = this.failures.get(address);
    return known === undefined || known.left + (this.nowMs() - known.atMs) / FAILURE_MS >= 1;
  }

  private failed(address: string): 'wrong' {
    const atMs = this.nowMs();
    const known = this.failures.get(address);
    const left =
      known === undefined ? FAILURES_MAX : Math.min(FAILURES_MAX, known.left + (atMs - known.atMs) / FAILURE_MS);
    this.failures.delete(address);
    if (this.failures.size >= REMEMBERED_MAX) this.failures.delete(this.failures.keys().next().value!);
    this.failures.set(address, { left: left - 1, atMs });
    return 'wrong';
  }
}
